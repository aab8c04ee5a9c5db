"""The CPU's mode of floating-point arithmetic, which any library in the process may have changed.

Each thread has one. Flushing subnormal numbers to zero, or another direction of rounding, changes
bits: compiled code that computes runs in IEEE's mode, and leaves the thread's own mode behind.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastmlp_kernels.compiling.cpu import architecture
from fastmlp_kernels.compiling.jit import jit

_ARM64 = architecture() == "aarch64"
_X86 = architecture() == "x86_64"
# The bits that change results, all 0 in IEEE's mode. x86, MXCSR: subnormal operands as zeros (6),
# rounding (13, 14), subnormal results to zero (15). ARM64, FPCR: FIZ and AH (0, 1), rounding
# (22, 23), FZ (24).
CHANGES_BITS = 0x1C00003 if _ARM64 else 0xE040


def _register(builder, name, slot):
    pointer = ir.IntType(8).as_pointer()
    function_type = ir.FunctionType(ir.VoidType(), [pointer])
    function = builder.module.declare_intrinsic(f"llvm.x86.sse.{name}", (), function_type)
    builder.call(function, [builder.bitcast(slot, pointer)])


@intrinsic
def get_mode(typing_context):
    """Return the register that holds this thread's mode, an int64; 0 on other CPUs."""

    def codegen(context, builder, signature, arguments):
        if _X86:
            slot = cgutils.alloca_once(builder, ir.IntType(32))
            _register(builder, "stmxcsr", slot)
            return builder.zext(builder.load(slot), ir.IntType(64))
        if _ARM64:
            function_type = ir.FunctionType(ir.IntType(64), [])
            name = "llvm.aarch64.get.fpcr"
            return builder.call(builder.module.declare_intrinsic(name, (), function_type), [])
        return ir.IntType(64)(0)

    return types.int64(), codegen


@intrinsic
def set_mode(typing_context, mode):
    """Write the register that holds this thread's mode."""

    def codegen(context, builder, signature, arguments):
        if _X86:
            slot = cgutils.alloca_once_value(builder, builder.trunc(*arguments, ir.IntType(32)))
            _register(builder, "ldmxcsr", slot)
        elif _ARM64:
            function_type = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
            name = "llvm.aarch64.set.fpcr"
            builder.call(builder.module.declare_intrinsic(name, (), function_type), arguments)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def _stay_a_call(typing_context):
    """Keep LLVM from moving the function that this stands in into its caller."""

    def codegen(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


def in_ieee_mode(function):
    """Compile `function`, which returns nothing, as `jit` does; it runs in IEEE's mode.

    Where the thread has that mode already, it costs a read of the register, about 10 ns.
    """
    body = jit(function)

    # LLVM takes arithmetic for independent of the mode: inlined into a loop over threads, the
    # rounding of a constant argument was moved out of it, to where the mode isn't set yet.
    def compiled(*arguments):
        _stay_a_call()
        body(*arguments)

    compiled = jit(_named(compiled, function))

    def guarded(*arguments):
        mode = get_mode()
        if mode & CHANGES_BITS:
            set_mode(mode & ~CHANGES_BITS)
        compiled(*arguments)
        if mode & CHANGES_BITS:
            set_mode(mode)

    return jit(_named(guarded, function))


def _named(inner, function):
    """Give a function inside of another machine code of its own name.

    Kernels that two processes had compiled called the same `compiled` in a third one: log gave exp.
    """
    inner.__module__ = function.__module__
    inner.__qualname__ = f"{function.__qualname__}.{inner.__name__}"
    return inner

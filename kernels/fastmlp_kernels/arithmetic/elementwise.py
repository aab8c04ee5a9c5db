"""Loops of long chains over elements, with more of them under way than LLVM chooses by itself.

exp and log are chains of 50 cycles and more for each vector. One vector after the other fills the
CPU's queues before its FMA units: four side by side took 0.86 of the time in float32 and 0.8 in
float64.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

from fastmlp_kernels.arithmetic.lanes import LANES

VECTORS = 4


def _interleave(builder, latch, *wishes):
    """Ask LLVM's vectoriser for VECTORS vectors in each turn of the loop with this last branch."""
    module, number = builder.module, ir.IntType(32)
    wishes = [["llvm.loop.interleave.count", number(VECTORS)], *wishes]
    wishes = [module.add_metadata(wish) for wish in wishes]
    # What is known of a loop is a node that names itself first, so it has to be made in two steps.
    loop = module.add_metadata([f"loop {len(module.metadata)}", *wishes])
    loop.operands = (loop, *wishes)
    latch.set_metadata("llvm.loop", loop)


def _inline(block):
    """Have LLVM inline what a block calls, however long: a loop with calls is no vector code."""
    for instruction in block.instructions:
        if isinstance(instruction, ir.CallInstr):
            instruction.attributes.add("alwaysinline")


def _resolved(typing_context, function, real):
    """The type of a function that jitted code can call, and of its call with a scalar."""
    kind = typing_context.resolve_value_type(function)
    return kind, kind.get_call_type(typing_context, (real,), {})


def elementwise(function):
    """Return f(x, out) for jitted code: out[i] = function(x[i]) for each element.

    x and out: 1-D, contiguous, of one size and dtype, and not the same memory.
    """

    @intrinsic
    def loop_over(typing_context, x, out):
        if (x.ndim, x.layout, out.ndim, out.layout, out.dtype) != (1, "C", 1, "C", x.dtype):
            raise TypingError(f"expected two contiguous 1-D arrays of one dtype, got {x}, {out}")
        called = _resolved(typing_context, function, x.dtype)

        def codegen(context, builder, signature, arguments):
            call = context.get_function(*called)
            source, target = (
                context.make_array(kind)(context, builder, array)
                for kind, array in zip(signature.args, arguments, strict=True)
            )
            with cgutils.for_range(builder, builder.extract_value(source.shape, 0)) as loop:
                value = builder.load(builder.gep(source.data, [loop.index]))
                builder.store(call(builder, [value]), builder.gep(target.data, [loop.index]))
                end = builder.block
            _interleave(builder, end.terminator)
            return context.get_dummy_value()

        return types.void(x, out), codegen

    return loop_over


def _call_on_lanes(builder, call, values, count):
    """Emit call(builder, [x]) -> `count` scalars for each of 16 lanes; return vectors of them."""
    with builder.goto_entry_block():  # Numba's own alloca_once would fill them with zeros each time
        places = [builder.alloca(values.type) for _ in range(1 + count)]
    builder.store(values, places[0])
    x, *results = (builder.bitcast(place, values.type.element.as_pointer()) for place in places)
    with cgutils.for_range(builder, cgutils.intp_t(LANES)) as loop:
        element = builder.load(builder.gep(x, [loop.index]))
        body = builder.block
        found = call(builder, [element])
        _inline(body)
        found = [found] if count == 1 else cgutils.unpack_tuple(builder, found)
        for target, value in zip(results, found, strict=True):
            builder.store(value, builder.gep(target, [loop.index]))
        end = builder.block
    # Unrolled, a loop of 16 is straight code before the vectoriser sees it.
    _interleave(builder, end.terminator, ["llvm.loop.unroll.disable"])
    return [builder.load(place) for place in places[1:]]


def on_lanes(function):
    """Return f(values) for jitted code: a jitted function f(x) of each of 16 lanes."""

    @intrinsic
    def of_lanes(typing_context, values):
        called = _resolved(typing_context, function, values.real)

        def codegen(context, builder, signature, arguments):
            return _call_on_lanes(builder, context.get_function(*called), arguments[0], 1)[0]

        return values(values), codegen

    return of_lanes


def pairs_on_lanes(functions):
    """Return f(name, values) for jitted code: the two results of a jitted function of this name.

    functions: by name, each f(x) -> two scalars of x's dtype; values: 16 lanes, see lanes.py.
    """

    @intrinsic(prefer_literal=True)
    def of_lanes(typing_context, name, values):
        called = _resolved(typing_context, functions[name.literal_value], values.real)

        def codegen(context, builder, signature, arguments):
            pair = _call_on_lanes(builder, context.get_function(*called), arguments[1], 2)
            return context.make_tuple(builder, signature.return_type, pair)

        return types.UniTuple(values, 2)(name, values), codegen

    return of_lanes

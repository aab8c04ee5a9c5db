"""A compiled C function as machine code that needs nothing of Numba's: see stored.py."""

from typing import Any

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

from fastmlp_kernels.compiling.stored import PYTHON

# What the code may call: of the C library, and what LLVM turns into instructions or calls these.
CALLED = {
    *("memcpy", "memmove", "memset", "sched_yield", "sqrt", "sqrtf"),
    *PYTHON,
}
INTRINSICS = (
    *("abs", "assume", "bitreverse", "bswap", "copysign", "ctlz", "ctpop", "cttz", "fabs", "fma"),
    *("fshl", "fshr", "lifetime", "masked", "memcpy", "memmove", "memset", "prefetch", "smax"),
    *("smin", "sqrt", "trap", "umax", "umin", "usub", "uadd", "sadd", "ssub", "umul", "smul"),
    *("is", "vector", "x86", "aarch64"),
)
_FREES = "NRT_MemInfo_call_dtor"


# What code raises where nobody can catch it is told, as Numba's own C functions do.
_ENTRY = """
declare i32 @PyGILState_Ensure()
declare void @PyErr_BadInternalCall()
declare void @PyErr_WriteUnraisable(ptr)
declare void @PyGILState_Release(i32)
declare i32 @"NAME"(KINDS)

define void @"SYMBOL"(PASSED) {
  %result = alloca ptr
  %raised = alloca ptr
  store ptr null, ptr %raised
  %status = call i32 @"NAME"(ptr %result, ptr %raised, PASSED)
  %fine = icmp eq i32 %status, 0
  br i1 %fine, label %end, label %tell
tell:
  %state = call i32 @PyGILState_Ensure()
  call void @PyErr_BadInternalCall()
  call void @PyErr_WriteUnraisable(ptr null)
  call void @PyGILState_Release(i32 %state)
  br label %end
end:
  ret void
}
"""


def lean_code(result: Any, arguments: int, symbol: str) -> bytes:
    """The object code of `symbol`, a C function of so many int64 that is the compiled one.

    ValueError where it needs more than Python and the C library: Numba's allocator or threads.
    """
    module = llvm.parse_bitcode(result.library._get_module_for_linking().as_bitcode())
    name = result.fndesc.llvm_func_name
    for each in (*module.functions, *module.global_variables):
        if not each.is_declaration and each.name != name:
            each.linkage = "internal"
    kinds = [str(argument.type) for argument in module.get_function(name).arguments]
    if kinds != ["ptr", "ptr", *["i64"] * arguments]:
        raise ValueError(f"its arguments are {kinds}")
    entry = _ENTRY.replace("NAME", name).replace("KINDS", ", ".join(kinds))
    entry = entry.replace("SYMBOL", symbol)
    entry = entry.replace("PASSED", ", ".join(f"i64 %a{number}" for number in range(arguments)))
    # Arrays that are made of addresses own no memory, and a function without an allocator has no
    # others: there is nothing to free.
    inner = [name]
    if any(function.name == _FREES for function in module.functions):
        entry += f"define void @{_FREES}(ptr %memory) {{ ret void }}"
        inner.append(_FREES)
    added = llvm.parse_assembly(entry)
    added.triple, added.data_layout = module.triple, module.data_layout
    module.link_in(added)
    for each in inner:
        module.get_function(each).linkage = "internal"
    module.verify()
    machine = cpu_target.target_context.codegen()._tm
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3)))
    for each in (*module.functions, *module.global_variables):
        if each.is_declaration and not _is_allowed(each.name):
            raise ValueError(f"it calls {each.name}")
    code: bytes = machine.emit_object(module)
    return code


def _is_allowed(name: str) -> bool:
    if name.startswith("llvm."):
        return name.split(".")[1] in INTRINSICS
    return name in CALLED

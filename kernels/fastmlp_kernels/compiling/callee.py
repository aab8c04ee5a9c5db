"""How Numba compiles a function that only other compiled functions call: to LLVM code, and no more.

Numba links, optimizes and translates to machine code each function that it compiles, with all that
it calls; then again in each of its callers. Of functions that nobody calls from Python, only what
the last caller makes of them runs. A first `Matmul` took half of its time so.
"""

from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Library(JITCodeLibrary):
    """The LLVM code of one function, to be linked with that of all that it calls."""

    def finalize(self) -> None:
        self._raise_if_finalized()
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._ensure_finalized()
            libraries, waiting = [], [self]
            while waiting:
                library = waiting.pop()
                if library not in libraries:
                    libraries.append(library)
                    if isinstance(library, _Library):
                        waiting += library._linking_libraries
            module = _for_linking(self._final_module)
            for library in libraries[1:]:
                if isinstance(library, _Library):
                    module.link_in(_for_linking(library._final_module))
                else:
                    module.link_in(library._get_module_for_linking(), preserve=True)
            self._shared_module = module
        return self._shared_module


def _for_linking(module: Any) -> Any:
    """A copy of a module whose functions may come several times, and go where nobody calls them."""
    copy = module.clone()
    for function in copy.functions:
        if not function.is_declaration and function.linkage == llvm.Linkage.external:
            function.linkage = "linkonce_odr"
    return copy


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Numba's own, into such a library; callers find the function as if it were compiled."""

    _name = "fastmlp_lowering"

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        # Numba wants an object of C that stands for the function. This one only raises.
        entry = {}.__getitem__
        state["cr"] = state["cr"]._replace(cfunc=entry)
        state.targetctx.insert_user_function(entry, state["cr"].fndesc, [state.library])
        state.reload_init.extend(getattr(state.library, "_reload_init", ()))  # since Numba 0.62
        return True


class CalleeCompiler(CompilerBase):
    """Numba's pipeline, but for machine code and what Python and C would call it through."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        flags = self.state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [
            (_Lowering if each is NativeLowering else each, name) for each, name in pipeline.passes
        ]
        return [pipeline]

"""The jit decorators of every kernel, the flags they compile with, and where compiled code is kept.

`jit` is for functions called by other kernels. `kernel` is for those called from Python: compiled
on first use, once for each dtype, whatever the layout of the arrays (see `view` and `result`).
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import types
from numba.core.ccallback import CFunc
from numba.np.ufunc.parallel import _launch_threads

from fastmlp_kernels.compiling.cache import KernelCache, release_locks
from fastmlp_kernels.compiling.callee import CalleeCompiler
from fastmlp_kernels.compiling.folder import cache_folder
from fastmlp_kernels.compiling.late import one_compiles
from fastmlp_kernels.compiling.notices import progress

Function = TypeVar("Function", bound=Callable[..., Any])
Signature = tuple[types.Type, ...]

# No fastmath and never `contract`: a fused or reordered operation changes bits.
FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": False}

integer = types.int64
flag = types.boolean


def view(real: types.Type, axes: int) -> types.Type:
    """The type of a read-only array of any strides; every array of the dtype converts to it."""
    return types.Array(real, axes, "A", readonly=True)


def packed(real: types.Type, axes: int) -> types.Type:
    """The type of a read-only C-contiguous array."""
    return types.Array(real, axes, "C", readonly=True)


def result(real: types.Type, axes: int) -> types.Type:
    """The type of a writable C-contiguous array."""
    return types.Array(real, axes, "C")


def writable(real: types.Type, axes: int) -> types.Type:
    """The type of a writable array of any strides."""
    return types.Array(real, axes, "A")


def jit(function: Function) -> Function:
    """Compile `function` for the kernels that call it: without the GIL, IEEE semantics."""
    compiled: Function = numba.njit(pipeline_class=CalleeCompiler, **FLAGS)(function)
    return compiled


@jit
def share(count, part, parts):
    """The slice of `count` things that part number `part` of `parts` equal parts works on."""
    return slice(count * part // parts, count * (part + 1) // parts)


def parallel_jit(function: Function) -> Function:
    """Compile a parallel function for the kernels that call it, kept in the cache on its own."""
    compiled = numba.njit(parallel=True, **FLAGS)(function)
    compiled._cache = KernelCache(function)
    return compiled  # type: ignore[no-any-return]


class Kernel(dict[np.dtype[Any], Callable[..., Any]]):
    """A compiled function for each dtype: `kernel[x.dtype](x, ...)`."""

    def __init__(
        self,
        function: Callable[..., Any],
        signature: Callable[[types.Type], Signature],
        parallel: bool,
        holds_gil: bool = False,
    ) -> None:
        super().__init__()
        self.function = function
        self.signature = signature
        self.parallel = parallel
        self.holds_gil = holds_gil
        self.entry_points: dict[Signature, Callable[..., Any]] = {}
        self.__doc__ = function.__doc__

    def __missing__(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        signature = self.signature(numba.from_dtype(dtype))
        if signature not in self.entry_points:  # one that names no dtype is of all dtypes
            # What Numba's dispatcher calls in the end. It finds out the type of each argument
            # first, which takes a third of a small call; here all are of the one signature.
            (overload,) = self.compiled(dtype).overloads.values()
            self.entry_points[signature] = overload.entry_point
        self[dtype] = self.entry_points[signature]
        return self[dtype]

    def compiled(self, dtype: np.dtype[Any]) -> Any:
        """Compile or load the function for a dtype; return Numba's dispatcher."""
        with _Compiling():
            # Starts Numba's threads. A cached kernel that calls a parallel function needs symbols,
            # which Numba loads by itself only for the parallel function.
            _launch_threads()
            flags = FLAGS | {"parallel": self.parallel, "nogil": not self.holds_gil}
            dispatcher = numba.njit(**flags)(self.function)
            dispatcher._cache = KernelCache(self.function)
            dispatcher.compile(self.signature(numba.from_dtype(dtype)))
        dispatcher.disable_compile()
        return dispatcher


def kernel(
    signature: Callable[[types.Type], Signature], parallel: bool = False, holds_gil: bool = False
) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a `Kernel`; `signature(real)` gives its argument types for the scalar type `real`.

    holds_gil: it runs while no other thread runs Python, see given.py.
    """
    return lambda function: Kernel(function, signature, parallel, holds_gil)


# By the address of a C function what Numba knows of it, and how many arguments it has.
compiled_at: dict[int, tuple[Any, int]] = {}


class _Function(CFunc):  # type: ignore[misc]
    """Numba's C function, which keeps what it has compiled or loaded."""

    def compile(self) -> None:
        super().compile()
        compiled_at[int(self.address)] = self._cache.result, len(self._sig.args)


def address_of(function: Callable[..., None], signature: Signature) -> int:
    """Compile `function` as a C function that returns nothing; return its address."""
    with _Compiling():
        callback = _Function(function, (signature, types.void), locals={}, options=dict(FLAGS))
        callback._cache = KernelCache(function)
        callback.compile()
    return int(callback.address)


class _Compiling:
    """Compile or load a kernel, one thread at a time, and show that it takes long."""

    def __enter__(self) -> None:
        if numba.config.DISABLE_JIT:
            raise RuntimeError(
                "fastmlp: expected Numba's compiler, which all kernels need, got "
                "NUMBA_DISABLE_JIT=1; unset it, or take fastmlp.reference: the same names and bits "
                "in plain NumPy"
            )
        one_compiles.acquire()
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        try:
            release_locks()  # where it was interrupted
            progress.end(time.perf_counter() - self.start)
        finally:
            one_compiles.release()


progress.folder = cache_folder

"""The jit decorators of every kernel, the flags they compile with, and where compiled code is kept.

`jit` is for functions called by other kernels. `kernel` is for those called from Python: compiled
on first use, once for each dtype, whatever the layout of the arrays (see `view` and `result`).
"""

import atexit
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import types
from numba.core.ccallback import CFunc
from numba.np.ufunc.parallel import _launch_threads

from fastmlp_kernels.cache import KernelCache, cache_folder

Function = TypeVar("Function", bound=Callable[..., Any])
Signature = tuple[types.Type, ...]

# No fastmath and never `contract`: a fused or reordered operation changes bits.
FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": False}
ANNOUNCED_SECONDS = 1.0

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
    compiled: Function = numba.njit(**FLAGS)(function)
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
    ) -> None:
        super().__init__()
        self.function = function
        self.signature = signature
        self.parallel = parallel
        self.__doc__ = function.__doc__

    def __missing__(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        _expect_compiler()
        # Starts Numba's threads. A cached kernel that calls a parallel function needs symbols,
        # which Numba loads by itself only for the parallel function.
        _launch_threads()
        dispatcher = numba.njit(parallel=self.parallel, **FLAGS)(self.function)
        dispatcher._cache = KernelCache(self.function)
        with _Compiling():
            dispatcher.compile(self.signature(numba.from_dtype(dtype)))
        dispatcher.disable_compile()
        self[dtype] = dispatcher
        return dispatcher


def kernel(
    signature: Callable[[types.Type], Signature], parallel: bool = False
) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a `Kernel`; `signature(real)` gives its argument types for the scalar type `real`."""
    return lambda function: Kernel(function, signature, parallel)


def address_of(function: Callable[..., None], signature: Signature) -> int:
    """Compile `function` as a C function that returns nothing; return its address."""
    _expect_compiler()
    callback = CFunc(function, (signature, types.void), locals={}, options=dict(FLAGS))
    callback._cache = KernelCache(function)
    with _Compiling():
        callback.compile()
    return int(callback.address)


def _expect_compiler() -> None:
    if numba.config.DISABLE_JIT:
        raise RuntimeError(
            "fastmlp: expected Numba's compiler, which all kernels need, got NUMBA_DISABLE_JIT=1; "
            "unset it, or take fastmlp.reference: the same names and bits in plain NumPy"
        )


class _Compiling:
    """Measure compiling; once it takes over a second, say so on stderr, and at exit how long."""

    seconds = 0.0
    announced = False

    def __enter__(self) -> None:
        self.start = time.perf_counter()
        self.timer = threading.Timer(ANNOUNCED_SECONDS, _announce)
        self.timer.daemon = True
        self.timer.start()

    def __exit__(self, *_: object) -> None:
        self.timer.cancel()
        _Compiling.seconds += time.perf_counter() - self.start
        if _Compiling.seconds > ANNOUNCED_SECONDS:
            _announce()


def _announce() -> None:
    if _Compiling.announced:
        return
    _Compiling.announced = True
    _tell(f"compiling kernels for this CPU, once: they are kept in {cache_folder()}")
    atexit.register(lambda: _tell(f"compiling took {_Compiling.seconds:.1f} s"))


def _tell(message: str) -> None:
    with suppress(OSError, ValueError):  # no stderr to write to is no reason to stop
        print(f"fastmlp: {message}", file=sys.stderr, flush=True)

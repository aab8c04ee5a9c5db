"""Where compiled kernels are kept: one folder for each state of the sources and the vector width.

Numba's own cache looks at the file of the compiled function only, not at those it imports, nor at
FASTMLP_VECTOR_BITS: here a hash of all of them names the folder, so stale code can't be loaded.
"""

import hashlib
import os
import sys
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import caching

from fastmlp_kernels.cpu import vector_bits


@cache
def cache_folder() -> Path:
    """The folder: under NUMBA_CACHE_DIR if set, else the user's own cache folder."""
    if numba.config.CACHE_DIR:
        root = Path(numba.config.CACHE_DIR)
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "fastmlp" / f"{_sources_digest()}-{vector_bits()}"


def _sources_digest() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


class _Locator(caching._CacheLocator):
    def __init__(self, function: Any) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return cache_folder().name

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_Locator":
        return cls(py_func)


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012


class KernelCache(caching.FunctionCache):
    """Numba's cache of one function, in the folder above; without a usable file it compiles."""

    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged file raises anything: pickle, zlib, LLVM errors
            _warn_once(f"could not be read ({error!r})")
            with suppress(Exception):
                self.flush()  # forget the damaged index, so that the next process finds a new one
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn_once(f"can't be written ({error!r})")


@cache
def _warn_once(problem: str) -> None:
    warnings.warn(
        f"the folder of compiled kernels, {cache_folder()}, {problem}: they stay in memory; "
        "set NUMBA_CACHE_DIR to a writable folder to keep them",
        RuntimeWarning,
        stacklevel=4,
    )

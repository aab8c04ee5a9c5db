"""Where compiled kernels are kept: one folder for each state of the sources and the vector width.

Numba's own cache looks at the file of the compiled function only, not at those it imports, nor at
FASTMLP_VECTOR_BITS: here a hash of all of them names the folder, so stale code can't be loaded.
"""

import hashlib
import os
import pickle
import sys
import warnings
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import caching
from numba.core.runtime.nrt import rtsys

from fastmlp_kernels.cpu import vector_bits


@cache
def cache_folder() -> Path:
    """The folder: under NUMBA_CACHE_DIR if set, else the user's own cache folder."""
    root = Path(numba.config.CACHE_DIR) if numba.config.CACHE_DIR else _users_folder()
    return root / "fastmlp" / f"{_sources_digest()}-{vector_bits()}"


def _users_folder() -> Path:
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home, as in some containers: no folder, one warning
        home = Path(os.devnull)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


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
    """What Numba keeps, but what only compiling others with it needs is loaded when that happens.

    That is the LLVM code of all that a kernel calls, and the modules of Numba's in which some of
    it is defined: 0.13 s of the 0.2 s that a first `fit` took to load.
    """

    _locator_classes = [_Locator]  # noqa: RUF012

    def reduce(self, cres: Any) -> Any:
        (name, kind, (machine_code, bitcode)), *rest, environments = super().reduce(cres)
        # Of a function without constants nobody reads the environment, which names its module.
        environments = tuple(each for each in environments if each.consts)
        return (name, kind, (machine_code, _symbols(cres))), *rest, environments, bitcode

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        *payload, bitcode = payload
        cres = super().rebuild(target_context, payload)
        library = cres.library
        library._shared_module = None

        def module_for_linking() -> Any:
            if library._shared_module is None:
                library._shared_module = llvm.parse_bitcode(bitcode)
            return library._shared_module

        library._get_module_for_linking = module_for_linking
        return cres


def _symbols(cres: Any) -> bytes:
    """An LLVM module that tells Numba which symbols the machine code has, and no more."""
    entries = {
        cres.fndesc.llvm_func_name,
        cres.fndesc.llvm_cpython_wrapper_name,
        cres.fndesc.llvm_cfunc_wrapper_name,
    }
    defined = [f.name for f in cres.library.get_defined_functions() if f.name in entries]
    text = "\n".join(f'@"{symbol}" = global i8 0' for symbol in defined)
    bitcode: bytes = llvm.parse_assembly(text).as_bitcode()
    return bitcode


class _CheckedFile(caching.IndexDataCacheFile):
    """Numba's files of one function, with a checksum: damaged machine code may well be loaded."""

    def _save_data(self, name: str, data: Any) -> None:
        code = self._dump(data)
        super()._save_data(name, (zlib.crc32(code), code))

    def _load_data(self, name: str) -> Any:
        checksum, code = super()._load_data(name)
        if zlib.crc32(code) != checksum:
            raise ValueError(f"{name}: wrong checksum")
        return pickle.loads(code)


class KernelCache(caching.FunctionCache):
    """Numba's cache of one function, in the folder above; without a usable file it compiles."""

    _impl_class = _Implementation

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _CheckedFile(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            # Numba's own load_overload first loads all that compiling needs, which takes longer
            # than everything else here. Loaded code needs the allocator of arrays only.
            rtsys.initialize(target_context)
            return self._load_overload(sig, target_context)
        except OSError:  # nothing there to read; saving says if that is so for good
            return None
        except Exception as error:  # a damaged file raises anything: pickle, zlib, LLVM errors
            _warn_once(f"could not be read ({error!r}): what is damaged is compiled again")
            with suppress(Exception):
                self.flush()  # forget the damaged index, so that the next process finds a new one
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn_once(
                f"can't be written ({error!r}): they stay in memory; set NUMBA_CACHE_DIR to a "
                "writable folder with room to keep them"
            )


_warned = False


def _warn_once(problem: str) -> None:
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        f"the folder of compiled kernels, {cache_folder()}, {problem}",
        RuntimeWarning,
        stacklevel=4,
    )

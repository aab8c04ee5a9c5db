"""Where compiled kernels are kept: one folder, and in it a file for each kernel and what it needs.

Numba's own cache numbers the files of a function in an index, so that two processes which fill it
at once can give one name to two kernels; and it looks at the file of the compiled function only.
Here a hash of the whole key names the file: function, signature, CPU, versions, vector width, and
the sources of all that the function's module imports from this package. The key stands in the file
and is compared when that is loaded. There is no index. Of processes that need a kernel at once, one
compiles it; the others wait for its lock, which ends with the process that holds it.
"""

import errno
import pickle
import platform
import re
import sys
import time
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import llvmlite
import llvmlite.binding as llvm
import numba
from numba.core import caching
from numba.core.runtime import _nrt_python
from numba.core.runtime.nrt import rtsys

from fastmlp_kernels.compiling.cpu import vector_bits
from fastmlp_kernels.compiling.folder import (
    UNUSED_DAYS,
    Files,
    cache_folder,
    clear_folder,
    sources_digest,
)
from fastmlp_kernels.compiling.notices import log_once, logger, progress

if sys.platform == "win32":
    import msvcrt

    TAKEN = (errno.EACCES, errno.EDEADLK)
else:
    import fcntl

    TAKEN = (errno.EWOULDBLOCK,)  # not EACCES: where locks are denied, nobody has it

WAITED_SECONDS = 1.0  # for another process, before the log says so
SETTINGS = ("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # of Numba, in code


class _Locator(caching._CacheLocator):
    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return ""  # the sources are part of the key

    def get_disambiguator(self) -> str:
        return ""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_Locator":
        return cls()


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
        parts = (name, kind, (machine_code, _symbols(cres)))
        return parts, *rest, environments, bitcode, _calls_runtime(cres)

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        *payload, bitcode, calls_runtime = payload
        if calls_runtime:
            rtsys.initialize(target_context)
        else:
            _add_allocator()
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


def _calls_runtime(cres: Any) -> bool:
    """Tell whether the machine code calls what Numba compiles for counting references."""
    compiled = {function.name for function in rtsys.library.get_defined_functions()}
    called = (f.name for f in cres.library._final_module.functions if f.is_declaration)
    return not compiled.isdisjoint(called)


@cache
def _add_allocator() -> None:
    """Let machine code find the allocator of arrays.

    Numba's rtsys.initialize compiles functions for it besides, in 15 ms: code has its own copies.
    """
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


class KernelFiles(Files):
    """The files of one function."""

    def __init__(self, function: Any) -> None:
        code = function.__code__
        source = Path(code.co_filename)
        name = function.__qualname__.replace(".<locals>", "")
        super().__init__(
            re.sub(r"[<>]", "", f"{source.stem}.{name}"),  # as Windows allows none
            (
                code.co_firstlineno,
                sources_digest(source),
                vector_bits(),
                (platform.python_version(), getattr(sys, "abiflags", "")),
                numba.__version__,
                llvmlite.__version__,
                *(getattr(numba.config, name) for name in SETTINGS),
            ),
        )

    def load(self, key: Any) -> Any:
        """What was saved, or None; ValueError where that is another key's, or damaged."""
        code = self.read(key)
        return None if code is None else pickle.loads(code)

    def save(self, key: Any, data: Any) -> None:
        """Keep what Numba's cache keeps of a function."""
        self.write(key, caching.dumps(data))


_held: dict[Path, BinaryIO] = {}  # the locks that this process has


def _lock(path: Path) -> None:
    """Take the lock of a kernel, or wait for it; do without where none can be had, as on NFS."""
    if path in _held:
        return
    with suppress(OSError):  # then each process compiles for itself
        path.parent.mkdir(parents=True, exist_ok=True)
        file, start = open(path.with_suffix(".lock"), "ab"), time.monotonic()  # noqa: SIM115
        try:
            while not _try_lock(file):
                if time.monotonic() - start > WAITED_SECONDS:
                    log_once("another process compiles the same kernels: waiting for it")
                time.sleep(0.05)
        except BaseException:
            file.close()
            raise
        _held[path] = file


def _try_lock(file: BinaryIO) -> bool:
    """Lock a file for as long as this process has it open; False if another process has it.

    The system's own locks: they end with their process, however that ends. (The library filelock
    would take 0.1 s to import, and its hooks of forks and those of jit.py wait for each other.)
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise
    return True


def release_locks() -> None:
    """Let others compile what this process hasn't finished."""
    while _held:
        _held.popitem()[1].close()


class KernelCache(caching.FunctionCache):
    """Numba's cache of one function, in the folder above; without a usable file it compiles."""

    _impl_class = _Implementation

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = KernelFiles(function)
        self.result: Any = None  # what was loaded or saved last

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function; None, with its lock in hand, where it must be compiled."""
        path = self._cache_file.path(self._index_key(sig, target_context.codegen()))
        found = self._read(sig, target_context, path)
        if found is None:
            progress.begin()  # not before: a thread for each takes as long as to load them
            _lock(path)
            found = self._read(sig, target_context, path)  # another may have written it meanwhile
            if found is not None:
                self._release(path)
        self.result = found
        logger.debug("%s %s", "compiling" if found is None else "loaded", path.name)
        return found

    def _read(self, sig: Any, target_context: Any, path: Path) -> Any:
        try:
            # Numba's own load_overload first loads all that compiling needs, which takes longer
            # than everything else here.
            return self._load_overload(sig, target_context)
        except OSError:  # nothing there to read; saving says if that is so for good
            return None
        except Exception as error:  # a damaged file raises anything: pickle, zlib, LLVM errors
            _warn_once(f"could not be read ({error!r}): what is damaged is compiled again")
            with suppress(OSError):
                path.unlink()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled function, and let go of its lock."""
        self.result = data
        try:
            super().save_overload(sig, data)
            _remove_unused()
        except Exception as error:
            _warn_once(
                f"can't be written ({error!r}): they stay in memory; set NUMBA_CACHE_DIR to a "
                "writable folder with room to keep them"
            )
        self._release(self._cache_file.path(self._index_key(sig, data.codegen)))

    def _release(self, path: Path) -> None:
        if path in _held:
            _held.pop(path).close()


@cache
def _remove_unused() -> None:
    clear_folder(UNUSED_DAYS)


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

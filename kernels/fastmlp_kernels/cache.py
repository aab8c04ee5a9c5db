"""Where compiled kernels are kept: one folder, and in it a file for each kernel and what it needs.

Numba's own cache numbers the files of a function in an index, so that two processes which fill it
at once can give one name to two kernels; and it looks at the file of the compiled function only.
Here a hash of the whole key names the file: function, signature, CPU, versions, vector width, and
the sources of all that the function's module imports from this package. The key stands in the file
and is compared when that is loaded. There is no index. Of processes that need a kernel at once, one
compiles it; the others wait for its lock, which ends with the process that holds it.
"""

import errno
import hashlib
import os
import pickle
import platform
import re
import shutil
import sys
import time
import uuid
import warnings
import zlib
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

from fastmlp_kernels.cpu import vector_bits
from fastmlp_kernels.notices import log_once, logger, progress

if sys.platform == "win32":
    import msvcrt

    TAKEN = (errno.EACCES, errno.EDEADLK)
else:
    import fcntl

    TAKEN = (errno.EWOULDBLOCK,)  # not EACCES: where locks are denied, nobody has it

DAY = 86400.0  # seconds
UNUSED_DAYS = 30  # after which a kernel's file is removed
WAITED_SECONDS = 1.0  # for another process, before the log says so
SETTINGS = ("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # of Numba, in code
# `from fastmlp_kernels.module import ...`, `from fastmlp_kernels import names`, in brackets or not.
IMPORT = re.compile(
    r"^\s*(?:from|import) fastmlp_kernels(?:\.(\w+)| import (\([^)]*\)|.+))", re.MULTILINE
)


@cache
def cache_folder() -> Path:
    """The folder: under NUMBA_CACHE_DIR if set, else the user's own cache folder."""
    root = Path(numba.config.CACHE_DIR) if numba.config.CACHE_DIR else _users_folder()
    return root / "fastmlp"


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


def sources_digest(source: Path) -> str:
    """A hash of a source file and of all files of this package that it imports, however deep."""
    found, waiting = {source}, [source]
    while waiting:
        for path in _read_source(waiting.pop())[1] - found:
            found.add(path)
            waiting.append(path)
    digest = hashlib.sha256()
    for path in sorted(found, key=lambda path: path.name):
        digest.update(_read_source(path)[0])
    return digest.hexdigest()


@cache
def _read_source(source: Path) -> tuple[bytes, set[Path]]:
    """The hash of a source file, and the files of this package that it names in its imports."""
    content, package = source.read_bytes(), Path(__file__).parent
    imported = set()
    for module, names in IMPORT.findall(content.decode()):
        each = [module] if module else re.findall(r"\w+", names)
        imported |= {package / f"{name}.py" for name in each}
    return hashlib.sha256(content).digest(), {path for path in imported if path.exists()}


def folder_size() -> int:
    """The bytes of all files in the folder."""
    size = 0
    for path in cache_folder().rglob("*"):
        with suppress(OSError):  # another process has removed it
            size += path.stat().st_size if path.is_file() else 0
    return size


def clear_folder(unused_days: float = 0) -> None:
    """Remove what is in the folder: all, or what nobody has used for so many days."""
    for path in list(cache_folder().glob("*")):
        with suppress(OSError):  # another process has removed it, or has it open
            # Loading a kernel moves its file's time. A folder is of a version that had several.
            times = [each.stat().st_mtime for each in (path, *path.rglob("*"))]
            if time.time() - max(times) >= unused_days * DAY:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


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


class KernelFiles:
    """The files of one function, each with its key and a checksum: damaged code may well load."""

    def __init__(self, function: Any) -> None:
        code = function.__code__
        source = Path(code.co_filename)
        name = function.__qualname__.replace(".<locals>", "")
        self._name = re.sub(r"[<>]", "", f"{source.stem}.{name}")  # as Windows allows none
        self._state = (
            code.co_firstlineno,
            sources_digest(source),
            vector_bits(),
            (platform.python_version(), getattr(sys, "abiflags", "")),
            numba.__version__,
            llvmlite.__version__,
            *(getattr(numba.config, name) for name in SETTINGS),
        )

    def path(self, key: Any) -> Path:
        """The file of a key."""
        digest = hashlib.sha256(self._text(key).encode()).hexdigest()
        return cache_folder() / f"{self._name}-{digest[:32]}.nbc"

    def _text(self, key: Any) -> str:
        return repr((self._name, *self._state, key))

    def load(self, key: Any) -> Any:
        """What was saved, or None; ValueError where that is another key's, or damaged."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        text, checksum, code = pickle.loads(content)
        if text != self._text(key):
            raise ValueError(f"{path.name} holds another kernel")
        if zlib.crc32(code) != checksum:
            raise ValueError(f"{path.name}: wrong checksum")
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > DAY:
                os.utime(path)  # it is in use: see clear_folder
        return pickle.loads(code)

    def save(self, key: Any, data: Any) -> None:
        """Write a file of the key's own name, and only then give it that name."""
        code, path = caching.dumps(data), self.path(key)
        new = path.with_suffix(f".{uuid.uuid4().hex[:16]}.new")
        try:
            new.write_bytes(pickle.dumps((self._text(key), zlib.crc32(code), code), -1))
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)


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

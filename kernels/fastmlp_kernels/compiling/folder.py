"""The folder of compiled kernels, and in it a file for each, named by a hash of its whole key.

No Numba here: what is kept is bytes. The key stands in the file and is compared when that is
loaded; the sources of all that a kernel's module imports from this package are part of it.
"""

import hashlib
import os
import pickle
import re
import shutil
import sys
import time
import uuid
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

DAY = 86400.0  # seconds
UNUSED_DAYS = 30  # after which a kernel's file is removed
# `from fastmlp_kernels.folder.module import ...`, or `... import modules`, in brackets or not.
IMPORT = re.compile(
    r"^\s*(?:from|import) fastmlp_kernels([\w.]*)(?: import (\([^)]*\)|.+))?", re.MULTILINE
)


@cache
def cache_folder() -> Path:
    """The folder: under NUMBA_CACHE_DIR if set, else the user's own cache folder."""
    config = getattr(sys.modules.get("numba"), "config", None)  # another thread may import it
    named = config.CACHE_DIR if config else os.environ.get("NUMBA_CACHE_DIR")
    return (Path(named) if named else _users_folder()) / "fastmlp"


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


def source_of(module: str) -> Path:
    """The file of a module, named as in `compiling.folder`."""
    return Path(__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py")


def sources_digest(source: Path) -> str:
    """A hash of a source file and of all files of this package that it imports, however deep."""
    found, waiting = {source}, [source]
    while waiting:
        for path in _read_source(waiting.pop())[1] - found:
            found.add(path)
            waiting.append(path)
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(_read_source(path)[0])
    return digest.hexdigest()


@cache
def _read_source(source: Path) -> tuple[bytes, set[Path]]:
    """The hash of a source file, and the files of this package that it names in its imports."""
    content, imported = source.read_bytes(), set()
    for module, names in IMPORT.findall(content.decode()):
        named = [module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))]
        imported |= {source_of(name.strip(".")) for name in named}
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


class Files:
    """The files of one function, each with its key and a checksum: damaged code may well load."""

    def __init__(self, name: str, state: tuple[Any, ...]) -> None:
        self._name = name
        self._state = state

    def path(self, key: Any) -> Path:
        """The file of a key."""
        digest = hashlib.sha256(self._text(key).encode()).hexdigest()
        return cache_folder() / f"{self._name}-{digest[:32]}.nbc"

    def _text(self, key: Any) -> str:
        return repr((self._name, *self._state, key))

    def read(self, key: Any) -> bytes | None:
        """What was written, or None; ValueError where that is another key's, or damaged."""
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
        kept: bytes = code
        return kept

    def write(self, key: Any, code: bytes) -> None:
        """Write a file of the key's own name, and only then give it that name."""
        path = self.path(key)
        new = path.with_suffix(f".{uuid.uuid4().hex[:16]}.new")
        try:
            new.write_bytes(pickle.dumps((self._text(key), zlib.crc32(code), code), -1))
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)

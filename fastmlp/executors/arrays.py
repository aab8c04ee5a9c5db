"""Arrays that models share: sent to a worker once, by their content, or read there from a file."""

import hashlib
import mmap
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array, shape_error

LEAST = 1 << 16  # bytes; smaller arrays go with each block, as asking for them costs more

# What calls of this very process share: its threads find it here, and so do forked workers.
offered: dict[str, Array] = {}


class Key(NamedTuple):
    """Stands for an array that goes to a worker apart from the blocks."""

    name: str


class OnDisk(NamedTuple):
    """Stands for an array that lies in a file; size and changed (s): those of the whole file."""

    path: str
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    size: int
    changed: int

    def read(self) -> Array:
        """Return it as a map of the file, or raise where that isn't the caller's."""
        found = os.stat(self.path)
        if (found.st_size, int(found.st_mtime)) != (self.size, self.changed):
            expected = f"the caller's file, {self.size} bytes of {self.changed}"
            got = f"{found.st_size} bytes of {int(found.st_mtime)}"
            mend = "put it where all machines read the same one, or pass an array"
            raise shape_error(self.path, expected, got, mend)
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def on_disk(array: Array) -> OnDisk | None:
    """Return where a memory map lies, None where workers couldn't read it there."""
    if not isinstance(array, np.memmap) or array.mode == "c" or not array.flags.c_contiguous:
        return None
    if array.filename is None or array.dtype.hasobject or array.size == 0:
        return None
    if array.mode != "r":
        array.flush()
    # A view's own `offset` is that of the map that it is a part of.
    memory = np.frombuffer(array._mmap, np.uint8).__array_interface__["data"][0]  # type: ignore[attr-defined]
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    offset = start + array.__array_interface__["data"][0] - memory
    path, file = str(Path(array.filename).absolute()), os.stat(array.filename)
    return OnDisk(path, array.dtype, offset, array.shape, file.st_size, int(file.st_mtime))


def opened(value: Any) -> Any:
    """Return samples where a path, or a list or pair of such, stands for them, as memory maps."""
    if isinstance(value, str | os.PathLike):
        return np.load(value, mmap_mode="r")
    if isinstance(value, list | tuple) and any(
        isinstance(one, str | os.PathLike | tuple) for one in value[:2]
    ):
        return type(value)(map(opened, value))
    return value


def is_remote(value: Any) -> bool:
    """Whether it is a future of Dask."""
    distributed = sys.modules.get("distributed")
    return distributed is not None and isinstance(value, distributed.Future)


def has_remote(value: Any) -> bool:
    """Whether it is one, or a list or pair with one."""
    if isinstance(value, list | tuple):
        return any(has_remote(one) for one in value)
    return is_remote(value)


class Sharing:
    """Puts what stands for arrays in their places. arrays, remote: the arrays and futures by key.

    A thing that is given twice is replaced by one thing.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self.remote: dict[str, Any] = {}
        self.replaced: dict[int, tuple[Any, Any]] = {}  # by id; the thing itself keeps that alive

    def of(self, value: Any) -> Any:
        """Return what stands for one value of all models, or for a list with one for each."""
        if not isinstance(value, list):
            return self._one(value, True)
        counts = Counter(map(id, value))
        return [self._one(one, counts[id(one)] > 1) for one in value]

    def _one(self, value: Any, is_shared: bool) -> Any:
        if not isinstance(value, np.ndarray | tuple) and not is_remote(value):
            return value
        if id(value) not in self.replaced:
            self.replaced[id(value)] = value, self._new(value, is_shared)
        return self.replaced[id(value)][1]

    def _new(self, value: Any, is_shared: bool) -> Any:
        if isinstance(value, tuple):
            return tuple(self._one(one, is_shared) for one in value)
        if is_remote(value):
            self.remote[str(value.key)] = value
            return Key(str(value.key))
        found = on_disk(value)
        if found is not None:
            return found
        if not is_shared or value.nbytes < LEAST or value.dtype.hasobject:
            return value
        array = np.ascontiguousarray(value)
        name = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
        name.update(array.reshape(-1).view(np.uint8).data)
        self.arrays[name.hexdigest()] = array
        return Key(name.hexdigest())


def keys_in(value: Any) -> set[str]:
    """Return the names of the keys in a value, lists and pairs."""
    if isinstance(value, Key):
        return {value.name}
    return set().union(*map(keys_in, value)) if isinstance(value, list | tuple) else set()


class Found:
    """Puts the arrays back in their places; what was one thing is one thing again."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.arrays = arrays
        self.made: dict[Any, tuple[Any, Any]] = {}

    def of(self, value: Any) -> Any:
        """Return the value, list or pair with its arrays."""
        if isinstance(value, Key):
            return self.arrays[value.name]
        if isinstance(value, OnDisk):
            if value not in self.made:
                self.made[value] = value, value.read()
            return self.made[value][1]
        if isinstance(value, list):
            return [self.of(one) for one in value]
        if isinstance(value, tuple):
            if id(value) not in self.made:
                self.made[id(value)] = value, tuple(self.of(one) for one in value)
            return self.made[id(value)][1]
        return value

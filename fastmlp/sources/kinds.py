"""What samples are read from, a slice of rows at a time: maps of files, stores, lists of files."""

import mmap
import os
from bisect import bisect_right
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from ..checks import Array, dtype_error, shape_error
from .arrow import Dataset, open_files

LARGE = 1 << 27  # bytes of a map of a file from which on it is read in pieces
AROUND = 1 << 21  # bytes: what a system maps beside a page that is read, at most
_IN_MEMORY = ("__dlpack__", "__array_interface__", "toarray")  # toarray: SciPy's sparse matrices


class Source(Protocol):
    """Rows that can be read in slices; shape (N, ...) and dtype are those of all of them."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def slice(self, start: int, stop: int) -> Any:
        """Return rows as an array (stop - start, ...)."""


class Sliced:
    """Anything with shape, dtype and `value[i:j]`: an array of zarr, h5py, dask, your own class."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.shape, self.dtype = tuple(map(int, value.shape)), np.dtype(value.dtype)

    def slice(self, start: int, stop: int) -> Any:
        """Return some rows."""
        return self.value[start:stop]


class Mapped(Sliced):
    """An array in a map of a file. What has been read is forgotten, else it counts as memory."""

    def __init__(self, value: Array, owner: Any) -> None:
        super().__init__(value)
        self.array, self.map = value, owner._mmap
        # A private map has changes of its own, which would be lost.
        can_forget = owner.mode != "c" and hasattr(mmap, "MADV_DONTNEED")
        self.start = _address(np.frombuffer(self.map, np.uint8)) if can_forget else None

    def take(self, rows: Array) -> Array:
        """Return rows in any order, a copy."""
        return np.asarray(self.array)[rows]

    def forget(self, rows: Array) -> None:
        """Let the memory of what was read go: that of rows, which are a view, or of all."""
        if self.start is None:
            return
        first, last = (place - self.start for place in np.lib.array_utils.byte_bounds(rows))
        first = max(0, first // AROUND - 1) * AROUND
        last = min(len(self.map), (last // AROUND + 2) * AROUND)
        self.map.madvise(mmap.MADV_DONTNEED, first, last - first)


class Joined:
    """Sources one after the other, whose rows are alike."""

    def __init__(self, names: list[str], parts: list[Source]) -> None:
        for name, part in zip(names, parts, strict=True):
            if part.dtype != parts[0].dtype:
                mend = "write all files alike"
                raise dtype_error(name, f"{parts[0].dtype}, as {names[0]}", part.dtype, mend)
            if part.shape[1:] != parts[0].shape[1:]:
                expected = f"rows of shape {parts[0].shape[1:]}, as {names[0]}"
                got = f"rows of shape {part.shape[1:]}"
                raise shape_error(name, expected, got, "write all files alike")
        self.parts, self.dtype = parts, parts[0].dtype
        self.starts = [0, *accumulate(part.shape[0] for part in parts)]
        self.shape = (self.starts[-1], *parts[0].shape[1:])

    def slice(self, start: int, stop: int) -> Any:
        """Return some rows, of one part or of several."""
        found, number = [], bisect_right(self.starts, start) - 1
        while start < stop:
            first = self.starts[number]
            end = min(stop, self.starts[number + 1])
            if end > start:
                found.append(self.parts[number].slice(start - first, end - first))
            start, number = max(start, end), number + 1
        return found[0] if len(found) == 1 else np.concatenate(found)


class File:
    """A file .npy, which is open only while it is read."""

    def __init__(self, path: str) -> None:
        self.path = path
        array = self._open()
        self.shape, self.dtype = array.shape, array.dtype

    def _open(self) -> Array:
        try:
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            mend = "write it with np.save"
            raise shape_error(self.path, "an array of numbers", error, mend) from None
        if not isinstance(array, np.ndarray) or array.ndim == 0:
            got = "an archive" if not isinstance(array, np.ndarray) else "a number"
            raise shape_error(self.path, "an array of samples", got, "write it with np.save")
        return array

    def slice(self, start: int, stop: int) -> Array:
        """Return some rows, a copy."""
        array = self._open()
        if array.shape != self.shape or array.dtype != self.dtype:
            expected = f"shape {self.shape} of {self.dtype}, as before"
            got = f"shape {array.shape} of {array.dtype}"
            raise shape_error(self.path, expected, got, "leave the files alone during a fit")
        return np.array(array[start:stop], order="C", subok=False)


def source_of(value: Any) -> Source | None:
    """Return what samples are read from; None for what NumPy takes as an array in memory."""
    if isinstance(value, np.ndarray):
        owner = None if value.flags.owndata else _map_of(value)
        return None if owner is None or value.ndim == 0 else Mapped(value, owner)
    if isinstance(value, list | tuple):
        return _files(value) if value and all(map(_is_file, value)) else None
    if hasattr(value, "get_fragments") and hasattr(value, "schema"):
        return Dataset(value)
    if not all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__")):
        return None
    if any(hasattr(value, name) for name in _IN_MEMORY) or isinstance(value, np.generic):
        return None
    try:
        source = Sliced(value)
    except (TypeError, ValueError):  # a frame with a column of that name, a length that isn't known
        return None
    return source if source.shape else None


def _map_of(value: Array) -> Any:
    """Return the map of a file that an array lies in, or None."""
    owner: Any = value
    while isinstance(owner, np.ndarray):
        if isinstance(owner, np.memmap) and getattr(owner, "_mmap", None) is not None:
            return owner
        owner = owner.base
    return None


def _is_file(value: Any) -> bool:
    """Tell whether it is the name of a file of samples; other texts are labels."""
    if not isinstance(value, str | os.PathLike):
        return False
    return os.fsdecode(value).lower().endswith((".npy", ".parquet"))


def _files(values: Any) -> Source:
    paths = [os.fsdecode(value) for value in values]
    kinds = {os.path.splitext(path)[1].lower() for path in paths}
    if kinds == {".parquet"}:
        return open_files(paths)
    if kinds != {".npy"}:
        mend = "give those of one kind"
        raise shape_error("files", "all named .npy, or all .parquet", "both", mend)
    return Joined(paths, [File(path) for path in paths])


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])

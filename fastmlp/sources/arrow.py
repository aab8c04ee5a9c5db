"""Data sets of pyarrow, such as files of Parquet: their columns of numbers, side by side.

A part, a row group of Parquet, is decoded from its start on, a few rows at a time: rows are read
fastest in increasing order.
"""

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import numpy as np

from ..checks import Array, dtype_error, shape_error

ROWS = 1 << 17  # numbers that are decoded at once


class Dataset:
    """The rows of a pyarrow.dataset.Dataset, those of its fragments one after the other.

    columns: their names, None: all. A column of lists of one length has as many numbers.
    """

    def __init__(self, dataset: Any, columns: list[str] | None = None) -> None:
        self.dataset, schema = dataset, dataset.schema
        self.columns = [*schema.names] if columns is None else columns
        self.widths, dtypes = [], []
        for name in self.columns:
            width, dtype = _kind_of(name, schema.field(name).type)
            self.widths.append(width)
            dtypes.append(dtype)
        if not self.columns:
            raise shape_error("x", "a column of numbers or more", "none", "give it some columns")
        self.dtype = np.result_type(*dtypes)
        self.parts = [part for one in dataset.get_fragments() for part in _parts_of(one)]
        self.starts = [0, *accumulate(rows for _, rows in self.parts)]
        self.shape: tuple[int, ...] = (self.starts[-1], sum(self.widths))
        self._rewind(-1)

    def without(self, name: str) -> "Dataset":
        """Return the same without a column."""
        return Dataset(self.dataset, [one for one in self.columns if one != name])

    def column(self, name: str) -> Array:
        """Return all of a column: (N,), or (N, numbers) of lists."""
        found = Dataset(self.dataset, [name])
        values = found.slice(0, found.shape[0])
        return values if found.widths[0] > 1 else values[:, 0]

    def slice(self, start: int, stop: int) -> Array:
        """Return some rows, a copy."""
        rows = np.empty((stop - start, self.shape[1]), self.dtype)
        number, first = bisect_right(self.starts, start) - 1, start
        while first < stop:
            end = min(stop, self.starts[number + 1])
            if end > first:
                self._read(number, first, rows[first - start : end - start])
                first = end
            number += 1
        return rows

    def _rewind(self, number: int) -> None:
        """Begin a part: what comes next is its first row."""
        self.number, self.batches, self.batch = number, iter(()), None
        if number >= 0:
            self.place = self.starts[number]
            self.batches = self.parts[number][0].to_batches(
                schema=self.dataset.schema, columns=self.columns, use_threads=False,
                batch_size=max(1, ROWS // self.shape[1]), batch_readahead=1, fragment_readahead=1,
            )  # fmt: skip

    def _read(self, number: int, first: int, rows: Array) -> None:
        """Write rows of a part from a first one on. place: that of the batch's first row."""
        if number != self.number or first < self.place:
            self._rewind(number)
        done = 0
        while done < len(rows):
            while self.batch is None or self.place + self.batch.num_rows <= first + done:
                if self.batch is not None:
                    self.place += self.batch.num_rows
                self.batch = next(self.batches, None)
                if self.batch is None:
                    self._rewind(-1)
                    expected = f"{self.starts[number + 1]} rows, as before"
                    mend = "leave the files alone during a fit"
                    raise shape_error("data set", expected, f"{first + done}", mend)
            offset = first + done - self.place
            some = self.batch.slice(offset, len(rows) - done)
            self._convert(some, first + done, rows[done : done + some.num_rows])
            done += some.num_rows

    def _convert(self, batch: Any, first: int, rows: Array) -> None:
        place = 0
        for name, column, width in zip(self.columns, batch.columns, self.widths, strict=True):
            values = column.flatten() if width != 1 or _is_list(column.type) else column
            if column.null_count or values.null_count:
                missing = column if column.null_count else values
                row = first + int(np.flatnonzero(missing.is_null().to_numpy(False))[0])
                if missing is values:
                    row = first + (row - first) // width
                mend = "fill it, or leave the row out"
                raise shape_error(f"column {name!r}, row {row}", "a number", "null", mend)
            numbers = values.to_numpy(zero_copy_only=False)
            rows[:, place : place + width] = numbers.reshape(len(rows), width)
            place += width


def open_files(paths: list[str]) -> Dataset:
    """Return the rows of files of Parquet."""
    try:
        from pyarrow import ArrowException, dataset
    except ModuleNotFoundError:
        mend = "pip install 'fastmlp[tables]', or write the files with np.save"
        raise shape_error(paths[0], "pyarrow, to read it", "none", mend) from None
    for path in paths:
        open(path, "rb").close()  # what isn't there is an OSError as of the other kinds
    try:
        return Dataset(dataset.dataset(paths, format="parquet"))
    except ArrowException as error:
        raise shape_error("files", "files of Parquet", error, "write them anew") from None


def _parts_of(fragment: Any) -> list[tuple[Any, int]]:
    """Return what a fragment is decoded by, and how many rows each has."""
    if hasattr(fragment, "split_by_row_group"):
        return [(one, one.row_groups[0].num_rows) for one in fragment.split_by_row_group()]
    return [(fragment, fragment.count_rows())]


def _is_list(kind: Any) -> bool:
    return hasattr(kind, "list_size")


def _kind_of(name: str, kind: Any) -> tuple[int, np.dtype[Any]]:
    """Return how many numbers a cell of a column has, and their dtype."""
    width, of = (kind.list_size, kind.value_type) if _is_list(kind) else (1, kind)
    try:
        dtype = np.dtype(of.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        dtype = np.dtype(object)
    if dtype.kind not in "fiub":
        mend = "leave it out, as dataset.replace_schema does, or encode it as numbers"
        raise dtype_error(f"column {name!r}", "numbers", kind, mend)
    return width, dtype

"""Files of tables, a chunk of rows at a time: .csv and .tsv, .npy, .parquet."""

import csv
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array, shape_error
from ..files.safetensors import path_of
from .cells import are_numbers

CELLS = 1 << 15  # of a chunk: some 3 MB as texts
DELIMITERS = ",;\t"
KINDS = ".csv, .tsv, .npy or .parquet"


class Chunk(NamedTuple):
    """Rows of a table. columns: lists of texts or arrays; first: the number of the first row."""

    names: tuple[str, ...] | None
    columns: list[Any]
    first: int

    def by_name(self, wanted: Sequence[str]) -> dict[str, Any]:
        """Return the columns by name; without names in the file, they are these."""
        names = self.names
        if names is None:
            if len(self.columns) != len(wanted):
                expected = f"{len(wanted)} columns, {', '.join(wanted)}"
                mend = "give it a header, or these columns alone"
                raise shape_error("table", expected, len(self.columns), mend)
            names = tuple(wanted)
        return dict(zip(names, self.columns, strict=True))


def chunks(path: object, wanted: Sequence[str] | None = None) -> Iterator[Chunk]:
    """Return the rows of a file, CELLS cells at a time, so that memory stays small.

    wanted: the names of the columns that are needed; a file of columns reads no others. A text
    file has a header, unless its first line is numbers. Raises ValueError for files that are
    damaged, and OSError as `open` does.
    """
    name = path_of(path)
    kind = os.path.splitext(name)[1].lower()
    if kind in (".csv", ".tsv", ".txt"):
        return _csv(name)
    if kind == ".npy":
        return _npy(name)
    if kind == ".parquet":
        return _parquet(name, wanted)
    raise shape_error("table", f"a file named {KINDS}", name, "convert it to one of them")


def _csv(name: str) -> Iterator[Chunk]:
    with open(name, newline="", encoding="utf-8-sig") as file:
        try:
            yield from _csv_chunks(name, file)
        except (csv.Error, UnicodeDecodeError) as error:
            mend = "write it as UTF-8, with quotes around cells that hold delimiters"
            raise shape_error(name, "comma-separated values", error, mend) from None


def _csv_chunks(name: str, file: Any) -> Iterator[Chunk]:
    line = file.readline()
    file.seek(0)
    reader = csv.reader(file, delimiter=max(DELIMITERS, key=line.count), strict=True)
    start = next(reader, None)
    if not start:
        raise shape_error(name, "a header, then rows", "nothing", "give the file of a table")
    width, rows = len(start), []
    names: tuple[str, ...] | None = tuple(one.strip() for one in start)
    if are_numbers(start):  # a cell that is missing among them, too: no row is lost as a header
        names, rows = None, [start]
    elif names and len({*names}) != width:
        twice = next(one for one in names if names.count(one) > 1)
        raise shape_error(name, "a name for each column", f"{twice!r} twice", "rename one")
    most, first = max(1, CELLS // width), 1
    filled = filter(None, reader)  # not the lines without a cell
    while rows := [*rows, *islice(filled, most - len(rows))]:
        if {*map(len, rows)} != {width}:
            row = next(row for row, cells in enumerate(rows) if len(cells) != width)
            got = f"{len(rows[row])} cells"
            raise shape_error(f"{name}, row {first + row}", f"{width} cells", got, "mend the row")
        yield Chunk(names, [list(column) for column in zip(*rows, strict=True)], first)
        first, rows = first + len(rows), []


def _npy(name: str) -> Iterator[Chunk]:
    try:
        array = np.load(name, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise shape_error(name, "an array of numbers", error, "write it with np.save") from None
    if not isinstance(array, np.ndarray) or array.ndim < 2:
        got = f"shape {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise shape_error(name, "rows of samples (2 axes or more)", got, "reshape(-1, inputs)")
    width = max(1, int(np.prod(array.shape[1:])))
    most = max(1, CELLS // width)
    for first in range(0, len(array), most):
        rows: Array = np.array(array[first : first + most]).reshape(-1, width)
        yield Chunk(None, list(rows.T), first + 1)


def _parquet(name: str, wanted: Sequence[str] | None) -> Iterator[Chunk]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        mend = "pip install 'fastmlp[tables]', or convert the file to .csv"
        raise shape_error(name, "pyarrow, to read it", "none", mend) from None
    open(name, "rb").close()  # what isn't there is an OSError as of the other kinds
    try:
        file = parquet.ParquetFile(name)
        names = [one for one in file.schema_arrow.names if wanted is None or one in wanted]
        first = 1
        for batch in file.iter_batches(max(1, CELLS // max(1, len(names))), columns=names):
            yield Chunk(tuple(names), [_arrow_column(one) for one in batch.columns], first)
            first += batch.num_rows
    except ArrowException as error:
        raise shape_error(name, "a file of Parquet", error, "write it anew") from None


def _arrow_column(column: Any) -> Any:
    """Return a column as an array of integers or floats, NaN where it is null, or as texts."""
    from pyarrow import types

    kind = column.type
    if (types.is_integer(kind) and not column.null_count) or types.is_floating(kind):
        return column.to_numpy(zero_copy_only=False)
    return column.to_pylist()

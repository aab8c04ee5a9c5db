"""The cells of a column: as numbers, as texts, or missing."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..checks import Array, shape_error

# How a cell that is missing is written, by people, pandas and R; None and NaN are so, too.
MISSING = frozenset(("", "NA", "N/A", "<NA>", "NaN", "nan", "NaT", "null", "NULL", "None"))
MOST_INTEGER = 1 << 53


def texts(cells: Sequence[Any] | Array) -> list[str]:
    """Return cells as texts without spaces around them, "" where they are missing."""
    values = cells.tolist() if isinstance(cells, np.ndarray) else cells
    return ["" if (text := str(one).strip()) in MISSING else text for one in values]


def number(text: str) -> float:
    """Return the number of one of `texts`, NaN for a missing one; ValueError for another text."""
    if not text:
        return float("nan")
    if "_" in text:  # float takes 1_2 for twelve
        raise ValueError(text)
    return float(text)


def numbers(name: str, cells: Sequence[Any] | Array, first: int = 1) -> Array:
    """Return the cells of a column as float64 (N,), NaN where they are missing.

    first: the number of the first row. Raises ValueError that names the row of what is no finite
    number.
    """
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
        values = _exact(name, cells, first)
    else:
        try:
            values = np.array(_floats(cells), np.float64)
        except ValueError:
            raise _no_number(name, texts(cells), first) from None
    wrong = np.flatnonzero(np.isinf(values))
    if wrong.size:
        mend = "mend the cell, or leave it empty"
        raise shape_error(cell(name, first + wrong[0]), "a finite number", values[wrong[0]], mend)
    return values


def are_numbers(cells: Sequence[Any] | Array) -> bool:
    """Tell whether all cells are numbers, or missing."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "fiub":
        return True
    try:
        _floats(cells)
    except ValueError:
        return False
    return True


def cell(name: str, row: int) -> str:
    """Return what errors call a cell."""
    return f"column {name!r}, row {row}"


def _exact(name: str, cells: Array, first: int) -> Array:
    if cells.dtype.kind in "iu":
        wrong = np.flatnonzero((cells > MOST_INTEGER) | (cells < -MOST_INTEGER))
        if wrong.size:
            expected, mend = "an integer that float64 holds exactly", "leave the column out"
            raise shape_error(cell(name, first + wrong[0]), expected, cells[wrong[0]], mend)
    return cells.astype(np.float64)


def _floats(cells: Sequence[Any] | Array) -> list[float]:
    """Return the numbers of cells, or raise ValueError."""
    # Most columns have nothing missing: float alone takes a quarter of the time.
    with suppress(TypeError, ValueError):
        if "_" not in "".join(cells):
            return list(map(float, cells))
    return [number(text) for text in texts(cells)]


def _no_number(name: str, cells: list[str], first: int) -> ValueError:
    """Return the error that names the first cell that is no number."""
    row = next(row for row, text in enumerate(cells) if not are_numbers([text]))
    mend = "mend the cell, or leave it empty"
    return shape_error(cell(name, first + row), "a number", repr(cells[row]), mend)

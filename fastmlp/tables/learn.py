"""Tables as training data: which columns are numbers, their means, the categories, the target."""

import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array, shape_error
from ..model.draws import bit_generator, shuffled
from .cells import are_numbers, cell, numbers, texts
from .read import chunks
from .table import Categorical, Numeric, Table

MOST_CATEGORIES = 1000  # of a column: more are names, or numbers of rows
MOST_CLASSES = 20  # of integers: more are numbers
VALIDATION = 5  # one row of so many is for validation
TASKS = ("classification", "regression")
_INTEGER = re.compile(r"[+-]?\d+")


class Target(NamedTuple):
    """What the target column holds: places of classes, int64 (N,), or numbers, float64 (N,)."""

    y: Array
    classes: tuple[int | str, ...] | None


class Samples(NamedTuple):
    """A table as samples: x (N, inputs) of float32 and what is y's.

    training, validation: the rows of each, in the order that the seed gave. missing: how many
    cells of a column are.
    """

    table: Table
    x: Array
    y: Array
    training: Array
    validation: Array
    missing: dict[str, int]


def learn(
    path: object, target: str, *, drop: Sequence[str] = (), task: str | None = None, seed: int = 0
) -> Samples:
    """Return the samples of a file, and the table that they are of.

    target: the column to predict; drop: those to leave out. task: "classification" or
    "regression"; by default texts, and integers of few values, are classes, and other numbers are
    numbers. Means and standard deviations are those of the training rows, and exact until they are
    rounded once; categories and classes are those of all rows, in order. Raises ValueError for
    what isn't such a table.
    """
    data = _columns(path, target, drop)
    found = _target(target, texts(data.pop(target)), task)
    count = len(found.y)
    if count < 2:
        raise shape_error("table", "two rows or more", count, "give more rows")
    order = shuffled(bit_generator(seed), count)
    first = max(1, count // VALIDATION)
    validation, training = order[:first], order[first:]
    columns = tuple(_column(name, cells, training) for name, cells in data.items())
    table = Table(columns, target, found.classes)
    missing = {
        name: int(np.isnan(cells).sum()) if isinstance(cells, np.ndarray) else cells.count("")
        for name, cells in data.items()
    }
    return Samples(table, table.encode(data), found.y, training, validation, missing)


def scale_of(values: Array) -> tuple[float, float]:
    """Return mean and standard deviation, 1 where all are equal; each sum is rounded once."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values.tolist()) / len(values)
    return mean, math.sqrt(variance) or 1.0


def _columns(path: object, target: str, drop: Sequence[str]) -> dict[str, Any]:
    """Return the columns: float64 arrays where all cells are numbers, lists of texts else.

    The file is read twice, so that only what a column is in the end takes memory.
    """
    numeric: dict[str, bool] = {}
    for chunk in chunks(path):
        if chunk.names is None:
            mend = "give it a header"
            raise shape_error("table", "names of the columns", "none", mend)
        for name, cells in zip(chunk.names, chunk.columns, strict=True):
            numeric[name] = numeric.get(name, True) and are_numbers(cells)
    for name in (target, *drop):
        if name not in numeric:
            expected = f"one of the columns {', '.join(map(repr, numeric))}"
            raise shape_error("column", expected, repr(name), "name another")
    kept = [name for name in numeric if name not in drop and name != target]
    if not kept or target in drop:
        raise shape_error("table", "columns beside the target", "none", "drop fewer")
    if "" in kept:  # as pandas writes the numbers of rows, which may tell the target
        raise shape_error("column", "a name", "none", f"name it, or {_drop('')}")
    parts: dict[str, list[Any]] = {name: [] for name in (target, *kept)}
    for chunk in chunks(path, [*parts]):
        for name, cells in chunk.by_name([*numeric]).items():
            if name in parts and numeric[name] and name != target:
                parts[name].append(numbers(name, cells, chunk.first))
            elif name in parts:
                parts[name] += map(sys.intern, texts(cells))
    return {
        name: np.concatenate(part) if numeric[name] and name != target else part
        for name, part in parts.items()
    }


def _column(name: str, cells: Any, training: Array) -> Numeric | Categorical:
    if isinstance(cells, np.ndarray):
        values = cells[training]
        known = values[~np.isnan(values)]
        if not known.size:
            raise shape_error(f"column {name!r}", "a number", "none", _drop(name))
        return Numeric(name, *scale_of(known))
    categories = tuple(sorted({*cells} - {""}))
    most = min(MOST_CATEGORIES, len(cells) - cells.count("") - 1)
    if len(categories) > most:
        expected = f"at most {most} categories"
        raise shape_error(f"column {name!r}", expected, len(categories), _drop(name))
    return Categorical(name, categories)


def _drop(name: str) -> str:
    return f"leave it out: --drop {name!r}"


def _target(name: str, cells: list[str], task: str | None) -> Target:
    if "" in cells:
        where = cell(name, 1 + cells.index(""))
        raise shape_error(where, "a value of the target", "none", "leave that row out")
    whole = all(_INTEGER.fullmatch(text) for text in cells)
    values: list[Any] = [int(text) for text in cells] if whole else cells
    counts = Counter(values)
    if task is None:
        few = len(counts) <= min(MOST_CLASSES, len(cells) // 2)
        task = TASKS[not few if whole else are_numbers(cells)]
    if task == "regression":
        return Target(numbers(name, cells), None)
    classes = tuple(sorted(counts))
    if len(classes) < 2:
        expected = "two classes or more"
        raise shape_error(f"column {name!r}", expected, classes, "predict another column")
    places = {value: place for place, value in enumerate(classes)}
    return Target(np.array([places[value] for value in values], np.int64), classes)

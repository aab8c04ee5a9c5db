"""What a model keeps of the table that it was trained on, and how rows become its inputs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..checks import Array, shape_error
from .cells import cell, numbers, texts

Words: TypeAlias = dict[str, Any]


class Numeric(NamedTuple):
    """A column of numbers v, of which the input is (v - mean) / scale, 0 where v is missing."""

    name: str
    mean: float
    scale: float

    @property
    def width(self) -> int:
        """The number of inputs."""
        return 1


class Categorical(NamedTuple):
    """A column of texts: an input for each of `categories`, 1 where it is the text, else 0."""

    name: str
    categories: tuple[str, ...]

    @property
    def width(self) -> int:
        """The number of inputs."""
        return len(self.categories)


class Table(NamedTuple):
    """The columns of the raw table that a model takes, in the order of its inputs.

    target: the column's name that it predicts. classes: what the target's values are, in the order
    of the outputs, integers or texts; None for numbers.
    """

    columns: tuple[Numeric | Categorical, ...]
    target: str
    classes: tuple[int | str, ...] | None = None

    @property
    def inputs(self) -> int:
        """How many numbers a row becomes."""
        return sum(column.width for column in self.columns)

    def encode(
        self, data: Mapping[str, Any], dtype: DTypeLike = np.float32, *, first: int = 1
    ) -> Array:
        """Return the samples x (N, inputs) of raw columns, such as a frame or a dict of lists.

        Columns of other names aren't read. A cell that is missing (None, NaN, or one of the words
        that docs/files.md lists) is the mean of the numbers, or none of the categories. Each number
        is rounded once, to dtype. ValueError names the column and the row, of which `first` is the
        number of the first, for what isn't a finite number, or a category that training never saw.
        """
        cells = {column.name: self._cells(data, column.name) for column in self.columns}
        counts = {name: len(one) for name, one in cells.items()}
        if len({*counts.values()}) > 1:
            raise shape_error("table", "columns of one length", counts, "pass whole rows")
        x = np.zeros((next(iter(counts.values()), 0), self.inputs), dtype)
        place = 0
        for column in self.columns:
            if isinstance(column, Numeric):
                values = numbers(column.name, cells[column.name], first)
                scaled = (values - column.mean) / column.scale
                x[:, place] = np.where(np.isnan(values), 0, scaled)
            else:
                rows, codes = _codes(column, cells[column.name], first)
                x[rows, place + codes] = 1
            place += column.width
        return x

    def labels(self, places: ArrayLike) -> list[int | str]:
        """Return the classes at these places, as `predict` gives them."""
        if self.classes is None:
            mend = "what predict returns are the numbers"
            raise shape_error("labels", "a table whose target has classes", self.target, mend)
        return [self.classes[place] for place in np.asarray(places).tolist()]

    def to_words(self) -> Words:
        """Return what a file says of it, but the classes."""
        columns = [
            {key: list(value) if isinstance(value, tuple) else value for key, value in one.items()}
            for one in (column._asdict() for column in self.columns)
        ]
        return {"columns": columns, "target": self.target}

    @classmethod
    def from_words(cls, words: Words, classes: tuple[int | str, ...] | None) -> Self:
        """Return the table of words that `are_words` has seen."""
        columns = tuple(
            Categorical(one["name"], tuple(one["categories"]))
            if "categories" in one
            else Numeric(one["name"], float(one["mean"]), float(one["scale"]))
            for one in words["columns"]
        )
        return cls(columns, words["target"], classes)

    def _cells(self, data: Mapping[str, Any], name: str) -> Any:
        if name not in data:
            names = ", ".join(column.name for column in self.columns)
            raise shape_error("table", f"the columns {names}", f"none named {name!r}", "add it")
        cells = data[name]
        return cells if isinstance(cells, list) else np.asarray(cells)


def _codes(column: Categorical, cells: Sequence[Any], first: int) -> tuple[Array, Array]:
    """Return the rows that have a category, and its place."""
    places = {text: place for place, text in enumerate(column.categories)} | {"": -1}
    named = texts(cells)
    try:
        codes = np.array([places[text] for text in named], np.int64)
    except KeyError:
        row, text = next((i, text) for i, text in enumerate(named) if text not in places)
        expected = "a category that training has seen"
        mend = "train with such rows, or leave the cell empty"
        raise shape_error(cell(column.name, first + row), expected, repr(text), mend) from None
    rows = np.flatnonzero(codes >= 0)
    return rows, codes[rows]


def are_words(value: object) -> bool:
    """Tell whether these are words of a table, as `to_words` makes them."""
    if not isinstance(value, dict) or value.keys() != {"columns", "target"}:
        return False
    columns, target = value["columns"], value["target"]
    if not isinstance(target, str) or not isinstance(columns, list) or not columns:
        return False
    if not all(isinstance(one, dict) and _is_column(one) for one in columns):
        return False
    names = [target, *(one["name"] for one in columns)]
    return len({*names}) == len(names)


def width_of(words: Words) -> int:
    """Return how many inputs the words of a table ask for."""
    return sum(len(one.get("categories", [0])) for one in words["columns"])


def _is_column(words: Words) -> bool:
    if words.keys() == {"name", "mean", "scale"}:
        values = words["mean"], words["scale"]
        fits = all(type(one) in (int, float) and math.isfinite(one) for one in values)
        return fits and words["scale"] > 0 and isinstance(words["name"], str)
    if words.keys() == {"name", "categories"}:
        found = words["categories"]
        fits = isinstance(found, list) and all(isinstance(one, str) and one for one in found)
        return fits and len({*found}) == len(found) > 0 and isinstance(words["name"], str)
    return False

"""`fastmlp predict`: a model's file and a table to classes, probabilities or numbers, as CSV."""

import argparse
import csv
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import fastmlp

from ..checks import Array, shape_error
from ..model.losses import REGRESSIONS
from ..tables.cells import cell, numbers
from ..tables.read import Chunk, chunks
from .jobs import UserError, as_user_error
from .options import Commands

if TYPE_CHECKING:
    from ..model.mlp import MLP


def add(commands: Commands) -> None:
    """Add the command to the parser's."""
    predict = commands.add_parser(
        "predict",
        help="predict the rows of a table by a model's file, as CSV",
        description="Print the class of each row, or the number that a regression says of it, as "
        "CSV with a header. Rows are read, predicted and printed in parts: a file may be larger "
        "than memory. A model that was trained on a table takes its raw columns by their names; "
        "another takes as many columns of numbers as it has inputs.",
    )
    predict.set_defaults(run=_predict)
    predict.add_argument("model", metavar="MODEL", help="a file that model.save wrote")
    predict.add_argument("table", metavar="TABLE", help="a file .csv, .tsv, .npy or .parquet")
    predict.add_argument(
        "--probabilities",
        action="store_true",
        help="print a column for each class: its probability",
    )


def _predict(options: argparse.Namespace) -> int:
    with as_user_error(ValueError):
        model = fastmlp.load(options.model)
        if options.probabilities and model.loss_name in REGRESSIONS:
            raise UserError("--probabilities: expected a model of classes; leave it out")
        for text in predictions(model, options.table, options.probabilities):
            print(text, end="")
    return 0


def predictions(model: "MLP", path: object, probabilities: bool) -> Iterator[str]:
    """Return what is printed, a part for each chunk of rows; the header is before the first."""
    header = _lines([_header(model, probabilities)])
    columns = model.table.columns if model.table else ()
    for chunk in chunks(path, [column.name for column in columns] or None):
        x = _inputs(model, chunk)
        y = model.predict_proba(x) if probabilities else model.predict(x)
        yield header + _lines(_cells(model, y, probabilities))
        header = ""
    yield header


def _lines(rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _header(model: "MLP", probabilities: bool) -> list[str]:
    outputs = model.sizes[-1]
    if probabilities and (model.loss_name == "cross_entropy" or outputs == 1):
        classes = model.table.classes if model.table else None
        return [str(one) for one in classes or range(max(outputs, 2))]
    if model.table:
        return [model.table.target]
    name = "value" if model.loss_name in REGRESSIONS else "class"
    if model.loss_name == "cross_entropy" or outputs == 1:
        return [name]
    return [f"{name}{number}" for number in range(1, outputs + 1)]


def _cells(model: "MLP", y: Array, probabilities: bool) -> Any:
    if model.table and model.table.classes and not probabilities:
        return zip(model.table.labels(y), strict=True)
    return y.reshape(len(y), -1).astype(str).tolist()


def _inputs(model: "MLP", chunk: Chunk) -> Array:
    """Return the samples of a chunk."""
    if model.table:
        names = [column.name for column in model.table.columns]
        return model.table.encode(chunk.by_name(names), model.dtype, first=chunk.first)
    inputs = model.sizes[0]
    if len(chunk.columns) != inputs:
        expected, mend = f"{inputs} columns, the model's inputs", "give these alone"
        raise shape_error("table", expected, len(chunk.columns), mend)
    names = list(chunk.names or map(str, range(1, inputs + 1)))
    x = np.empty((len(chunk.columns[0]), inputs), model.dtype)
    with np.errstate(over="ignore"):
        for place, (name, cells) in enumerate(zip(names, chunk.columns, strict=True)):
            x[:, place] = numbers(name, cells, chunk.first)
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        row, place = wrong[0]
        where, expected = cell(names[place], chunk.first + row), f"a number of {model.dtype}"
        got = "none" if np.isnan(x[row, place]) else "one beyond it"
        raise shape_error(where, expected, got, "fill the cell in, or leave the row out")
    return x

"""`fastmlp show`: what a model's file says of it."""

import argparse
import hashlib
from collections.abc import Iterator
from typing import Any

from ..files import safetensors
from ..files.description import Description
from .jobs import as_user_error
from .options import Commands, print_rows

MOST = 20  # names in a row


def add(commands: Commands) -> None:
    """Add the command to the parser's."""
    show = commands.add_parser(
        "show",
        help="show what a model's file holds: sizes, arithmetic, hash of the weights, columns",
        description="Show what a model's file holds. The SHA-256 is that of the weights, as "
        "`fastmlp train` prints it.",
    )
    show.set_defaults(run=_show)
    show.add_argument("model", metavar="MODEL", help="a file that model.save wrote")


def _show(options: argparse.Namespace) -> int:
    with as_user_error(ValueError):
        described, arrays = safetensors.read(options.model)
    weights = {name: array for name, array in arrays.items() if name.startswith("W")}
    digest = hashlib.sha256(b"".join(array.tobytes() for array in weights.values()))
    count = sum(array.size for array in weights.values())
    print_rows([*_rows(described, count), ("weights", f"SHA-256 {digest.hexdigest()}")])
    return 0


def _rows(described: Description, parameters: int) -> Iterator[tuple[str, str]]:
    yield "model", f"{described.model}, {described.dtype}"
    yield "sizes", f"{'-'.join(map(str, described.sizes))}, {parameters} parameters"
    yield "bias", ", ".join("yes" if one else "no" for one in described.bias)
    yield "activation", ", ".join(described.activation) or "none, it is linear"
    delta = "" if described.delta is None else f", delta {described.delta}"
    yield "loss", f"{described.loss}{delta}"
    yield "arithmetic", f"version {described.arithmetic}"
    if described.optimizer is not None:
        yield "optimizer", "{}, after {} steps".format(*described.optimizer)
    if described.classes is not None:
        yield "classes", _list(described.classes)
    if described.feature_names is not None:
        yield "features", _list(described.feature_names)
    if described.table is not None:
        yield "target", described.table["target"]
        for column in described.table["columns"]:
            yield "column", f"{column['name']}: {_column(column)}"


def _column(words: dict[str, Any]) -> str:
    if "categories" in words:
        return _list(words["categories"])
    return f"mean {words['mean']:.6g}, standard deviation {words['scale']:.6g}"


def _list(values: Any) -> str:
    more = [f"and {len(values) - MOST} more"] if len(values) > MOST else []
    return ", ".join([*map(str, values[:MOST]), *more])

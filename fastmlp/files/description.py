"""What a file says of its model beside the numbers; docs/files.md documents each word of it."""

import hashlib
import json
import math
import reprlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..checks import Array, shape_error
from ..plan.ways import STATES
from ..tables.table import Words, are_words, width_of

FORM = 1  # of the description; another one's words mean something else
ARITHMETIC = 2  # the newest version of docs/arithmetic.md that this package computes by
DTYPES = {"float32": "F32", "float64": "F64"}  # and what safetensors calls them
MODELS = ("MLP", "NotebookMLP")
ANEW = "save the model anew"

Tensors = dict[str, tuple[str, tuple[int, ...]]]  # by name: safetensors' dtype, and the shape


class Description(NamedTuple):
    """All that makes a model, but its numbers.

    optimizer: name and step of a state that is kept. sha256: of all of this, and the numbers.
    """

    model: str
    sizes: tuple[int, ...]
    bias: tuple[bool, ...]
    dtype: str
    activation: tuple[str, ...]
    loss: str
    delta: float | None
    arithmetic: int
    optimizer: tuple[str, int] | None = None
    classes: tuple[int | str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    table: Words | None = None
    sha256: str | None = None

    def to_json(self) -> str:
        """Return the text that a file keeps, without spaces; what is None is left out."""
        words = {key: value for key, value in self._asdict().items() if value is not None}
        return json.dumps({"form": FORM, **words}, sort_keys=True, separators=(",", ":"))

    def digest(self, arrays: Iterable[Array]) -> str:
        """Return the SHA-256 of the text without this word, and of the arrays' bytes behind it."""
        whole = hashlib.sha256(self._replace(sha256=None).to_json().encode())
        for array in arrays:
            whole.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        return whole.hexdigest()

    def tensors(self) -> Tensors:
        """Return the arrays that go with it: W1, W2, ..., and the optimizer's."""
        dtype = DTYPES[self.dtype]
        shapes: Tensors = {}
        inner = zip(self.sizes, self.bias, self.sizes[1:], strict=False)
        for layer, (inputs, bias, outputs) in enumerate(inner, start=1):
            shapes[f"W{layer}"] = dtype, (inputs + bias, outputs)
        if self.optimizer is not None:
            parameters = sum(math.prod(shape) for _, shape in shapes.values())
            shapes["optimizer_state"] = dtype, (STATES[self.optimizer[0]], parameters)
        return shapes


def arithmetic_of(activation: tuple[str, ...], loss: str) -> int:
    """Return the first version of the arithmetic that has a model's operations."""
    return 1 if loss == "cross_entropy" and set(activation) <= {"relu"} else 2


def from_json(text: object) -> Description:
    """Return what a file says, checked; ValueError for what none of ours would say."""
    if not isinstance(text, str):
        raise shape_error("fastmlp", "a text in the metadata", shown(text), ANEW)
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        raise shape_error("fastmlp", "JSON in the metadata", shown(text), ANEW) from None
    if not isinstance(words, dict):
        raise shape_error("fastmlp", "a JSON object", shown(words), ANEW)
    _check_versions(words)
    unknown = [key for key in words if key not in _CHECKS]
    missing = sorted(_NEEDED - words.keys())
    if unknown or missing:
        got = ", ".join([*(f"no {key}" for key in missing), *map(shown, unknown)])
        raise shape_error("fastmlp", f"the words {', '.join(_CHECKS)}", got, ANEW)
    for key, value in words.items():
        expected, fits = _CHECKS[key]
        if not fits(value):
            raise shape_error(key, expected, shown(value), ANEW)
    lists = {key: tuple(value) for key, value in words.items() if isinstance(value, list)}
    del words["form"]
    described = Description(**{"delta": None, **words, **lists})
    _check_lengths(described)
    return described


def shown(value: object) -> str:
    """Return a value for an error, cut to a part of a line."""
    return reprlib.repr(value)


def _check_versions(words: dict[str, Any]) -> None:
    """Raise where a newer fastmlp wrote it: what it says else may mean anything."""
    for key, newest in (("form", FORM), ("arithmetic", ARITHMETIC)):
        value = words.get(key)
        if type(value) is not int or value < 1:
            raise shape_error(key, "a version, 1 or more", shown(value), ANEW)
        if value > newest:
            mend = "pip install --upgrade fastmlp"
            raise shape_error(key, f"version {newest} or older", f"a newer one, {value}", mend)


def _check_lengths(described: Description) -> None:
    layers, outputs = len(described.sizes) - 1, described.sizes[-1]
    lengths: list[tuple[str, tuple[object, ...], int]] = []
    lengths += ("bias", described.bias, layers), ("activation", described.activation, layers - 1)
    if described.classes is not None:
        lengths.append(("classes", described.classes, max(outputs, 2)))
    if described.feature_names is not None:
        lengths.append(("feature_names", described.feature_names, described.sizes[0]))
    if described.table is not None:
        inputs = (None,) * width_of(described.table)
        lengths.append(("table", inputs, described.sizes[0]))
    for key, values, count in lengths:
        if len(values) != count:
            expected = f"{count} of them beside sizes {shown(list(described.sizes))}"
            raise shape_error(key, expected, len(values), ANEW)


def _one_of(names: tuple[str, ...]) -> tuple[str, Callable[[object], bool]]:
    return f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names


def _list_of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(type(one) in kinds for one in value)


def _is_sizes(value: object) -> bool:
    # Below 2^31 each, a product of two fits what kernels and NumPy count in.
    return (
        isinstance(value, list)
        and len(value) >= 2
        and all(type(size) is int and 1 <= size < 1 << 31 for size in value)
    )


def _is_optimizer(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    name, step = value
    return isinstance(name, str) and name in STATES and type(step) is int and 0 <= step < 1 << 63


_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "form": ("a version", lambda value: True),
    "model": _one_of(MODELS),
    "sizes": ("a list of two or more sizes, 1 or more each", _is_sizes),
    "bias": ("a list of true and false", _list_of(bool)),
    "dtype": _one_of(tuple(DTYPES)),
    "activation": ("a list of names", _list_of(str)),
    "loss": ("a name", lambda value: isinstance(value, str)),
    "delta": (
        "a finite number above 0",
        lambda value: type(value) in (int, float) and 0 < value <= sys.float_info.max,
    ),
    "arithmetic": ("a version", lambda value: True),
    "optimizer": ("the name of an optimizer and its step", _is_optimizer),
    "classes": ("a list of integers or texts", _list_of(int, str)),
    "feature_names": ("a list of texts", _list_of(str)),
    "table": ("an object of columns and a target", are_words),
    "sha256": ("a text", lambda value: isinstance(value, str)),
}
_NEEDED = _CHECKS.keys() - {"delta", "optimizer", "classes", "feature_names", "table"}

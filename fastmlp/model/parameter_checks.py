"""What a model's constructor is given, and the mend of x that doesn't fit it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..checks import FLOATS, Array, dtype_error, dtype_of, integer, shape_error
from ..plan.ways import ACTIVATIONS


def inputs_mend(code: str, x: Array, inputs: int) -> str:
    """Return how x, whose code is given, becomes samples of so many numbers."""
    if x.size == inputs:
        return f"pass {code}.reshape(1, -1)"
    if x.ndim == 1 and inputs == 1:
        return f"pass {code}.reshape(-1, 1)"
    if x.ndim == 2 and x.shape[0] == inputs:
        return f"pass {code}.T"
    return f"give {inputs} numbers for each sample, or make the model with other inputs"


def checked_sizes(sizes: object, loss: str) -> tuple[int, ...]:
    """Return the sizes of a model, or raise; cross-entropy needs an output for each class."""
    example = "pass sizes=[784, 100, 10]"
    if isinstance(sizes, str) or not isinstance(sizes, Iterable):
        got = type(sizes).__name__
        raise TypeError(f"sizes: expected a list of integers, got {got}; {example}")
    given = list(sizes)
    try:
        checked = [integer("sizes", size) for size in given]
    except TypeError as error:
        if all(isinstance(size, int | float) and float(size).is_integer() for size in given):
            example = f"pass sizes={[*map(int, given)]}"
        raise TypeError(f"{str(error).partition(';')[0]}; {example}") from None
    if len(checked) < 2 or min(checked) < 1:
        raise shape_error(
            "sizes",
            "two or more sizes of 1 or more: inputs, hidden layers, outputs",
            checked,
            example,
        )
    if checked[-1] < 2 and loss == "cross_entropy":
        raise shape_error(
            "sizes",
            "two or more classes, an output for each",
            checked,
            f"pass sizes={[*checked[:-1], 2]} for two classes, or loss='binary_cross_entropy', or "
            "loss='squared_error' for numbers",
        )
    return tuple(checked)


def checked_bias(bias: object, layers: int) -> tuple[bool, ...]:
    """Return a flag for each layer, or raise."""
    flags = [bias] * layers if isinstance(bias, bool | np.bool_) else bias
    if not isinstance(flags, Iterable) or isinstance(flags, str):
        raise TypeError(
            f"bias: expected True, False or one of them per layer, got {type(bias).__name__}; "
            "pass bias=True"
        )
    flags = list(flags)
    if not all(isinstance(one, bool | np.bool_) for one in flags):
        raise TypeError(f"bias: expected True or False per layer, got {flags}; pass bias=True")
    if len(flags) != layers:
        raise shape_error(
            "bias", f"one flag, or {layers}, one per layer", f"{len(flags)}", "pass bias=True"
        )
    return tuple(map(bool, flags))


def checked_activation(activation: Any, hidden: int) -> tuple[Any, ...]:
    """Return the name of each hidden layer's activation, or raise."""
    names = [activation] * hidden if isinstance(activation, str) else activation
    if not isinstance(names, Iterable):
        raise TypeError(
            f"activation: expected a name, or one per hidden layer, got "
            f"{type(activation).__name__}; pass activation='relu'"
        )
    names = list(names)
    wrong = [name for name in names if name not in ACTIVATIONS]
    if isinstance(activation, str) and activation not in ACTIVATIONS:
        wrong = [activation]  # also of a model without hidden layers
    if wrong:
        raise shape_error(
            "activation", f"one of {[*ACTIVATIONS]}", repr(wrong[0]), "pass activation='relu'"
        )
    if len(names) != hidden:
        raise shape_error(
            "activation", f"one name, or {hidden}, one per hidden layer", f"{len(names)}",
            "pass activation='relu'",
        )  # fmt: skip
    return tuple(names)


def checked_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return float32 or float64, or raise."""
    checked = dtype_of(dtype)
    if checked not in FLOATS:
        raise dtype_error("dtype", "float32 or float64", checked, "pass dtype=np.float32")
    return np.dtype(checked.type)  # the one object that native arrays of this dtype share

"""Targets: the numbers that a model's outputs shall be, and how they are checked."""

from typing import Any

import numpy as np

from .checks import Array, converted, dtype_error, not_finite, plain_array, shape_error
from .mends import array_code, label_code, numbers_mend


def targets_of(
    name: str,
    y: object,
    loss: str,
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    check_finite: bool = True,
) -> Array:
    """Return the targets y of a loss other than cross-entropy as `dtype` of `shape`, a copy.

    shape: (samples, outputs); (samples,) passes for one output. Floats may be narrower than dtype,
    integers and booleans are those it holds exactly, else TypeError. ValueError for another shape,
    numbers that aren't finite, and those that the loss doesn't take.
    """
    array = plain_array(name, y, dtype)
    if array.dtype.kind not in "fiub":
        mend = _classes_mend(name, y, array, shape) if loss == "binary_cross_entropy" else None
        mend = mend or numbers_mend(name, y, array, dtype)
        raise dtype_error(name, f"an array of {dtype}", array.dtype, mend)
    if array.shape != shape and not (shape[1] == 1 and array.shape == shape[:1]):
        expected = f"shape {shape}, a target for each output of each sample"
        if shape[1] == 1:
            expected = f"shape {shape[:1]}, a target for each sample"
        mend = _shape_mend(array_code(name, y), array, shape)
        raise shape_error(name, expected, f"shape {array.shape}", mend)
    given = array.copy()  # then checked: what the caller writes from now on, nobody reads
    values = converted(name, given, dtype)
    _refuse_inexact(name, y, given, values)
    mend = "leave that sample out"
    error = not_finite(name, values, values.shape, mend) if check_finite else None
    if error is not None:
        raise error
    _refuse_values(name, y, loss, values, shape)
    return np.ascontiguousarray(values.reshape(shape))


def _refuse_inexact(name: str, y: object, given: Array, values: Array) -> None:
    """Raise TypeError where the model's dtype is narrower than what was given."""
    dtype = values.dtype
    if given.dtype.kind == "f":
        exact = np.result_type(given, dtype) == dtype
        expected = f"{dtype}, the model's dtype, or a narrower one"
    else:
        exact = bool(np.array_equal(values, given))
        expected = f"integers that {dtype}, the model's dtype, holds exactly"
    if not exact:
        mend = f"{numbers_mend(name, y, given, dtype)}, or make the model with dtype=np.float64"
        raise dtype_error(name, expected, given.dtype, mend)


def _refuse_values(name: str, y: object, loss: str, values: Array, shape: tuple[int, int]) -> None:
    """Raise ValueError for what a loss can't take: numbers below 0, or other than 0 and 1."""
    wrong, expected = np.zeros(0, bool), ""
    if loss == "poisson":
        wrong, expected = values < 0, "0 or more, a count or a rate"
        mend = "make the model with loss='squared_error' for any numbers"
    elif loss == "binary_cross_entropy":
        wrong, expected = (values != 0) & (values != 1), "0 or 1"
        mend = "give 0 or 1 for each output"
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0].tolist())
        if loss == "binary_cross_entropy":
            mend = _classes_mend(name, y, values, shape) or mend
        raise shape_error(_element(name, place), expected, values[place], mend)


def _classes_mend(name: str, y: object, array: Array, shape: tuple[int, int]) -> str | None:
    """Return how y, of two kinds of values, becomes 0 and 1."""
    code = label_code(name, y, array, 2) if array.size == shape[0] * shape[1] else None
    if code is None:
        return None
    return f"pass {code}" if shape[1] == 1 else f"pass {code}.reshape{shape}"


def _shape_mend(code: str, array: Array, shape: tuple[int, int]) -> str:
    """Return how an array, whose code is given, becomes one of `shape`."""
    samples, outputs = shape
    if array.ndim == 2 and array.shape == shape[::-1] and outputs > 1:
        return f"pass {code}.T"
    if array.size == samples * outputs:
        return f"pass {code}.reshape{(samples, outputs) if outputs > 1 else '(-1)'}"
    if outputs == 1 and array.ndim == 2 and len(array) == samples:
        return f"make the model with {array.shape[1]} outputs, or give one column"
    if array.shape == (samples,):
        return "make the model with 1 output, or give a column for each"
    return "give targets for the same samples as x"


def _element(name: str, place: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, place))}]"

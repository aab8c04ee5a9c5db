"""What an error offers: `pass CODE`, code that runs on the very input, or else words.

CODE has no space outside of its brackets, so it ends before the next one, or a comma.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# What an argument usually is.
USUAL = {
    "learning_rate": 1e-3,
    "momentum": 0.9,
    "beta1": 0.9,
    "beta2": 0.999,
    "epsilon": 1e-8,
    "weight_decay": 1e-4,
    "max_norm": 1.0,
    "tolerance": 1e-6,
    # of schedules
    "gamma": 0.1,
    "final_learning_rate": 0.0,
    "pct_start": 0.3,
    "div_factor": 25.0,
    "final_div_factor": 1e4,
    "delta": 1.0,
}


def array_code(name: str, value: object) -> str:
    """Return the code of `value` as an array: lists and frames lack an array's methods."""
    return name if isinstance(value, np.ndarray) else f"np.asarray({name})"


def usual(name: str) -> str:
    """Return the mend that passes the usual value of an argument."""
    return f"pass {name}={USUAL[name]}"


def converted_by(convert: type, name: str, value: Any, otherwise: str) -> str:
    """Return the mend that converts with int or float, where that works."""
    try:
        convert(value)
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return f"pass {convert.__name__}({name})"


def numbers_mend(name: str, value: object, array: Array, dtype: Any = "float32") -> str:
    """Return how an array that isn't of real numbers, or of too wide ones, becomes one of dtype."""
    if array.dtype.kind == "c":
        return f"pass np.real({name}).astype(np.{dtype})"
    if array.dtype.kind not in "fiub":
        try:
            if array.dtype.kind in "mM":
                raise TypeError  # days since 1970 are numbers, but hardly what is meant
            array.astype(dtype)
        except Exception:  # whatever the elements raise
            return "encode it as numbers: text as classes, and what is missing as a number"
    return f"pass {array_code(name, value)}.astype(np.{dtype})"


def foreign_mend(name: str, value: object, suffix: str) -> str:
    """Return how what NumPy can't read as an array becomes one."""
    if hasattr(value, "toarray"):  # SciPy's sparse matrices
        return f"pass {name}.toarray(){suffix}"
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return f"pass list({name})"
    return "give it an array of numbers"


def label_code(name: str, value: object, array: Array, classes: int) -> str | None:
    """Return the code that makes integers 0 .. classes - 1 of labels, or None.

    None also for measured numbers, of which no code shall make classes.
    """
    code, flat = array_code(name, value), array.reshape(-1)
    if array.ndim != 1:
        code += ".reshape(-1)"
    numbers = _numbers(flat)
    if numbers is not None and not _are_whole(numbers):
        return None
    if flat.dtype.kind in "iu" and _are_classes(flat, classes):
        return code
    try:
        with np.errstate(all="ignore"):
            if _are_classes(flat.astype(np.int64), classes):
                return f"{code}.astype(np.int64)"
    except Exception:  # text, or whatever the elements raise
        pass
    if _kinds(flat) != classes:
        return None
    return f"np.unique({name if array.ndim == 1 else code}, return_inverse=True)[1]"


def label_mend(name: str, value: object, array: Array, classes: int, model: bool) -> str:
    """Return how labels become integers 0 .. classes - 1; model: whose outputs can be others."""
    code = label_code(name, value, array, classes)
    if code is not None:
        return f"pass {code}"
    words = f"give it the class of each sample, an integer from 0 to {classes - 1}"
    if not model:
        return words
    flat = array.reshape(-1)
    numbers, kinds = _numbers(flat), _kinds(flat)
    if numbers is None:
        outputs = kinds
    else:
        outputs = int(numbers.max()) + 1 if numbers.size and _are_whole(numbers) else 0
    # Labels come more than once, and few of 0 .. outputs - 1 are missing: else these are numbers.
    if classes < outputs <= 2 * kinds <= flat.size:
        return f"{words}, or make the model with {outputs} outputs"
    mend = f"MLP classifies: {words}"
    return mend if numbers is None else f"{mend}, or make it with loss='squared_error' for numbers"


def one_hot_mend(name: str, value: object, array: Array, shape: tuple[int, ...]) -> str:
    """Return how labels become one-hot rows of `shape`."""
    if array.size == shape[0] and array.ndim <= 2:
        code = label_code(name, value, array, shape[1])
        if code is not None:
            return f"pass fastmlp.one_hot({code}, {shape[1]})"
    return f"make it of integer labels with fastmlp.one_hot(labels, {shape[1]})"


def _numbers(flat: Array) -> Array | None:
    """Return the values as float64, or None if some aren't numbers."""
    try:
        return None if flat.dtype.kind in "mMc" else flat.astype(np.float64)
    except Exception:  # text, or whatever the elements raise
        return None


def _are_whole(numbers: Array) -> bool:
    return bool(np.all(np.isfinite(numbers) & (numbers == np.floor(numbers))))


def _are_classes(labels: Array, classes: int) -> bool:
    return bool(np.all((labels >= 0) & (labels < classes)))


def _kinds(flat: Array) -> int:
    """Return how many different values there are; 0 if they can't be compared."""
    try:
        return len(np.unique(flat))
    except TypeError:
        return 0

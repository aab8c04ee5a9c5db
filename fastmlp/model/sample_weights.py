"""Weights of samples: how they are checked, and where they enter the arithmetic.

A weight is a float64. In a batch whose weights have the sum W, sample i has the scale w[i] / W,
rounded once to the model's dtype; without weights, 1 / samples. A mean over samples is that of
v[i] * value[i], v[i] = w[i] / (W / samples) rounded once. Sums go one after the other in float64.
A weight of 0 leaves a sample out: scale and summand are +0, whatever its value.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import Array, dtype_error, integer, plain_array, shape_error
from ..mends import array_code, numbers_mend

if TYPE_CHECKING:
    from .estimator import Estimator

ClassWeight = Mapping[int, float] | ArrayLike | None  # or "balanced"

_BALANCED = "balanced"


def checked_weight(sample_weight: object, samples: int) -> Array | None:
    """Return the weights as float64 (samples,), a copy; None for none."""
    if sample_weight is None:
        return None
    name = "sample_weight"
    weight = _numbers(name, sample_weight)
    if weight.shape != (samples,):
        mend = "give a weight for each sample"
        if weight.size == samples:
            mend = f"pass {array_code(name, sample_weight)}.reshape(-1)"
        raise shape_error(
            name, f"shape ({samples},), a weight for each sample", f"shape {weight.shape}", mend
        )
    return _usable(name, weight)


def weight_of(
    model: "Estimator", y: Array, sample_weight: object, class_weight: object
) -> Array | None:
    """Return the weights of the samples with labels or targets y: (samples,), None for none."""
    weight = checked_weight(sample_weight, len(y))
    if class_weight is None:
        return weight
    is_binary = model.loss_name == "binary_cross_entropy" and model.sizes[-1] == 1
    if model.loss_name != "cross_entropy" and not is_binary:
        raise shape_error(
            "class_weight",
            "a loss of classes: cross_entropy, or binary_cross_entropy with one output",
            f"{model.loss_name} with {model.sizes[-1]} outputs",
            "pass class_weight=None, and sample_weight for each sample",
        )
    classes = 2 if is_binary else model.sizes[-1]
    labels = y.reshape(-1).astype(np.int64) if is_binary else y
    of_class = _class_weights(class_weight, labels, classes)[labels]
    return _usable("class_weight", of_class if weight is None else weight * of_class)


def _class_weights(class_weight: Any, labels: Array, classes: int) -> Array:
    """Return the weight (classes,) of each class."""
    name, weights = "class_weight", np.ones(classes)
    if isinstance(class_weight, str):
        if class_weight != _BALANCED:
            raise shape_error(
                name, "a dict, an array or 'balanced'", repr(class_weight), "pass 'balanced'"
            )
        counts = np.bincount(labels, minlength=classes)
        present = counts > 0
        weights[present] = len(labels) / (np.count_nonzero(present) * counts[present])
        return weights
    if isinstance(class_weight, Mapping):
        for label, value in class_weight.items():
            if not 0 <= integer(name, label, "give integers as its keys") < classes:
                mend = f"leave {label!r} out"
                raise shape_error(name, f"classes 0 to {classes - 1}", f"the class {label}", mend)
            number = _numbers(f"{name}[{label}]", value)
            if number.ndim:
                mend = f"give one weight for the class {label}"
                raise shape_error(f"{name}[{label}]", "a number", f"shape {number.shape}", mend)
            weights[label] = number
        return weights
    given = _numbers(name, class_weight)
    if given.shape != (classes,):
        raise shape_error(
            name,
            f"shape ({classes},), a weight for each class, a dict or 'balanced'",
            f"shape {given.shape}",
            "pass 'balanced'",
        )
    return given


def _numbers(name: str, value: object) -> Array:
    array = plain_array(name, value)
    if array.dtype.kind not in "fiub" or np.result_type(array, np.float64) != np.float64:
        mend = numbers_mend(name, value, array, "float64")
        raise dtype_error(name, "an array of float64 or a narrower dtype", array.dtype, mend)
    return array.astype(np.float64)


def _usable(name: str, weight: Array) -> Array:
    """Return weights (samples,) if they can be used, with no -0 among them."""
    wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
    if wrong.size:
        mend = "pass 0 for the samples to leave out"
        raise shape_error(
            f"{name}[{wrong[0]}]" if name == "sample_weight" else name,
            "finite numbers of 0 or more",
            weight[wrong[0]],
            mend if name == "sample_weight" else "pass 'balanced'",
        )
    whole = total(weight)
    if len(weight) and not 0 < whole < np.inf:
        got = "weights that are all 0" if whole == 0 else f"a sum of {whole}"
        mend = f"pass {name}=None for weights of 1"
        raise shape_error(name, "weights whose sum is above 0 and finite", got, mend)
    return weight + 0.0


def total(values: Array) -> float:
    """Return the sum, one after the other."""
    with np.errstate(over="ignore"):
        return float(np.add.accumulate(values)[-1]) if len(values) else 0.0


def batch_totals(weight: Array, batch_size: int) -> Array:
    """Return the sum of each batch's weights (batches,); weights in the visited order."""
    whole = len(weight) // batch_size * batch_size
    rows = weight[:whole].reshape(-1, batch_size)
    rest = [total(weight[whole:])] if whole < len(weight) else []
    return np.concatenate([np.add.accumulate(rows, axis=1)[:, -1], rest])


def scales(
    weight: Array, batch_size: int, dtype: np.dtype[Any], totals: Array | None = None
) -> Array:
    """Return the scale (samples,) of each sample in its batch; weights in the visited order.

    totals (batches,): what the batches' weights are divided by, None: their sums.
    """
    totals = batch_totals(weight, batch_size) if totals is None else totals
    with np.errstate(all="ignore"):
        scale = weight / np.repeat(totals, batch_size)[: len(weight)]
        return np.where(weight > 0, scale, 0.0).astype(dtype)


def weighted(values: Array, weight: Array | None) -> Array:
    """Return values (samples,) times their weights, whose mean is made 1; None: as they are."""
    if weight is None:
        return values
    with np.errstate(all="ignore"):
        share = (weight / (total(weight) / len(weight))).astype(values.dtype)
        return np.where(weight > 0, share * values, values.dtype.type(0))

"""Labels: one-hot rows, and how they are checked and compared."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .checks import Array, dtype_error, like, plain_array, real_arrays, rows_of_classes, shape_error


def one_hot(labels: ArrayLike, classes: int = 10, dtype: DTypeLike = np.float64) -> Array:
    """Return rows (N, classes) of `dtype`, 1 in the column that the label names, 0 elsewhere.

    labels: N integers from 0 to classes - 1, else ValueError; TypeError for other dtypes of labels,
    and for a `dtype` that holds no numbers.
    """
    dtype = np.dtype(dtype)
    if dtype.kind not in "fiub":
        raise dtype_error("dtype", "a dtype of real numbers", dtype, "pass dtype=np.float32")
    integers = _integers(plain_array("labels", labels), classes)
    rows = np.zeros((len(integers), classes), dtype)
    rows[np.arange(len(integers)), integers] = 1
    return rows


def accuracy_of(log_prob: Array, labels: Array) -> Any:
    """Return the share of rows of log_prob whose largest element is their label's, a float64."""
    log_prob, labels = plain_array("log_prob", log_prob), plain_array("labels", labels)
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        (log_prob,) = real_arrays(log_prob=log_prob)
        rows_of_classes("log_prob", log_prob)
        truth = _integers(labels, log_prob.shape[1])
        like("labels", truth, "log_prob's samples", log_prob.shape[:1])
        _some_samples(log_prob)
    else:
        log_prob, labels = fitting_labels(log_prob, labels)
        truth = np.argmax(labels, axis=1)
    # The notebook's np.mean of booleans has the same bits: it divides their exact count.
    right = np.count_nonzero(np.argmax(log_prob, axis=1) == truth)
    return np.float64(right) / np.float64(len(truth))


def fitting_labels(log_prob: Array, labels: Array) -> tuple[Array, Array]:
    """Return both as matrices (N, classes) of one dtype, N >= 1, or raise."""
    log_prob, labels = real_arrays(log_prob=log_prob, labels=labels)
    rows_of_classes("log_prob", log_prob)
    if labels.shape != log_prob.shape:
        raise shape_error(
            "labels",
            f"shape {log_prob.shape}, a one-hot row for each row of log_prob",
            f"shape {labels.shape}",
            f"make it of integers with fastmlp.one_hot(labels, {log_prob.shape[1]})",
        )
    _some_samples(log_prob)
    return log_prob, labels


def _some_samples(log_prob: Array) -> None:
    if len(log_prob) == 0:
        raise shape_error(
            "log_prob", "at least one sample", f"shape {log_prob.shape}", "a mean needs one"
        )


def _integers(labels: Array, classes: int) -> Array:
    if isinstance(classes, bool) or not hasattr(classes, "__index__"):
        raise TypeError(
            f"classes: expected an integer, got {type(classes).__name__}; pass int(classes)"
        )
    classes = classes.__index__()
    if classes < 1:
        raise shape_error("classes", "1 or more", classes, "pass the number of classes")
    if labels.dtype.kind not in "iu":
        raise dtype_error(
            "labels", "integers", labels.dtype, "convert with labels.astype(np.int64)"
        )
    if labels.ndim != 1:
        raise shape_error(
            "labels", "one axis", f"shape {labels.shape}", "flatten it with labels.reshape(-1)"
        )
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        first, most = outside[0], int(labels.max())
        raise shape_error(
            f"labels[{first}]",
            f"0 to {classes - 1}",
            labels[first],
            f"correct it, or make it classes={most + 1}" if most >= classes else "correct it",
        )
    return labels

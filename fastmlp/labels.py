"""Labels: one-hot rows, and how they are checked and compared."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .checks import (
    Array,
    dtype_error,
    integer,
    like,
    plain_array,
    real_arrays,
    rows_of_classes,
    shape_error,
)


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


def class_labels(name: str, labels: ArrayLike, classes: int, samples: int) -> Array:
    """Return labels as int64 (samples,) in 0 .. classes - 1; one-hot rows give their column.

    Kernels index by them, so they are a copy of their own, and it is the copy that is checked.
    """
    array = plain_array(name, labels)
    if array.ndim == 2 and array.dtype.kind in "fiub":
        like(name, array, "the samples and classes", (samples, classes))
        columns = np.argmax(array, axis=1)
        if not np.array_equal(array, np.arange(classes) == columns[:, np.newaxis]):
            raise shape_error(
                name,
                "integers, or one-hot rows with a single 1 and else 0",
                "other rows",
                "pass the classes, such as np.argmax(labels, axis=1)",
            )
        return np.asarray(columns)
    integers = _integers(array, classes, name)
    like(name, integers, "the samples", (samples,))
    return np.ascontiguousarray(integers, np.int64)


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
        truth[np.isnan(labels[np.arange(len(truth)), truth])] = -1  # no class
    right = np.flatnonzero(np.argmax(log_prob, axis=1) == truth)
    # argmax takes a NaN for the largest, but a NaN is no hit.
    hits = np.count_nonzero(~np.isnan(log_prob[right, truth[right]]))
    # The notebook's np.mean of booleans has the same bits: it divides their exact count.
    return np.float64(hits) / np.float64(len(truth))


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


def _integers(labels: Array, classes: int, name: str = "labels") -> Array:
    classes = integer("classes", classes)
    if classes < 1:
        raise shape_error("classes", "1 or more", classes, "pass the number of classes")
    if labels.dtype.kind not in "iu":
        raise dtype_error(name, "integers", labels.dtype, f"convert with {name}.astype(np.int64)")
    if labels.ndim != 1:
        raise shape_error(
            name, "one axis", f"shape {labels.shape}", f"flatten it with {name}.reshape(-1)"
        )
    labels = labels.copy()  # then checked: what the caller writes from now on, nobody reads
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        first, most = outside[0], int(labels.max())
        raise shape_error(
            f"{name}[{first}]",
            f"0 to {classes - 1}",
            labels[first],
            f"correct it, or take {most + 1} classes or more" if most >= classes else "correct it",
        )
    return labels

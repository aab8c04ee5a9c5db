"""Labels: one-hot rows, and how they are checked and compared."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .checks import (
    Array,
    dtype_error,
    dtype_of,
    integer,
    like,
    own_arrays,
    plain_array,
    real_arrays,
    rows_of_classes,
    shape_error,
)
from .mends import array_code, label_mend, one_hot_mend


def one_hot(labels: ArrayLike, classes: int = 10, dtype: DTypeLike = np.float64) -> Array:
    """Return rows (N, classes) of `dtype`, 1 in the column that the label names, 0 elsewhere.

    labels: N integers from 0 to classes - 1, else ValueError; TypeError for other dtypes of labels,
    and for a `dtype` that holds no numbers.
    """
    dtype = dtype_of(dtype)
    if dtype.kind not in "fiub":
        raise dtype_error("dtype", "a dtype of real numbers", dtype, "pass dtype=np.float32")
    integers = _integers("labels", labels, plain_array("labels", labels), classes)
    rows = np.zeros((len(integers), classes), dtype)
    rows[np.arange(len(integers)), integers] = 1
    return rows


def class_labels(name: str, labels: ArrayLike, classes: int, samples: int) -> Array:
    """Return labels as int64 (samples,) in 0 .. classes - 1; one-hot rows give their column.

    Kernels index by them, so they are a copy of their own, and it is the copy that is checked.
    """
    array = plain_array(name, labels)
    flat = array.size == samples and 1 in array.shape  # a column or row of labels
    if array.ndim == 2 and array.dtype.kind in "fiub" and not flat:
        if array.shape != (samples, classes):
            raise shape_error(
                name,
                f"shape {(samples, classes)}, a one-hot row for each sample, or ({samples},)",
                f"shape {array.shape}",
                "give the class of each sample",
            )
        columns = np.argmax(array, axis=1)
        if not np.array_equal(array, np.arange(classes) == columns[:, np.newaxis]):
            mend = f"MLP classifies: give the class of each sample, 0 to {classes - 1}"
            mend += ", or make it with loss='squared_error' for numbers"
            if np.all(array >= 0) and np.allclose(array.sum(axis=1), 1, atol=1e-3):
                mend = f"pass {array_code(name, labels)}.argmax(axis=1)"  # of probabilities
            raise shape_error(
                name, "integers, or one-hot rows with a single 1 and else 0", "other rows", mend
            )
        return np.asarray(columns)
    integers = _integers(name, labels, array, classes, model=True)
    if len(integers) != samples:
        raise shape_error(
            name,
            f"shape ({samples},), a label for each sample",
            f"shape {array.shape}",
            "give as many labels as samples",
        )
    return np.ascontiguousarray(integers, np.int64)


def accuracy_of(log_prob: Array, labels: Array) -> Any:
    """Return the share of rows of log_prob whose largest element is their label's, a float64."""
    array = plain_array("labels", labels)
    if array.ndim == 1 and array.dtype.kind in "iu":
        (log_prob,) = real_arrays(log_prob=log_prob)
        rows_of_classes("log_prob", log_prob)
        truth = _integers("labels", labels, array, log_prob.shape[1])
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
    given = labels
    log_prob, labels = own_arrays(log_prob=log_prob, labels=labels)
    rows_of_classes("log_prob", log_prob)
    if labels.shape != log_prob.shape:
        raise shape_error(
            "labels",
            f"shape {log_prob.shape}, a one-hot row for each row of log_prob",
            f"shape {labels.shape}",
            one_hot_mend("labels", given, labels, log_prob.shape),
        )
    _some_samples(log_prob)
    return log_prob, labels


def _some_samples(log_prob: Array) -> None:
    if len(log_prob) == 0:
        raise shape_error(
            "log_prob", "at least one sample", f"shape {log_prob.shape}", "a mean needs one"
        )


def _integers(
    name: str, value: object, array: Array, classes: int, *, model: bool = False
) -> Array:
    """Return `array`, which is `value`'s, if it holds integers (N,) in 0 .. classes - 1."""
    classes = integer("classes", classes)
    if classes < 1:
        raise shape_error("classes", "1 or more", classes, "pass classes=10")
    if array.dtype.kind not in "iu":
        mend = label_mend(name, value, array, classes, model)
        raise dtype_error(name, "integers", array.dtype, mend)
    if array.ndim != 1:
        mend = label_mend(name, value, array, classes, model)
        raise shape_error(name, "one axis", f"shape {array.shape}", mend)
    array = array.copy()  # then checked: what the caller writes from now on, nobody reads
    outside = np.flatnonzero((array < 0) | (array >= classes))
    if outside.size:
        first, most = outside[0], int(array.max())
        mend = label_mend(name, value, array, classes, model)
        if not model and array.min() >= 0 and most < 10**6:
            mend = f"pass classes={most + 1}"
        raise shape_error(f"{name}[{first}]", f"0 to {classes - 1}", array[first], mend)
    return array

"""What `fit` and its kin are given that doesn't lie in memory: which way it goes, its checks."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import Array, dtype_error, shape_error
from ..labels import class_labels
from .arrow import Dataset
from .kinds import LARGE, Mapped, Source, source_of
from .rows import Rows

if TYPE_CHECKING:
    from ..model.estimator import Estimator

LABELS = 1 << 20  # that are checked at once


def checked_shuffle(shuffle: Any) -> bool | str:
    """Return True, False or "blocks", or raise."""
    if isinstance(shuffle, str):
        if shuffle != "blocks":
            mend = "pass shuffle='blocks'"
            raise shape_error("shuffle", "True, False or 'blocks'", repr(shuffle), mend)
        return shuffle
    return bool(shuffle)


def rows_of(
    model: "Estimator",
    x: Any,
    y: Any,
    check_finite: bool,
    names: tuple[str, str],
    shuffle: bool | str,
) -> tuple[Rows | None, Any]:
    """Return the samples x, if they are to be read in pieces, and y in memory, or raise."""
    source = source_of(x)
    if isinstance(y, str) and isinstance(source, Dataset):
        y, source = source.column(_known(source, names[1], y)), source.without(y)
    else:
        y = values_of(x, y)
    if source is None or (isinstance(source, Mapped) and _goes_whole(model, source, shuffle)):
        return None, y
    _refuse_unfit(model, names[0], source)
    if shuffle is True and not isinstance(source, Mapped):
        raise shape_error(
            "shuffle", f"'blocks' or False, as {names[0]} isn't in memory", "True",
            "pass shuffle='blocks'",
        )  # fmt: skip
    return Rows(names[0], source, model.sizes[0], model.dtype, bool(check_finite)), y


def values_of(x: Any, values: Any) -> Any:
    """Return y or sample_weight in memory: of files, stores or a column of the data set x."""
    if isinstance(values, str):
        source = source_of(x)
        if not isinstance(source, Dataset):
            return values
        return source.column(_known(source, "sample_weight", values))
    source = source_of(values)
    if source is None or isinstance(source, Mapped):
        return values
    each = max(1, LABELS // max(1, math.prod(source.shape[1:])))
    starts = range(0, source.shape[0], each)
    found = [source.slice(start, min(start + each, source.shape[0])) for start in starts]
    read = np.concatenate(found) if found else np.empty(source.shape, source.dtype)
    return read[:, 0] if isinstance(source, Dataset) and read.shape[1] == 1 else read


def narrow_y(model: "Estimator", name: str, y: Any, samples: int, check_finite: bool) -> Array:
    """Return what `checked_y` does, labels in the narrowest dtype, or raise."""
    from ..model.losses import CROSS_ENTROPY, checked_y

    if model.loss_name != CROSS_ENTROPY:
        return checked_y(model, name, y, samples, check_finite)
    classes = model.sizes[-1]
    labels = np.empty(samples, np.min_scalar_type(classes - 1))
    if not isinstance(y, np.ndarray) or y.shape[:1] != labels.shape:
        labels[...] = class_labels(name, y, classes, samples)
        return labels
    try:
        for start in range(0, samples, LABELS):
            some = y[start : start + LABELS]
            labels[start : start + len(some)] = class_labels(name, some, classes, len(some))
    except (TypeError, ValueError):
        class_labels(name, y, classes, samples)  # its error names a place among all
        raise
    return labels


def kernels_y(y: Array) -> Array:
    """Return labels or targets as kernels take them."""
    return y.astype(np.int64) if y.dtype.kind in "iu" else y


def _goes_whole(model: "Estimator", source: Mapped, shuffle: bool | str) -> bool:
    """Tell whether a map of a file is taken as an array: it fits as it is, or not at all."""
    array = source.array
    if array.flags.c_contiguous and array.dtype == model.dtype:
        return array.nbytes <= LARGE or shuffle is True
    fits = math.prod(array.shape[1:]) == model.sizes[0] and array.ndim > 1 and len(array) > 0
    is_narrow = array.dtype.kind in "fiub" and np.result_type(array, model.dtype) == model.dtype
    return not (fits and is_narrow)


def _refuse_unfit(model: "Estimator", name: str, source: Source) -> None:
    """Raise where a model can't take the samples of a source."""
    dtype, shape, inputs = source.dtype, source.shape, model.sizes[0]
    if dtype.kind not in "fiub" or np.result_type(dtype, model.dtype) != model.dtype:
        raise dtype_error(
            name, f"{model.dtype}, the model's dtype, or a narrower one", dtype,
            f"write it as {model.dtype}, or make the model with dtype=np.float64",
        )  # fmt: skip
    if len(shape) < 2 or math.prod(shape[1:]) != inputs:
        mend = f"make the model with {math.prod(shape[1:])} inputs"
        if isinstance(source, Dataset):
            mend = "leave columns out, as dataset.replace_schema does, or " + mend
        expected = f"(samples, ...) with {inputs} numbers for each sample, the model's inputs"
        raise shape_error(name, expected, f"shape {shape}", mend)
    if shape[0] == 0:
        raise shape_error(name, "at least one sample", f"shape {shape}", "give some")


def _known(source: Dataset, name: str, column: str) -> str:
    if column not in source.columns:
        mend = f"pass {name}={source.columns[-1]!r}"
        raise shape_error(name, f"a column of {source.columns}", repr(column), mend)
    return column

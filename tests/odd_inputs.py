"""Good values for tests, and every odd kind of input that can be made of them."""

import numpy as np
from numpy.lib.stride_tricks import as_strided


def small_numbers(*shape, dtype=np.float32):
    """Small whole numbers, which every narrower dtype holds, too."""
    return (np.arange(int(np.prod(shape))).reshape(shape) % 3).astype(dtype)


class Frame:
    """What pandas frames and torch tensors are to NumPy."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class FrameOfOldNumPy(Frame):
    """As it was written before NumPy 2."""

    def __array__(self):
        return self.values


class FrameOfTexts(Frame):
    """A categorical series, of pandas or polars: to NumPy, objects."""

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype or object)


class SparseMatrix:
    """What SciPy's are to NumPy: nothing that it reads, though they have dtype and shape."""

    def __init__(self, values):
        self._values, self.dtype, self.shape = values, values.dtype, values.shape

    def toarray(self):
        return self._values.copy()

    def astype(self, dtype):
        return SparseMatrix(self._values.astype(dtype))


class TensorElsewhere:
    """A tensor that lies on another device: its own words say what to do."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call .cpu() first")


def _masked(good):
    return np.ma.masked_array(good, mask=good == 1)


def _read_only(good):
    good = good.copy()
    good.flags.writeable = False
    return good


def _far_apart(good):
    wide = np.zeros([size * 300 for size in good.shape], good.dtype)
    apart = wide[(slice(None, None, 300),) * good.ndim]
    apart[...] = good
    return apart


def _record_field(good):
    """Strides that are no whole elements."""
    records = np.zeros(good.shape, [("value", good.dtype), ("byte", "u1")])
    records["value"] = good
    return records["value"]


def _windows(good):
    """Rows that are windows of one array, each a place further."""
    return as_strided(small_numbers(99, dtype=good.dtype), good.shape, [good.itemsize] * good.ndim)


# How each odd kind is made of good values. Where it is to work, it does what a plain copy of it in
# native order, of the dtype np.asarray gives it, would do.
KINDS = {
    "int64": lambda good: good.astype(np.int64),
    "int8": lambda good: good.astype(np.int8),
    "bool": lambda good: good.astype(bool),
    "float16": lambda good: good.astype(np.float16),
    "float64": lambda good: good.astype(np.float64),
    "longdouble": lambda good: good.astype(np.longdouble),
    "bfloat16-like": lambda good: np.zeros(good.shape, "V2"),
    "complex": lambda good: good.astype(np.complex64),
    "objects": lambda good: good.astype(object),
    "text": lambda good: good.astype(str),
    "dates": lambda good: good.astype("M8[s]"),
    "records": lambda good: np.zeros(good.shape, [("a", "f4"), ("b", "i4")]),
    "None": lambda good: None,
    "a dict": lambda good: {"a": good},
    "a list": lambda good: good.tolist(),
    "a ragged list": lambda good: [[1.0, 2.0], [3.0]],
    "masked": _masked,
    "a frame": Frame,
    "an old frame": FrameOfOldNumPy,
    "a frame of objects": lambda good: Frame(good.astype(object)),
    "sparse": lambda good: SparseMatrix(good),
    "a tensor elsewhere": lambda good: TensorElsewhere(),
    "byte-swapped": lambda good: good.astype(good.dtype.newbyteorder()),
    "read-only": _read_only,
    "far apart": _far_apart,
    "field of records": _record_field,
    "reversed": lambda good: np.ascontiguousarray(good[::-1])[::-1],
    "broadcast": lambda good: np.broadcast_to(good[:1], good.shape),
    "windows": _windows,
    "NaN": lambda good: np.where(good == 1, np.float32("nan"), good),
    "inf": lambda good: np.where(good == 1, np.float32("-inf"), good),
    "beyond 9": lambda good: good + good.dtype.type(10),
    "negative": lambda good: -1 - good,
    "a number": lambda good: 3.0,
    "an axis less": lambda good: good[0],
    "an axis more": lambda good: good[np.newaxis],
    "a row more": lambda good: np.concatenate([good, good[:1]]),
    "a column more": lambda good: np.concatenate([good, good[..., :1]], -1),
    "no rows": lambda good: good[:0],
    "no columns": lambda good: good[..., :0],
}

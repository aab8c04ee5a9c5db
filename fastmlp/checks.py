"""The one place that checks what a caller passes, and words the errors."""

import math
import operator
import sys
from typing import Any, TypeGuard

import numpy as np

from .mends import Array as Array
from .mends import converted_by, foreign_mend, numbers_mend

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_LEAST = 5e-324  # subnormal
# Elements of a dot product that BLAS leaves to the calling thread. Threads of its own go on
# spinning after it, on the cores of ours: an epoch of 784-512-512-10 in float64 took 2.2 times.
_UNTHREADED = 10_000


def shape_error(what: str, expected: str, got: object, mend: str) -> ValueError:
    """Return the ValueError of a wrong shape or value: what, expected, got, mend."""
    return ValueError(f"{what}: expected {expected}, got {got}; {mend}")


def dtype_error(what: str, expected: str, got: object, mend: str) -> TypeError:
    """Return the TypeError of a wrong dtype: what, expected, got, mend."""
    return TypeError(f"{what}: expected {expected}, got {got}; {mend}")


def real_arrays(**named: object) -> tuple[Array, ...]:
    """Return the arguments as arrays of the one dtype NumPy promotes them to.

    float32 and float64 pass; integers, booleans and float16 pass beside one of these, when NumPy's
    promotion gives float32 or float64. Everything else is a TypeError.
    """
    values = tuple(named.values())
    if _of_one_dtype(values):
        return values
    arrays = [plain_array(name, value) for name, value in named.items()]
    for name, array in zip(named, arrays, strict=True):
        if array.dtype.kind not in "fiub":
            raise dtype_error(
                name,
                "an array of float32 or float64",
                array.dtype,
                numbers_mend(name, named[name], array),
            )
    common = np.result_type(*arrays)
    if common not in FLOATS:
        got = ", ".join(str(array.dtype) for array in arrays)
        wide = [np.result_type(array, np.float32) not in FLOATS for array in arrays]
        mends = [
            numbers_mend(name, named[name], array)
            for name, array, too_wide in zip(named, arrays, wide, strict=True)
            if too_wide or not any(wide)
        ]
        mend = " and ".join(mends if any(wide) else mends[:1])
        raise dtype_error(", ".join(named), "float32 or float64", got, mend)
    native = FLOATS[FLOATS.index(common)]
    return tuple(
        # A dtype may have other names, as longdouble on Windows: kernels know one.
        a if a.dtype is native else a.view(native)
        for a in (converted(name, a, native) for name, a in zip(named, arrays, strict=True))
    )


def own_arrays(**named: object) -> tuple[Array, ...]:
    """Return `real_arrays` as views of our own: no other thread can give them another shape.

    Kernels trust shapes that were checked. A view costs 0.1 us.
    """
    return tuple([array.view() for array in real_arrays(**named)])


def unchanged(fits: bool) -> None:
    """Raise RuntimeError where a kernel has found that checked arrays don't fit any more."""
    if not fits:
        raise RuntimeError(
            "arrays: expected them to stay as they are during a call, got one whose size another "
            "thread has changed; pass copies"
        )


def converted(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return `array` in `dtype`, itself if it has that dtype.

    Raises RuntimeError where that would lose subnormal numbers, as a library has told this thread
    to flush them to zero: kernels restore the CPU's mode, but here NumPy computes.
    """
    if _LEAST * 1.0 == 0.0 and _would_flush(array, dtype):
        raise RuntimeError(
            f"{name}: expected a thread that keeps subnormal numbers, to convert {array.dtype} to "
            f"{dtype}, got one where a library flushes them to zero; give it {dtype}, or turn that "
            "off, as torch.set_flush_denormal(False) does"
        )
    return array.astype(dtype, copy=False)


def _would_flush(array: Array, dtype: np.dtype[Any]) -> bool:
    """Tell whether array, one of FLOATS, holds what is subnormal in float32, and changes dtype."""
    own = array.dtype.newbyteorder("=")
    if own not in FLOATS or own.type is dtype.type:
        return False
    unsigned = np.dtype(f"u{own.itemsize}")
    # In integers, as comparisons of floats flush, too. Twice the bits: without the sign.
    twice = 2 * np.ascontiguousarray(array, own).view(unsigned)
    least = 2 * np.array([np.finfo(np.float32).tiny], own).view(unsigned)
    return bool(np.any((twice != 0) & (twice < least)))


def integer(name: str, value: object, mend: str = "give an integer") -> int:
    """Return `value` as an int; TypeError for what is none, booleans and arrays among them."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        got = type(value).__name__
        mend = converted_by(int, name, value, mend)
        raise TypeError(f"{name}: expected an integer, got {got}; {mend}") from None


def positive(name: str, value: object) -> int:
    """Return `value` as an int; TypeError for what is none, ValueError below 1."""
    count = integer(name, value, f"pass {name}=10")
    if count < 1:
        raise shape_error(name, "1 or more", count, f"pass {name}=10")
    return count


def dtype_of(value: Any) -> np.dtype[Any]:
    """Return `value` as a dtype, or raise TypeError."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise dtype_error("dtype", "a dtype", repr(value), "pass dtype=np.float32") from None
    return dtype


def plain_array(name: str, value: object, dtype: np.dtype[Any] | None = None) -> Array:
    """Return `value` as an array. dtype: that which the caller wants in the end.

    TypeError for a masked one, whose mask would be lost, and for what NumPy can't read; ValueError
    for rows of several lengths.
    """
    wrong = dtype is not None and getattr(value, "dtype", None) != dtype
    suffix = f".astype(np.{dtype})" if wrong else ""
    if type(value) is not np.ndarray and _is_masked(value):
        raise TypeError(
            f"{name}: expected an array without a mask, got a masked array; pass "
            f"{name}.filled(0){suffix}, or {name}.data"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        if not isinstance(value, list | tuple):
            raise  # by its own __array__, in its own words
        raise shape_error(
            name, "rows of one length", "a ragged list", "pad or cut them to one length"
        ) from error
    if array.ndim == 0 and array.dtype == object:
        mend = foreign_mend(name, value, suffix)
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}; {mend}")
    return array


def all_finite(array: Array) -> bool:
    """Tell whether all elements, of float32 or float64, are finite."""
    if array.flags.c_contiguous:
        flat = array.reshape(-1)
        # No square is below 0: nothing brings the sum back from inf or NaN. Half the time of
        # isfinite, which is asked only where the sum overflows.
        for k in range(0, flat.size, _UNTHREADED):
            part = flat[k : k + _UNTHREADED]
            if not math.isfinite(np.vdot(part, part)):
                return bool(np.isfinite(array).all())
        return True
    return bool(np.isfinite(array).all())


def not_finite(
    name: str, array: Array, shape: tuple[int, ...], mend: str | None = None
) -> ValueError | None:
    """Return the error that names the first element of `array` that isn't finite, if there is one.

    shape: that of what the caller passed as `name`, whose elements the array holds in their order.
    mend: None for that of samples, whose check can be turned off.
    """
    if all_finite(array):
        return None
    wrong = np.flatnonzero(~np.isfinite(array))
    if not wrong.size:  # another thread has written to it
        return None
    place = ", ".join(str(index) for index in np.unravel_index(wrong[0], shape))
    return shape_error(
        f"{name}[{place}]",
        "finite numbers",
        array[np.unravel_index(wrong[0], array.shape)],
        mend
        or f"replace it, as np.nan_to_num({name}, posinf=0, neginf=0) does, or pass "
        "check_finite=False",
    )


def _of_one_dtype(values: tuple[object, ...]) -> TypeGuard[tuple[Array, ...]]:
    """Tell whether all are arrays of float32, or all of float64: the usual case, at little cost."""
    dtype = getattr(values[0], "dtype", None)
    if dtype is not FLOATS[0] and dtype is not FLOATS[1]:  # byte-swapped ones are others
        return False
    for value in values:  # noqa: SIM110 - all() takes twice as long: a generator
        if type(value) is not np.ndarray or value.dtype is not dtype:
            return False
    return True


def matrix(name: str, array: Array) -> Array:
    """Return `array` if it has two axes, else raise ValueError."""
    if array.ndim != 2:
        mend = f"pass np.atleast_2d({name})"
        if array.ndim > 2:
            mend = f"pass np.asarray({name}).reshape(len({name}), -1)"
        raise shape_error(name, "a matrix (2 axes)", f"shape {array.shape}", mend)
    return array


def rows_of_classes(name: str, array: Array) -> Array:
    """Return `array` if it is a matrix with at least one column, else raise ValueError."""
    matrix(name, array)
    if array.shape[1] == 0:
        raise shape_error(
            name, "at least one class", f"shape {array.shape}", "give one column for each class"
        )
    return array


def like(name: str, array: Array, other_name: str, shape: tuple[int, ...]) -> Array:
    """Return `array` if its shape is `shape`, that of `other_name`, else raise ValueError."""
    if array.shape != shape:
        raise shape_error(
            name,
            f"shape {shape}, that of {other_name}",
            f"shape {array.shape}",
            f"give {name} for the same samples as {other_name}",
        )
    return array


def output(out: object, shape: tuple[int, ...], dtype: np.dtype[Any], **inputs: Array) -> Array:
    """Return a view of `out` if a result of `shape` and `dtype` can be written to it, else raise.

    It must be a writable array of exactly this shape and dtype that shares no memory with the
    inputs and visits no element twice.
    """
    if not isinstance(out, np.ndarray) or _is_masked(out):
        raise dtype_error("out", "a NumPy array", type(out).__name__, _fresh(shape, dtype))
    # Of NumPy's own class, as kernels take no other, and no other thread can give it another shape.
    given, out = out, out.view(np.ndarray)
    if out.dtype != dtype or not out.dtype.isnative:
        raise dtype_error("out", str(dtype), out.dtype, _fresh(shape, dtype))
    if out.shape != shape:
        raise shape_error("out", f"shape {shape}", f"shape {out.shape}", _fresh(shape, dtype))
    if not out.flags.writeable:
        raise shape_error("out", "a writable array", "a read-only one", _fresh(shape, dtype))
    if overlaps_itself(out):
        raise shape_error(
            "out",
            "one place in memory for each element",
            f"elements that overlap (shape {out.shape}, strides {out.strides})",
            _fresh(shape, dtype),
        )
    mine = _owner(given)
    for name, array in inputs.items():
        owner = _owner(array)
        if owner is not mine and owner is not None and mine is not None:
            continue  # the usual case: a tenth of the 4 us that may_share_memory takes
        if np.may_share_memory(out, array) and np.shares_memory(out, array):
            got = f"an array that overlaps {name}"
            raise shape_error("out", "memory of its own", got, _fresh(shape, dtype))
    return out


def _is_masked(value: object) -> bool:
    """Tell whether it has a mask. NumPy imports np.ma in 6 ms: before that nothing has one."""
    kind = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())
    return isinstance(value, kind)


def _fresh(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Return the mend: made for an error only, as a dtype's name takes 5 us."""
    return f"pass out=np.empty({shape}, np.{dtype})"


def _owner(array: Array) -> Array | None:
    """Return the array whose own memory `array` views, None where it isn't an array's own."""
    base = array if array.base is None else array.base
    return base if isinstance(base, np.ndarray) and base.flags.owndata else None


def overlaps_itself(array: Array) -> bool:
    """Tell whether elements of `array` share memory, as broadcasting and `as_strided` make them.

    Also where axes interleave without touching, which slices and transpositions never do.
    """
    if array.flags.forc:  # contiguous: the usual case, at little cost
        return False
    end = array.itemsize
    axes = zip(array.strides, array.shape, strict=True)
    for stride, count in sorted((abs(stride), count) for stride, count in axes if count > 1):
        if stride < end:
            return True
        end += stride * (count - 1)
    return False


def remembered(mem: dict[str, Any], key: str, operation: str) -> Any:
    """Return what the last forward left under `key`, or raise RuntimeError if there was none."""
    if key not in mem:
        raise RuntimeError(
            f"{operation}.backward: expected a forward before it, got none; call forward first"
        )
    return mem[key]


def remembered_matrix(key: str, array: Array) -> Array:
    """Return the array that `mem` holds under `key` if it has two axes, else raise ValueError.

    `mem` may have been changed, or the shape of what it holds.
    """
    if array.ndim != 2:
        got = f"shape {array.shape}"
        raise shape_error(f"mem[{key!r}]", "a matrix (2 axes)", got, "call forward again")
    return array


def product_shapes(x: Array, W: Array) -> tuple[int, int]:
    """Return the shape of x @ W if they are matrices that fit, else raise ValueError."""
    matrix("x", x)
    if W.ndim == 1 and W.size == x.shape[1]:
        mend = "pass np.asarray(W).reshape(-1, 1)"
        raise shape_error("W", "a matrix (2 axes)", f"shape {W.shape}", mend)
    matrix("W", W)
    if x.shape[1] != W.shape[0]:
        mend = "slice one of them"
        if x.shape[0] == W.shape[0]:
            mend = "pass np.asarray(x).T"
        elif x.shape[1] == W.shape[1]:
            mend = "pass np.asarray(W).T"
        raise shape_error(
            "x @ W",
            f"as many columns in x as W {W.shape} has rows, {W.shape[0]}",
            f"x of shape {x.shape}",
            mend,
        )
    return x.shape[0], W.shape[1]


def bias_row(b: Array, W: Array) -> Array:
    """Return `b` if it is a bias for W's outputs, shape (outputs,), else raise ValueError."""
    if b.shape != W.shape[1:]:
        raise shape_error(
            "b",
            f"shape {W.shape[1:]}, an element for each column of W",
            f"shape {b.shape}",
            "pass np.ravel(b)" if b.size == W.shape[1] else "slice or repeat it",
        )
    return b

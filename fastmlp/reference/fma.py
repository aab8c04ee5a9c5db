"""The fused multiply-add in NumPy: a * b + c with one rounding, exact for every input."""

import numpy as np

from ..checks import Array

_BLOCK = 8192  # elements at a time: the intermediate arrays then stay in the CPU's cache
_SPLITTER = 134217729.0  # 2^27 + 1 cuts a float64 in two halves whose products are exact


def fma(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c, rounded once (to nearest even), elementwise.

    a, b, c: arrays of one dtype, float32 or float64, of shapes that broadcast together. The
    result has their dtype and the broadcast shape. Subnormals, signed zeros, overflow, infinities
    and NaN are as IEEE 754 has them. Raises TypeError for other or mixed dtypes.

    Source: Boldo & Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms
    using rounding to odd", IEEE Transactions on Computers 57(4), 2008.
    """
    a, b, c = np.asarray(a), np.asarray(b), np.asarray(c)
    shape = np.broadcast_shapes(a.shape, b.shape, c.shape)
    if not a.dtype == b.dtype == c.dtype or a.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"fma takes three arrays of one dtype, float32 or float64, got {a.dtype}, {b.dtype} "
            f"and {c.dtype}: cast them to one of the two first"
        )
    form = _fma_float32 if a.dtype == np.float32 else _fma_float64
    # Each with every axis, so that a block of rows can be taken from those that have rows.
    axes = max(len(shape), 1)
    a, b, c = (x.reshape((1,) * (axes - x.ndim) + x.shape) for x in (a, b, c))
    result = np.empty(shape or 1, a.dtype)
    rows = max(1, _BLOCK * len(result) // max(1, result.size))
    with np.errstate(all="ignore"):
        for start in range(0, len(result), rows):
            block = slice(start, start + rows)
            result[block] = form(*(x if len(x) == 1 else x[block] for x in (a, b, c)))
    return result.reshape(shape)


def _fma_float32(a: Array, b: Array, c: Array) -> Array:
    # A product of two float32 is exact in float64. The sum, rounded to odd in float64's 53 bits,
    # then to nearest in float32's 24, gives the bits of a single rounding.
    product = np.multiply(a, b, dtype=np.float64)
    return _sum_to_odd(product, c.astype(np.float64)).astype(np.float32)


def _fma_float64(a: Array, b: Array, c: Array) -> Array:
    if has_room(a, b, c):
        return _boldo_melquiond(a, b, c)
    a, b, c = np.broadcast_arrays(a, b, c)
    result = _boldo_melquiond(a, b, c)
    exponent = np.frexp(a)[1] + np.frexp(b)[1]
    room = (np.maximum(np.abs(a), np.abs(b)) < 2.0**995) & (np.abs(c) < 2.0**1019)
    room &= (a == 0) | (b == 0) | ((exponent > -960) & (exponent < 1020))
    # With an infinity or NaN, a finite product is as good as zero: it must not overflow.
    special = ~(np.isfinite(a) & np.isfinite(b) & np.isfinite(c))
    product = np.where(np.isfinite(a) & np.isfinite(b), 0.0, a * b)
    np.copyto(result, product + c, where=special)
    rest = ~(room | special)
    result[rest] = [
        _fma_by_integers(*abc)
        for abc in zip(a[rest].tolist(), b[rest].tolist(), c[rest].tolist(), strict=True)
    ]
    return result


def has_room(a: Array, b: Array, c: Array) -> bool:
    """Return whether no step of Boldo & Melquiond's method can overflow or underflow."""
    a, b = np.abs(a), np.abs(b)
    largest_a, largest_b = np.max(a, initial=0), np.max(b, initial=0)
    smallest_a = np.min(a, initial=np.inf, where=a != 0)
    smallest_b = np.min(b, initial=np.inf, where=b != 0)
    # A NaN makes its comparison false.
    return bool(
        largest_a < 2.0**995
        and largest_b < 2.0**995
        and largest_a * largest_b < 2.0**1018
        and smallest_a * smallest_b > 2.0**-960
        and np.max(np.abs(c), initial=0) < 2.0**1019
    )


def _boldo_melquiond(a: Array, b: Array, c: Array) -> Array:
    product, product_error = two_product(a, b)
    high, low = two_sum(c, product_error)
    high, high_error = two_sum(product, high)
    result = high + _sum_to_odd(low, high_error)
    # A zero here has lost its sign; the plain operations give the right one.
    np.copyto(result, product + c, where=result == 0)
    return result


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """Return the rounded a * b and its error, exactly (Dekker 1971)."""
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    product = a * b
    error = a_high * b_high - product
    error += a_low * b_high
    error += a_high * b_low
    error += a_low * b_low
    return product, error


def _split(x: Array) -> tuple[Array, Array]:
    """Return x as the sum of two numbers of at most 26 bits (Veltkamp 1968)."""
    scaled = x * _SPLITTER
    high = scaled - (scaled - x)
    return high, x - high


def two_sum(x: Array, y: Array) -> tuple[Array, Array]:
    """Return the rounded x + y and its error, exactly (Knuth)."""
    total = x + y
    y_part = total - x
    x_part = total - y_part
    np.subtract(x, x_part, out=x_part)
    np.subtract(y, y_part, out=y_part)
    x_part += y_part
    return total, x_part


def _sum_to_odd(x: Array, y: Array) -> Array:
    """Return x + y rounded to odd: cut toward zero, the last bit set if anything was cut off."""
    total, error = two_sum(x, y)
    bits = total.view(np.int64)
    odd = bits ^ error.view(np.int64)
    odd >>= 63  # -1 where the rounding went away from zero: the error has the other sign
    odd += bits
    odd |= 1
    np.copyto(bits, odd, where=np.abs(error) > 0)  # false for the NaN beside an infinite total
    return total


def _fma_by_integers(a: float, b: float, c: float) -> float:
    """Return one fma of finite numbers: Python divides integers with one rounding."""
    if a == 0 or b == 0:
        return a * b + c
    (a_over, a_under), (b_over, b_under) = a.as_integer_ratio(), b.as_integer_ratio()
    c_over, c_under = c.as_integer_ratio()
    over = a_over * b_over * c_under + c_over * a_under * b_under
    try:
        return over / (a_under * b_under * c_under)
    except OverflowError:
        return float("inf") if over > 0 else float("-inf")

"""tanh and logistic in NumPy: sequences of IEEE operations and FMAs with the same bits everywhere.

The kernels (kernels/fastmlp_kernels/arithmetic/sigmoids.py) do the same operations. Both compute
in float64.

    tanh(x) = (1 - e) / (1 + e) with x's sign, e = exp(-2 |x|)
    logistic(x) = 1 / (1 + e), e = exp(-x)

exp's reduction and its polynomial (elementary.py) give e = 2^k (1 + q), q = e^r - 1. Then 1 - e is
(1 - 2^k) - 2^k q, and 1 + e is (1 + 2^k) + 2^k q, with one rounding in the first bracket at most,
and none where it would matter: near 0, where k is 0, tanh has all digits of q. Where one float64
isn't enough, a sum is kept as high + low, exact by Dekker's Fast2Sum; so is a quotient, by the
remainder that an FMA gives. `tests/prove_elementary.py` does the proof and the measurements stated.
"""

import numpy as np

from ..checks import Array, real_arrays
from .elementary import (
    EXP_FLOAT64,
    HALF,
    INTEGER,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    MANTISSA_BITS,
    ONE,
    polynomial,
    round_to_odd,
)
from .fma import fma


def tanh(x: Array) -> Array:
    """Return the hyperbolic tangent of x, elementwise, in x's shape and dtype.

    float32: correctly rounded, for every input. float64: at most 0.85 ulp from the exact value
    (0.7966 at 0x1.61b0a1215a545p-3, the worst of 2 * 10^7 samples).
    tanh(-x) = -tanh(x) in every bit, +-0 and tiny x give x, +-inf gives +-1, a NaN a NaN.
    Raises TypeError for other dtypes.
    """
    (x,) = real_arrays(x=x)
    with np.errstate(all="ignore"):
        y = _tanh_float32(x) if x.dtype == np.float32 else _tanh_float64(x)
        return np.copysign(y, x)


def logistic(x: Array) -> Array:
    """Return 1 / (1 + e^-x), elementwise, in x's shape and dtype.

    float32: correctly rounded, for every input. float64: at most 0.65 ulp from the exact value
    (0.6166 at -0x1.3f07280671a60p+5), but 0.82 where the result is subnormal, as that is rounded
    twice (0.7910 at -0x1.6262487f2ddcdp+9); these are the worst of 2 * 10^7 samples.
    logistic(0) = 0.5, -inf gives +0, inf 1, a NaN a NaN. Raises TypeError for other dtypes.
    """
    (x,) = real_arrays(x=x)
    with np.errstate(all="ignore"):
        return np.asarray(_logistic_float32(x) if x.dtype == np.float32 else _logistic_float64(x))


def _power(k: Array) -> Array:
    """Return 2^k for integers k from -1022 on."""
    bits = (np.asarray(k + INTEGER).view(np.uint64) << MANTISSA_BITS) + ONE.view(np.uint64)
    return np.asarray(bits).view(np.float64)


def _integer_of(x: Array) -> Array:
    """Return k = x / log(2), rounded to an integer."""
    return np.asarray(fma(x, LOG2_E, INTEGER) - INTEGER)


def _reduced(x: Array, k: Array) -> tuple[Array, Array]:
    """Return r and small with e^x = 2^k * (1 + r + small); for k = 0, r is x."""
    high = fma(-k, LN2_HIGH, x)
    r = fma(-k, LN2_LOW, high)
    r_low = fma(-k, LN2_LOW, high - r)
    q = fma(polynomial(EXP_FLOAT64, r, r * r), r, HALF)
    return r, fma(fma(q, r, r_low), r, r_low)


def _expm1_of_rest(x: Array, k: Array) -> Array:
    """Return q with e^x = 2^k * (1 + q)."""
    r = fma(-k, LN2_LOW, fma(-k, LN2_HIGH, x))
    square = r * r
    return fma(fma(polynomial(EXP_FLOAT64, r, square), r, HALF), square, r)


def _tanh_float32(x: Array) -> Array:
    t = -2 * np.abs(x.astype(np.float64))
    t = np.where(t < -20.1, -20.1, t)
    k = _integer_of(t)
    power = _power(k)
    top = fma(-power, _expm1_of_rest(t, k), 1 - power)
    return np.asarray(top / (2 - top)).astype(np.float32)


def _tanh_float64(x: Array) -> Array:
    t = -2 * np.abs(x)
    t = np.where(t < -40, -40.0, t)
    k = _integer_of(t)
    power = _power(k)
    r, small = _reduced(t, k)
    # 1 - e = top + top_low
    rest = 1 - power
    lost = (1 - rest) - power
    high = fma(-power, r, rest)
    low = fma(-power, small, fma(-power, r, rest - high) + lost)
    top = high + low
    top_low = (high - top) + low
    # 1 + e = 2 - (1 - e) = bottom + bottom_low
    bottom = 2 - top
    bottom_low = ((2 - bottom) - top) - top_low
    inverse = 1 / bottom
    y = top * inverse
    error = fma(-y, bottom, top) + fma(-y, bottom_low, top_low)
    return fma(error, inverse, y)


def _logistic_float32(x: Array) -> Array:
    t = -x.astype(np.float64)
    t = np.where(t > 104.1, 104.1, t)
    t = np.where(t < -89.1, -89.1, t)
    k = _integer_of(t)
    power, q = _power(k), _expm1_of_rest(t, k)
    # 1 + e = bottom + bottom_low
    base = 1 + power
    bottom = fma(power, q, base)
    bottom_low = fma(power, q, base - bottom)
    inverse = 1 / bottom
    error = inverse * fma(-inverse, bottom_low, fma(-inverse, bottom, ONE))
    # Near 0, y is so close to midpoints of two float32, 1/2 + x / 4, that float64 falls on them.
    y = inverse + error
    return round_to_odd(y, (inverse - y) + error).astype(np.float32)


def _logistic_float64(x: Array) -> Array:
    t = np.where(x < -746, 746.0, -x)
    t = np.where(t < -64, -64.0, t)
    k = _integer_of(t)
    r, small = _reduced(t, k)
    # From e = 2^64 on, the 1 of 1 + e doesn't matter: the powers of two left are multiplied last.
    k_left = np.where(k < 64, k, 64.0)
    power = _power(k_left)
    # 1 + e = bottom + bottom_low; 1 + power by Knuth's TwoSum, as either can be the larger
    base = 1 + power
    power_part = base - 1
    lost = (1 - (base - power_part)) + (power - power_part)
    high = fma(power, r, base)
    low = fma(power, small, fma(power, r, base - high) + lost)
    bottom = high + low
    bottom_low = (high - bottom) + low
    inverse = 1 / bottom
    error = fma(-inverse, bottom_low, fma(-inverse, bottom, ONE))
    return np.asarray(fma(inverse, error, inverse) * _power(k_left - k))

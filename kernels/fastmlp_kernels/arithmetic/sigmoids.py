"""tanh and logistic: scalar functions for jitted loops, and kernels over arrays.

tanh(x) = (1 - e) / (1 + e) with x's sign, e = exp(-2 |x|); logistic(x) = 1 / (1 + e), e = exp(-x).
e is 2^k * (1 + r + ...), and 1 is added to 2^k first: no digit of r is lost. As exp and log,
without branches or tables. The reference, fastmlp/reference/sigmoids.py, does the same operations,
explains them and states the errors.
"""

import numpy as np
from numba.core import types
from numba.extending import overload

from fastmlp_kernels.arithmetic.elementary import (
    EXP_FLOAT64,
    INTEGER,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    MANTISSA_BITS,
    polynomial,
    round_to_odd,
    to_bits,
    to_float,
)
from fastmlp_kernels.arithmetic.elementwise import elementwise
from fastmlp_kernels.arithmetic.float_mode import in_ieee_mode
from fastmlp_kernels.arithmetic.fma import fma
from fastmlp_kernels.compiling.jit import jit, kernel, packed, result

ONE_BITS = np.uint64(0x3FF0000000000000)
SIGN = np.uint64(0x8000000000000000)


@jit
def _power(k):
    # 2^k for an integer k from -1022 on
    return to_float((to_bits(k + INTEGER) << MANTISSA_BITS) + ONE_BITS)


@jit
def _with_sign(y, x):
    return to_float(to_bits(y) | (to_bits(x) & SIGN))


@jit
def _integer_of(x):
    return fma(x, LOG2_E, INTEGER) - INTEGER


@jit
def _reduced(x, k):
    """r and small with e^x = 2^k * (1 + r + small); for k = 0, r is x."""
    high = fma(-k, LN2_HIGH, x)
    r = fma(-k, LN2_LOW, high)
    r_low = fma(-k, LN2_LOW, high - r)
    q = fma(polynomial(EXP_FLOAT64, r, r * r), r, 0.5)
    return r, fma(fma(q, r, r_low), r, r_low)


@jit
def _expm1_of_rest(x, k):
    r = fma(-k, LN2_LOW, fma(-k, LN2_HIGH, x))
    square = r * r
    return fma(fma(polynomial(EXP_FLOAT64, r, square), r, 0.5), square, r)


@jit
def _tanh_float32(x):
    wide = np.float64(x)
    t = -2.0 * abs(wide)
    t = -20.1 if t < -20.1 else t
    k = _integer_of(t)
    power = _power(k)
    top = fma(-power, _expm1_of_rest(t, k), 1.0 - power)
    return np.float32(_with_sign(top / (2.0 - top), wide))


@jit
def _tanh_float64(x):
    t = -2.0 * abs(x)
    t = -40.0 if t < -40.0 else t
    k = _integer_of(t)
    power = _power(k)
    r, small = _reduced(t, k)
    # 1 - e = top + top_low, 1 + e = 2 - (1 - e) = bottom + bottom_low
    rest = 1.0 - power
    lost = (1.0 - rest) - power
    high = fma(-power, r, rest)
    low = fma(-power, small, fma(-power, r, rest - high) + lost)
    top = high + low
    top_low = (high - top) + low
    bottom = 2.0 - top
    bottom_low = ((2.0 - bottom) - top) - top_low
    inverse = 1.0 / bottom
    y = top * inverse
    error = fma(-y, bottom, top) + fma(-y, bottom_low, top_low)
    return _with_sign(fma(error, inverse, y), x)


@jit
def _logistic_float32(x):
    t = -np.float64(x)
    t = 104.1 if t > 104.1 else t
    t = -89.1 if t < -89.1 else t
    k = _integer_of(t)
    power = _power(k)
    rest = _expm1_of_rest(t, k)
    # 1 + e = bottom + bottom_low
    base = 1.0 + power
    bottom = fma(power, rest, base)
    bottom_low = fma(power, rest, base - bottom)
    inverse = 1.0 / bottom
    error = inverse * fma(-inverse, bottom_low, fma(-inverse, bottom, 1.0))
    y = inverse + error
    return np.float32(round_to_odd(y, (inverse - y) + error))


@jit
def _logistic_float64(x):
    t = -x
    t = 746.0 if t > 746.0 else t
    t = -64.0 if t < -64.0 else t
    k = _integer_of(t)
    r, small = _reduced(t, k)
    # From 2^64 on, the 1 of 1 + e doesn't matter: e may be any power of two smaller.
    k_left = k if k < 64.0 else 64.0
    power = _power(k_left)
    base = 1.0 + power
    power_part = base - 1.0
    lost = (1.0 - (base - power_part)) + (power - power_part)
    high = fma(power, r, base)
    low = fma(power, small, fma(power, r, base - high) + lost)
    bottom = high + low
    bottom_low = (high - bottom) + low
    inverse = 1.0 / bottom
    error = fma(-inverse, bottom_low, fma(-inverse, bottom, 1.0))
    return fma(inverse, error, inverse) * _power(k_left - k)


_TANH = {types.float32: _tanh_float32, types.float64: _tanh_float64}
_LOGISTIC = {types.float32: _logistic_float32, types.float64: _logistic_float64}


def tanh(x):
    """Return tanh(x) of a float32 or float64 scalar, in its dtype; in jitted code only."""
    raise NotImplementedError("tanh runs in jitted code only: call tanh_array on an array")


def logistic(x):
    """Return 1 / (1 + e^-x) of a float32 or float64 scalar, in its dtype; in jitted code only."""
    raise NotImplementedError("logistic runs in jitted code only: call logistic_array on an array")


@overload(tanh)
def _overload_tanh(x):
    kernel = _TANH.get(x)
    return (lambda x: kernel(x)) if kernel else None


@overload(logistic)
def _overload_logistic(x):
    kernel = _LOGISTIC.get(x)
    return (lambda x: kernel(x)) if kernel else None


_tanh_all = elementwise(tanh)
_logistic_all = elementwise(logistic)


@in_ieee_mode
def _tanh_array(x, out):
    _tanh_all(x, out)


@in_ieee_mode
def _logistic_array(x, out):
    _logistic_all(x, out)


@kernel(lambda real: (packed(real, 1), result(real, 1)))
def tanh_array(x, out):
    """out[i] = tanh(x[i]); x and out: one dtype, float32 or float64, shape (n,), contiguous."""
    _tanh_array(x, out)


@kernel(lambda real: (packed(real, 1), result(real, 1)))
def logistic_array(x, out):
    """out[i] = 1 / (1 + e^-x[i]); x and out: one dtype, float32 or float64, shape (n,)."""
    _logistic_array(x, out)

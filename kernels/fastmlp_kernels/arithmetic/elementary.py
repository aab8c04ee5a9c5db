"""exp and log: scalar functions for jitted loops, and kernels over arrays.

exp(x) = 2^k * e^(x - k log(2)), k = round(x / log(2)); log(x) = k log(2) + log(m), x = 2^k m.
Without branches or tables, so that a loop around them becomes vector code. The reference,
fastmlp/reference/elementary.py, does the same operations, explains them and states the errors.
"""

import numpy as np
from numba.core import types
from numba.extending import overload

from fastmlp_kernels.arithmetic import lanes
from fastmlp_kernels.arithmetic.elementwise import elementwise, on_lanes
from fastmlp_kernels.arithmetic.float_mode import in_ieee_mode
from fastmlp_kernels.arithmetic.fma import fma
from fastmlp_kernels.arithmetic.lanes import LANES
from fastmlp_kernels.arithmetic.quick_exp import IS_QUICK, quick_exp
from fastmlp_kernels.compiling.jit import jit, kernel, packed, result

LOG2_E = float.fromhex("0x1.71547652b82fep+0")
LN2_HIGH = float.fromhex("0x1.62e42fefa3800p-1")  # 42 bits: k * LN2_HIGH is exact
LN2_LOW = float.fromhex("0x1.ef35793c76730p-45")
INTEGER = 1.5 * 2.0**52  # x + INTEGER is x rounded to an integer k, with k in the low bits
BIASED = INTEGER + 2046.0  # the same with k + 2 * 1023 in the low bits

# 64-bit patterns and shift counts: unsigned, so that a shift to the right brings in zeros.
MANTISSA_BITS = np.uint64(52)
ONE_BIT = np.uint64(1)
SIGN_PLACE = np.uint64(63)
MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
SQRT_HALF = np.uint64(0x3FE6A09E667F3BCD)
ONE_LESS_SQRT_HALF = np.uint64(0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
TWO_52 = np.uint64(0x4330000000000000)

# Polynomials, lowest degree first; the reference tells how they were made.
EXP_FLOAT32 = (
    float.fromhex("0x1.62e42fefa3a17p-1"),
    float.fromhex("0x1.ebfbdff82c466p-3"),
    float.fromhex("0x1.c6b08d703d5c5p-5"),
    float.fromhex("0x1.3b2ab6fbd00bap-7"),
    float.fromhex("0x1.5d87fe9ca4f56p-10"),
    float.fromhex("0x1.4309127e6b1e7p-13"),
    float.fromhex("0x1.ffcb563c1b95bp-17"),
    float.fromhex("0x1.62c11ed8e9f76p-20"),
    float.fromhex("0x1.b673c74588e44p-24"),
    float.fromhex("0x1.e3e8889e1c794p-28"),
)

EXP_FLOAT64 = (
    float.fromhex("0x1.555555555555cp-3"),
    float.fromhex("0x1.5555555555541p-5"),
    float.fromhex("0x1.111111110ea07p-7"),
    float.fromhex("0x1.6c16c16c1fa91p-10"),
    float.fromhex("0x1.a01a01b43d5a3p-13"),
    float.fromhex("0x1.a01a0176eec80p-16"),
    float.fromhex("0x1.71ddee88e6507p-19"),
    float.fromhex("0x1.27e540b70976dp-22"),
    float.fromhex("0x1.af6e55fc7f5ffp-26"),
    float.fromhex("0x1.1ed9995379485p-29"),
)

LOG_FLOAT32 = (
    float.fromhex("-0x1.ffffffffffee9p-2"),
    float.fromhex("0x1.55555555556d9p-2"),
    float.fromhex("-0x1.0000000021d5bp-2"),
    float.fromhex("0x1.99999999a4f7ep-3"),
    float.fromhex("-0x1.5555552efb3a4p-3"),
    float.fromhex("0x1.249248f98cd10p-3"),
    float.fromhex("-0x1.000009b6c2d40p-3"),
    float.fromhex("0x1.c71c9637cffa7p-4"),
    float.fromhex("-0x1.999709793ce83p-4"),
    float.fromhex("0x1.74567c3134958p-4"),
    float.fromhex("-0x1.55841af2fc349p-4"),
    float.fromhex("0x1.3bb22cdfa2904p-4"),
    float.fromhex("-0x1.22ec8aec85d91p-4"),
    float.fromhex("0x1.0922bd33e3ca8p-4"),
    float.fromhex("-0x1.03991cb765c81p-4"),
    float.fromhex("0x1.227ddcd80433fp-4"),
    float.fromhex("-0x1.0ec0fdf7edb26p-4"),
    float.fromhex("0x1.eaa7d1dec3912p-6"),
)

LOG_FLOAT64 = (
    float.fromhex("0x1.555555555556fp-2"),
    float.fromhex("-0x1.ffffffffffe54p-3"),
    float.fromhex("0x1.99999999946f2p-3"),
    float.fromhex("-0x1.555555556dc05p-3"),
    float.fromhex("0x1.249249277ee5cp-3"),
    float.fromhex("-0x1.fffffff19379fp-4"),
    float.fromhex("0x1.c71c70228f753p-4"),
    float.fromhex("-0x1.99999b0aa7984p-4"),
    float.fromhex("0x1.745d5a357fd00p-4"),
    float.fromhex("-0x1.55556aa73ef09p-4"),
    float.fromhex("0x1.3b0d57a39416ep-4"),
    float.fromhex("-0x1.248a1b1898744p-4"),
    float.fromhex("0x1.116c40df92bbfp-4"),
    float.fromhex("-0x1.00c7ce122402ep-4"),
    float.fromhex("0x1.dc64f46e38294p-5"),
    float.fromhex("-0x1.b4a53621f7de2p-5"),
    float.fromhex("0x1.bcee3ad28b594p-5"),
    float.fromhex("-0x1.010304385109dp-4"),
    float.fromhex("0x1.cf57d3b74cc84p-5"),
    float.fromhex("-0x1.8804c5c4713f2p-6"),
)


@jit
def to_bits(x):
    return np.float64(x).view(np.uint64)


@jit
def to_float(bits):
    return np.uint64(bits).view(np.float64)


@jit
def polynomial(coefficients, x, square):
    # Odd and even powers apart: two short chains of FMAs keep a CPU busier than one long chain.
    odd, even = coefficients[-1], coefficients[-2]
    for n in range(len(coefficients) - 3, 0, -2):
        odd, even = fma(odd, square, coefficients[n]), fma(even, square, coefficients[n - 1])
    return fma(odd, x, even)


@jit
def round_to_odd(total, error):
    # total + error, cut toward zero, with a sticky last bit: a second rounding can't go wrong.
    bits = to_bits(total)
    return to_float((bits - ((bits ^ to_bits(error)) >> SIGN_PLACE)) | ONE_BIT)


@jit
def _exp_float32(x):
    # The bounds are no float32 numbers, or LLVM would compare x with them before it is widened:
    # five instructions for two, and with AVX2 exp took 1.28 times as long.
    wide = np.float64(x)
    wide = -104.1 if wide < -104.1 else wide
    wide = 89.1 if wide > 89.1 else wide
    k = fma(wide, LOG2_E, INTEGER)
    f = fma(wide, LOG2_E, INTEGER - k)
    p = fma(polynomial(EXP_FLOAT32, f, f * f), f, 1.0)
    return np.float32(to_float(to_bits(p) + (to_bits(k) << MANTISSA_BITS)))


@jit
def _exp_float64(x):
    x = -746.0 if x < -746.0 else x
    x = 710.0 if x > 710.0 else x
    shifted = fma(x, LOG2_E, BIASED)
    minus_k = BIASED - shifted
    high = fma(minus_k, LN2_HIGH, x)
    r = fma(minus_k, LN2_LOW, high)
    r_low = fma(minus_k, LN2_LOW, high - r)
    large = 1.0 + r
    low = ((1.0 - large) + r) + r_low
    q = fma(polynomial(EXP_FLOAT64, r, r * r), r, 0.5)
    small = fma(fma(q, r, r_low), r, low)
    y = large + small
    bits = to_bits(shifted)
    half = bits >> ONE_BIT
    return y * to_float(half << MANTISSA_BITS) * to_float((bits - half) << MANTISSA_BITS)


@jit
def _log_float32(x):
    bits = to_bits(np.float64(x)) + ONE_LESS_SQRT_HALF
    k = to_float((bits >> MANTISSA_BITS) | TWO_52) - (2.0**52 + 1023.0)
    r = to_float((bits & MANTISSA) + SQRT_HALF) - 1.0
    large = k * LN2_HIGH
    square = r * r
    small = fma(k, LN2_LOW, fma(polynomial(LOG_FLOAT32, r, square), square, r))
    total = large + small
    y = np.float32(round_to_odd(total, (large - total) + small))
    y = y if x < np.float32(np.inf) else x
    y = y if x > np.float32(0.0) else np.float32(-np.inf)
    return y if x >= np.float32(0.0) else np.float32(np.nan)


@jit
def _log_float64(x):
    subnormal = x < 2.0**-1022
    bits = to_bits(x * 2.0**54 if subnormal else x) + ONE_LESS_SQRT_HALF
    bias = 2.0**52 + 1077.0 if subnormal else 2.0**52 + 1023.0
    k = to_float((bits >> MANTISSA_BITS) | TWO_52) - bias
    r = to_float((bits & MANTISSA) + SQRT_HALF) - 1.0
    square = r * r
    high = fma(square, -0.5, r)
    low = fma(fma(r, r, -square), -0.5, fma(square, -0.5, r - high))
    low = fma(polynomial(LOG_FLOAT64, r, square), r * square, low)
    large = k * LN2_HIGH
    total = large + high
    y = total + fma(k, LN2_LOW, ((large - total) + high) + low)
    y = y if x < np.inf else x
    y = y if x > 0.0 else -np.inf
    return y if x >= 0.0 else np.nan


_EXP = {types.float32: _exp_float32, types.float64: _exp_float64}
_LOG = {types.float32: _log_float32, types.float64: _log_float64}


def exp(x):
    """Return e^x of a float32 or float64 scalar, in its dtype; in jitted code only."""
    raise NotImplementedError("exp runs in jitted code only: call exp_array on an array")


def log(x):
    """Return the logarithm of a float32 or float64 scalar, in its dtype; in jitted code only."""
    raise NotImplementedError("log runs in jitted code only: call log_array on an array")


@overload(exp)
def _overload_exp(x):
    kernel = _EXP.get(x)
    return (lambda x: kernel(x)) if kernel else None


@overload(log)
def _overload_log(x):
    kernel = _LOG.get(x)
    return (lambda x: kernel(x)) if kernel else None


_exp_by_elements = elementwise(exp)
_exp_by_lane = on_lanes(exp)


@jit
def _exp_quickly(x):
    y, certain = quick_exp(x)
    return y if certain else _exp_by_lane(x)


@jit
def _exp_quickly_of_all(x, out):
    rest = x.size % LANES
    stop = x.size - rest
    for j in range(0, stop, LANES):
        lanes.store(out, j, _exp_quickly(lanes.load(x, j)))
    y = _exp_quickly(lanes.load_part(x, stop, rest, x.dtype.type(0)))
    lanes.store_part(out, stop, rest, y)


def exp_on_lanes(x):
    """Return e^x of 16 lanes; in jitted code only."""
    raise NotImplementedError("exp_on_lanes runs in jitted code only: call exp_array on an array")


def exp_all(x, out):
    """Write out = e^x; in jitted code only. x and out: 1-D, contiguous, and not the same memory."""
    raise NotImplementedError("exp_all runs in jitted code only: call exp_array")


@overload(exp_on_lanes)
def _overload_exp_on_lanes(x):
    one = _exp_quickly if IS_QUICK and x.real == types.float32 else _exp_by_lane
    return lambda x: one(x)


@overload(exp_all)
def _overload_exp_all(x, out):
    every = _exp_quickly_of_all if IS_QUICK and x.dtype == types.float32 else _exp_by_elements
    return lambda x, out: every(x, out)


log_all = elementwise(log)


@in_ieee_mode
def _exp_array(x, out):
    exp_all(x, out)


@in_ieee_mode
def _log_array(x, out):
    log_all(x, out)


@kernel(lambda real: (packed(real, 1), result(real, 1)))
def exp_array(x, out):
    """out[i] = e^x[i]; x and out: one dtype, float32 or float64, shape (n,), contiguous."""
    _exp_array(x, out)


@kernel(lambda real: (packed(real, 1), result(real, 1)))
def log_array(x, out):
    """out[i] = log(x[i]); x and out: one dtype, float32 or float64, shape (n,), contiguous."""
    _log_array(x, out)

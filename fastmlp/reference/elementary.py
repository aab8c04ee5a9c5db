"""exp and log in NumPy: sequences of IEEE operations and FMAs that give the same bits everywhere.

The kernels (kernels/fastmlp_kernels/arithmetic/elementary.py) do the same operations. Both compute
in float64.

Reduction. exp: k is x / log(2) rounded to an integer, e^x = 2^k e^r with |r| <= log(2) / 2. log:
x = 2^k m with m from sqrt(1/2) to sqrt(2), log(x) = k log(2) + log(1 + r) with r = m - 1, exact.
Polynomials in r then, with the even and the odd powers summed apart by Horner's rule.

Rounding to an integer: adding 1.5 * 2^52 leaves no room for a fraction; the integer is then in
the low bits of the sum (Hecker, "Let's get to the (floating) point", 1996). log(2) is the sum of
a high part of 42 bits, whose product with k is exact, and a low part (Cody & Waite, "Software
manual for the elementary functions", 1980). Where one float64 isn't enough, a sum is kept as
high + low, exact by Dekker's Fast2Sum ("A floating-point technique for extending the available
precision", 1971).

The coefficients are the weighted least squares fit of the relative error at Chebyshev nodes, four
for each coefficient, in 50 digits; from the lowest degree on, each is rounded to float64 and the
others fitted again (`fit` in tests/prove_elementary.py, which also does the proof and the
measurements stated below).
"""

import numpy as np
from numpy.typing import NDArray

from ..checks import Array, real_arrays
from .fma import fma

Float64s = NDArray[np.float64]


def _constants(*values: str) -> Float64s:
    return np.array([float.fromhex(value) for value in values])


LOG2_E, LN2_HIGH, LN2_LOW = _constants(
    "0x1.71547652b82fep+0", "0x1.62e42fefa3800p-1", "0x1.ef35793c76730p-45"
)
HALF, ONE, INTEGER = _constants("0x1p-1", "0x1p+0", "0x1.8p+52")

# 2^f = 1 + f * (EXP_FLOAT32[0] + EXP_FLOAT32[1] * f + ...) to 2.5e-16, |f| <= 1/2
EXP_FLOAT32 = _constants(
    "0x1.62e42fefa3a17p-1",
    "0x1.ebfbdff82c466p-3",
    "0x1.c6b08d703d5c5p-5",
    "0x1.3b2ab6fbd00bap-7",
    "0x1.5d87fe9ca4f56p-10",
    "0x1.4309127e6b1e7p-13",
    "0x1.ffcb563c1b95bp-17",
    "0x1.62c11ed8e9f76p-20",
    "0x1.b673c74588e44p-24",
    "0x1.e3e8889e1c794p-28",
)

# e^r = 1 + r + r^2 / 2 + r^3 * (EXP_FLOAT64[0] + ...) to 7.8e-20, |r| <= log(2) / 2
EXP_FLOAT64 = _constants(
    "0x1.555555555555cp-3",
    "0x1.5555555555541p-5",
    "0x1.111111110ea07p-7",
    "0x1.6c16c16c1fa91p-10",
    "0x1.a01a01b43d5a3p-13",
    "0x1.a01a0176eec80p-16",
    "0x1.71ddee88e6507p-19",
    "0x1.27e540b70976dp-22",
    "0x1.af6e55fc7f5ffp-26",
    "0x1.1ed9995379485p-29",
)

# log(1 + r) = r + r^2 * (LOG_FLOAT32[0] + ...) to 3.4e-16, sqrt(1/2) <= 1 + r <= sqrt(2)
LOG_FLOAT32 = _constants(
    "-0x1.ffffffffffee9p-2",
    "0x1.55555555556d9p-2",
    "-0x1.0000000021d5bp-2",
    "0x1.99999999a4f7ep-3",
    "-0x1.5555552efb3a4p-3",
    "0x1.249248f98cd10p-3",
    "-0x1.000009b6c2d40p-3",
    "0x1.c71c9637cffa7p-4",
    "-0x1.999709793ce83p-4",
    "0x1.74567c3134958p-4",
    "-0x1.55841af2fc349p-4",
    "0x1.3bb22cdfa2904p-4",
    "-0x1.22ec8aec85d91p-4",
    "0x1.0922bd33e3ca8p-4",
    "-0x1.03991cb765c81p-4",
    "0x1.227ddcd80433fp-4",
    "-0x1.0ec0fdf7edb26p-4",
    "0x1.eaa7d1dec3912p-6",
)

# log(1 + r) = r - r^2 / 2 + r^3 * (LOG_FLOAT64[0] + ...) to 1.9e-18, as above
LOG_FLOAT64 = _constants(
    "0x1.555555555556fp-2",
    "-0x1.ffffffffffe54p-3",
    "0x1.99999999946f2p-3",
    "-0x1.555555556dc05p-3",
    "0x1.249249277ee5cp-3",
    "-0x1.fffffff19379fp-4",
    "0x1.c71c70228f753p-4",
    "-0x1.99999b0aa7984p-4",
    "0x1.745d5a357fd00p-4",
    "-0x1.55556aa73ef09p-4",
    "0x1.3b0d57a39416ep-4",
    "-0x1.248a1b1898744p-4",
    "0x1.116c40df92bbfp-4",
    "-0x1.00c7ce122402ep-4",
    "0x1.dc64f46e38294p-5",
    "-0x1.b4a53621f7de2p-5",
    "0x1.bcee3ad28b594p-5",
    "-0x1.010304385109dp-4",
    "0x1.cf57d3b74cc84p-5",
    "-0x1.8804c5c4713f2p-6",
)

SQRT_HALF = np.float64(0.5**0.5).view(np.uint64)
ONE_LESS_SQRT_HALF = ONE.view(np.uint64) - SQRT_HALF
MANTISSA = np.uint64(2**52 - 1)
MANTISSA_BITS = np.uint64(52)


def exp(x: Array) -> Array:
    """Return e^x, elementwise, in x's shape and dtype.

    float32: correctly rounded, for every input. float64: at most 0.63 ulp from the exact value
    (0.6182 at -0x1.53d03ef793110p+9), but 0.78 where the result is subnormal, as that is rounded
    twice (0.7680 at -0x1.625dc66e331d4p+9); these are the worst of 10^8 samples. exp(0) = 1.
    Overflow gives inf, underflow +0, a NaN gives a NaN. Raises TypeError for other dtypes.
    """
    (x,) = real_arrays(x=x)
    with np.errstate(all="ignore"):
        return np.asarray(_exp_float32(x) if x.dtype == np.float32 else _exp_float64(x))


def log(x: Array) -> Array:
    """Return the natural logarithm of x, elementwise, in x's shape and dtype.

    float32: correctly rounded, for every input. float64: at most 0.7 ulp from the exact value
    (0.6838 at 0x1.6a07241005634p-1, the worst of 10^8 samples). log(1) = +0, log(0) = -inf,
    log(inf) = inf; a number below 0 or a NaN gives a NaN. Raises TypeError for other dtypes.
    """
    (x,) = real_arrays(x=x)
    with np.errstate(all="ignore"):
        y = _log_float32(x) if x.dtype == np.float32 else _log_float64(x)
        y = np.where(x < np.inf, y, x)
        y = np.where(x > 0, y, x.dtype.type(-np.inf))
        return np.where(x >= 0, y, x.dtype.type(np.nan))


def polynomial(coefficients: Float64s, x: Array, square: Array) -> Array:
    """Return the sum of coefficients[n] * x^n: (even powers) + x * (odd powers)."""
    even, odd = coefficients[-2], coefficients[-1]
    for n in range(len(coefficients) - 4, -1, -2):
        even = fma(even, square, coefficients[n])
        odd = fma(odd, square, coefficients[n + 1])
    return fma(odd, x, even)


def round_to_odd(total: Array, error: Array) -> Array:
    """Return total + error, cut toward zero, with the last bit set: ready for another rounding."""
    bits = np.asarray(total).view(np.uint64)
    other_sign = (bits ^ np.asarray(error).view(np.uint64)) >> np.uint64(63)
    return np.asarray((bits - other_sign) | np.uint64(1)).view(np.float64)


def _exp_float32(x: Array) -> Array:
    # e^x = 2^k 2^f with f = x log2(e) - k. Beyond the clamps the result is the same inf or 0. The
    # cast rounds to float32, subnormal or not: for every x, the float64 is on the same side as e^x
    # of every midpoint of two float32 (proved by trying all).
    x = np.where(x < -104, np.float32(-104), x)
    x = np.where(x > 89, np.float32(89), x).astype(np.float64)
    shifted = fma(x, LOG2_E, INTEGER)
    f = fma(x, LOG2_E, INTEGER - shifted)
    p = fma(polynomial(EXP_FLOAT32, f, f * f), f, ONE)
    # k goes to the exponent: p's bits plus k * 2^52.
    bits = p.view(np.uint64) + (shifted.view(np.uint64) << MANTISSA_BITS)
    return bits.view(np.float64).astype(np.float32)


def _exp_float64(x: Array) -> Array:
    x = np.where(x < -746, -746.0, x)
    x = np.where(x > 710, 710.0, x)
    # The low bits of `shifted` hold k + 2046, twice the exponent's bias.
    shifted = fma(x, LOG2_E, INTEGER + 2046)
    minus_k = (INTEGER + 2046) - shifted
    # r + r_low = x - k log(2)
    high = fma(minus_k, LN2_HIGH, x)
    r = fma(minus_k, LN2_LOW, high)
    r_low = fma(minus_k, LN2_LOW, high - r)
    # e^r = large + small, large = 1 + r rounded, small = what that cut off + r_low + r^2 q(r)
    large = 1 + r
    low = ((1 - large) + r) + r_low
    q = fma(polynomial(EXP_FLOAT64, r, r * r), r, HALF)
    small = fma(fma(q, r, r_low), r, low)
    # 2^k in two factors, as it can lie outside of the normal numbers where the result doesn't.
    bits = shifted.view(np.uint64)
    half = bits >> np.uint64(1)
    factor = (half << MANTISSA_BITS).view(np.float64)
    return (large + small) * factor * ((bits - half) << MANTISSA_BITS).view(np.float64)


def _split(x: Array, bias: Array) -> tuple[Array, Array]:
    """Return k and r with x = 2^k * (1 + r), 1 + r from sqrt(1/2) to sqrt(2); x normal, > 0."""
    bits = x.view(np.uint64) + ONE_LESS_SQRT_HALF
    m = (bits & MANTISSA) + SQRT_HALF
    # An integer n below 2^52, put into the low bits of 2^52, makes 2^52 + n.
    exponent = (bits >> MANTISSA_BITS) | np.float64(2.0**52).view(np.uint64)
    return exponent.view(np.float64) - (2.0**52 + bias), m.view(np.float64) - 1


def _log_float32(x: Array) -> Array:
    k, r = _split(x.astype(np.float64), np.asarray(1023.0))
    square = r * r
    large = k * LN2_HIGH
    small = fma(k, LN2_LOW, fma(polynomial(LOG_FLOAT32, r, square), square, r))
    # Rounded to nearest, large + small falls on a midpoint of two float32 for a few x, and the cast
    # goes wrong for five of them.
    total = large + small
    return round_to_odd(total, (large - total) + small).astype(np.float32)


def _log_float64(x: Array) -> Array:
    subnormal = x < 2.0**-1022
    k, r = _split(np.where(subnormal, x * 2.0**54, x), np.where(subnormal, 1077.0, 1023.0))
    # log(1 + r) = high + low, high = r - r^2 / 2 rounded
    square = r * r
    high = fma(square, -HALF, r)
    low = fma(fma(r, r, -square), -HALF, fma(square, -HALF, r - high))
    low = fma(polynomial(LOG_FLOAT64, r, square), r * square, low)
    large = k * LN2_HIGH
    total = large + high
    y: Array = total + fma(k, LN2_LOW, ((large - total) + high) + low)
    return y

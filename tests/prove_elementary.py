"""Prove float32 exp, log, tanh and logistic correctly rounded for all 2^32 inputs; measure float64.

Each exact value is enclosed by a sum of two float64 (`wide_exp` and so on: Taylor series, which
share nothing with the functions under test but the FMA). A result is right when the enclosure
lies between the midpoints to its two neighbours. What the enclosure can't decide goes to mpmath.

Run: python tests/prove_elementary.py (some minutes), for all four or those named. The exit status
is 1 if anything failed.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from math import factorial, frexp

import mpmath
import numba
import numpy as np
from fastmlp_kernels.arithmetic import elementary, lanes
from fastmlp_kernels.arithmetic.elementary import exp, exp_array, exp_on_lanes, log_array
from fastmlp_kernels.arithmetic.fma import fma
from fastmlp_kernels.arithmetic.quick_exp import IS_QUICK
from fastmlp_kernels.arithmetic.sigmoids import logistic_array, tanh_array
from fastmlp_kernels.compiling.jit import FLAGS

jit = numba.njit(**FLAGS)  # the kernels' own has no machine code for Python to call
RIGHT, UNDECIDED, WRONG = 0, 1, 2
ERROR = 2.0**-80  # relative, of both enclosures
CHUNK, BLOCK = 1 << 20, 1 << 10
FUNCTIONS = {"exp": exp_array, "log": log_array, "tanh": tanh_array, "logistic": logistic_array}


def _pieces(value, count, bits):
    """`value` as `count` float64 of at most `bits` bits each, the rest in the last."""
    pieces = []
    for _ in range(count - 1):
        scale = mpmath.mpf(2) ** (bits - 1 - mpmath.floor(mpmath.log(abs(value), 2)))
        pieces.append(float(mpmath.floor(value * scale) / scale))
        value -= mpmath.mpf(pieces[-1])
    return (*pieces, float(value))


def _pair(fraction):
    """The fraction as an unevaluated sum of two float64."""
    high = fraction.numerator / fraction.denominator
    rest = fraction - Fraction(high)
    return high, rest.numerator / rest.denominator


with mpmath.workprec(300):
    LN2_1, LN2_2, LN2_3 = _pieces(mpmath.log(2), 3, 40)
LOG2_E = 1.4426950408889634
ROUND = 1.5 * 2.0**52
EXP_SERIES = np.array([_pair(Fraction(1, factorial(n))) for n in range(23)])
EXPM1_SERIES = EXP_SERIES[1:]  # of expm1(r) / r
ATANH_SERIES = np.array([_pair(Fraction(1, 2 * n + 1)) for n in range(19)])


@jit
def _two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@jit
def _fast_two_sum(a, b):
    s = a + b
    return s, (a - s) + b


@jit
def _multiply(a_high, a_low, b_high, b_low):
    p = a_high * b_high
    return _fast_two_sum(p, fma(a_high, b_low, fma(a_low, b_high, fma(a_high, b_high, -p))))


@jit
def _add(a_high, a_low, b_high, b_low):
    s, e = _two_sum(a_high, b_high)
    return _fast_two_sum(s, e + (a_low + b_low))


@jit
def _divide(a_high, a_low, b_high, b_low):
    q = a_high / b_high
    return _fast_two_sum(q, (fma(-q, b_high, a_high) + fma(-q, b_low, a_low)) / b_high)


@jit
def _power_of_two(k):
    return np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@jit
def wide_exp(x, k, high, low):
    """e^x = 2^k * (high + low) * (1 + d), |d| < 2^-80, for |x| < 1100; float64, shape (n,).

    r = x - k * log(2) to 2^-105, |r| < 0.347. The Taylor series to r^22 / 22! leaves out less than
    2^-108; its terms from r^10 / 10! < 2^-37 are summed in float64 (error below 2^-86), the
    others in pairs of float64 (error below 2^-98).
    """
    r, r_low = np.empty_like(x), np.empty_like(x)
    _reduce(x, k, r, r_low)
    _series(EXP_SERIES, 10, r, r_low, high, low)


@jit
def _reduce(x, k, r, r_low):
    for i in range(x.size):
        k[i] = (x[i] * LOG2_E + ROUND) - ROUND
        first, rest = _two_sum(fma(k[i], -LN2_1, x[i]), -k[i] * LN2_2)
        r[i], r_low[i] = _fast_two_sum(first, fma(k[i], -LN2_3, rest))


@jit
def _series(terms, pairs, r, r_low, high, low):
    """high + low = sum of terms[n] * r^n by Horner's rule, the first `pairs` terms in pairs."""
    high[:], low[:] = terms[-1, 0], 0.0
    for n in range(len(terms) - 2, pairs - 1, -1):
        for i in range(r.size):
            high[i] = fma(high[i], r[i], terms[n, 0])
    for n in range(pairs - 1, -1, -1):
        for i in range(r.size):
            p, p_low = _multiply(high[i], low[i], r[i], r_low[i])
            high[i], low[i] = _add(terms[n, 0], terms[n, 1], p, p_low)


@jit
def wide_log(x, high, low):
    """log(x) = (high + low) * (1 + d), |d| < 2^-80, for 0 < x < inf; float64, shape (n,).

    x = 2^k * m, 0.7 < m < 1.42; log(m) = 2 * atanh(s), s = (m - 1) / (m + 1), z = s^2 < 0.0302. The
    series to z^18 / 37 leaves out less than 2^-100 of it; its terms from z^8 / 17 < 2^-44 are
    summed in float64 (error below 2^-94), the others in pairs of float64 (below 2^-98).
    """
    k, s, s_low = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    z, z_low = np.empty_like(x), np.empty_like(x)
    for i in range(x.size):
        m, exponent = frexp(x[i])
        k[i] = exponent - 1 if m < 0.71 else exponent
        m = 2.0 * m if m < 0.71 else m
        d, d_low = _two_sum(m, 1.0)
        q = (m - 1.0) / d
        s[i], s_low[i] = _fast_two_sum(q, fma(-q, d_low, fma(-q, d, m - 1.0)) / d)
        z[i], z_low[i] = _multiply(s[i], s_low[i], s[i], s_low[i])
    _series(ATANH_SERIES, 8, z, z_low, high, low)
    for i in range(x.size):
        p, p_low = _multiply(high[i], low[i], 2.0 * s[i], 2.0 * s_low[i])
        first, rest = _two_sum(k[i] * LN2_1, k[i] * LN2_2)
        first, rest = _fast_two_sum(first, fma(k[i], LN2_3, rest))
        high[i], low[i] = _add(first, rest, p, p_low)


@jit
def wide_tanh(x, high, low):
    """tanh(x) = (high + low) * (1 + d), |d| < 2^-80, for |x| < 500; float64, shape (n,).

    m = expm1(-2 |x|) = (2^k - 1) + 2^k * (e^r - 1), where e^r - 1 is r times a series as that of
    wide_exp: for k = 0 it is m, and from k = -1 on |m| is above 0.29. Then -m / (m + 2).
    """
    t = -2.0 * np.abs(x)
    k, r, r_low = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    _reduce(t, k, r, r_low)
    _series(EXPM1_SERIES, 10, r, r_low, high, low)
    for i in range(x.size):
        p, p_low = _multiply(high[i], low[i], r[i], r_low[i])
        power = _power_of_two(k[i])
        base, base_low = _two_sum(power, -1.0)
        m, m_low = _add(base, base_low, power * p, power * p_low)
        d, d_low = _add(2.0, 0.0, m, m_low)
        q, q_low = _divide(-m, -m_low, d, d_low)
        sign = -1.0 if x[i] < 0.0 else 1.0
        high[i], low[i] = sign * q, sign * q_low


@jit
def wide_logistic(x, k, high, low):
    """logistic(x) = 2^k * (high + low) * (1 + d), |d| < 2^-80, for |x| < 1000; float64, (n,).

    e = exp(-|x|): 1 / (1 + e), or where x < 0, e / (1 + e), whose power of two is kept apart.
    """
    wide_exp(-np.abs(x), k, high, low)
    for i in range(x.size):
        power = _power_of_two(max(k[i], -200.0))
        d, d_low = _add(1.0, 0.0, power * high[i], power * low[i])
        if x[i] < 0.0:
            high[i], low[i] = _divide(high[i], low[i], d, d_low)
        else:
            high[i], low[i] = _divide(1.0, 0.0, d, d_low)
            k[i] = 0.0


@jit
def _verdict(y, high, low):
    """Whether y is the float32 nearest to high + low; infinity stands for 2^128."""
    bits = np.float32(abs(y)).view(np.int32)
    wide = 2.0**128 if np.isinf(y) else np.float64(abs(y))
    above = np.float64(np.int32(bits + 1).view(np.float32))
    below = np.float64(np.int32(max(bits - 1, 0)).view(np.float32))
    above = 2.0**128 if np.isinf(above) else above
    to_above = np.inf if np.isinf(y) else 0.5 * wide + 0.5 * above
    to_below = -np.inf if bits == 0 else 0.5 * wide + 0.5 * below
    sign = -1.0 if y < 0.0 else 1.0
    room = min((to_above - sign * high) - sign * low, (sign * high - to_below) + sign * low)
    bound = ERROR * abs(high)
    if room > bound:
        return RIGHT
    return WRONG if room < -bound else UNDECIDED


@jit
def judge_exp(x, y, verdict):
    """verdict[i]: RIGHT, WRONG or UNDECIDED, for y[i] = exp(x[i]); float32, shape (n,)."""
    for start in range(0, x.size, BLOCK):
        wide_x = x[start : start + BLOCK].astype(np.float64)
        for i in range(wide_x.size):
            wide_x[i] = min(max(wide_x[i], -105.0), 90.0)
        k, high, low = np.empty_like(wide_x), np.empty_like(wide_x), np.empty_like(wide_x)
        wide_exp(wide_x, k, high, low)
        for i in range(wide_x.size):
            scale = _power_of_two(k[i])
            verdict[start + i] = _verdict(y[start + i], high[i] * scale, low[i] * scale)


@jit
def judge_log(x, y, verdict):
    """verdict[i]: RIGHT, WRONG or UNDECIDED, for y[i] = log(x[i]), 0 < x[i] < inf."""
    for start in range(0, x.size, BLOCK):
        wide_x = x[start : start + BLOCK].astype(np.float64)
        high, low = np.empty_like(wide_x), np.empty_like(wide_x)
        wide_log(wide_x, high, low)
        for i in range(wide_x.size):
            verdict[start + i] = _verdict(y[start + i], high[i], low[i])
            if wide_x[i] == 1.0 and np.float32(y[start + i]).view(np.int32) == 0:
                verdict[start + i] = RIGHT


@jit
def judge_tanh(x, y, verdict):
    """verdict[i]: RIGHT, WRONG or UNDECIDED, for y[i] = tanh(x[i]), x not 0."""
    for start in range(0, x.size, BLOCK):
        wide_x = x[start : start + BLOCK].astype(np.float64)
        for i in range(wide_x.size):
            wide_x[i] = min(max(wide_x[i], -20.0), 20.0)
        high, low = np.empty_like(wide_x), np.empty_like(wide_x)
        wide_tanh(wide_x, high, low)
        for i in range(wide_x.size):
            verdict[start + i] = _verdict(y[start + i], high[i], low[i])


@jit
def judge_logistic(x, y, verdict):
    """verdict[i]: RIGHT, WRONG or UNDECIDED, for y[i] = logistic(x[i]); float32, shape (n,)."""
    for start in range(0, x.size, BLOCK):
        wide_x = x[start : start + BLOCK].astype(np.float64)
        for i in range(wide_x.size):
            wide_x[i] = min(max(wide_x[i], -105.0), 90.0)
        k, high, low = np.empty_like(wide_x), np.empty_like(wide_x), np.empty_like(wide_x)
        wide_logistic(wide_x, k, high, low)
        for i in range(wide_x.size):
            scale = _power_of_two(k[i])
            verdict[start + i] = _verdict(y[start + i], high[i] * scale, low[i] * scale)


@jit
def _exp_by_float64(x, y):
    for i in range(x.size):
        y[i] = exp(x[i])


@jit
def _exp_alone(x, y):
    for i in range(x.size):
        y[i] = lanes.largest_of_lanes(exp_on_lanes(lanes.splat(x[i])))


def others(name, x):
    """Yield f(x) by each other way in which a kernel here may get it; float32, shape (n,).

    Where the quick exp isn't certain of one lane, all 16 go by float64: what each way makes of a
    number, its neighbours may hide. So here all numbers go by float64, then each fills 16 lanes.
    """
    if name == "exp" and IS_QUICK:
        for way in (_exp_by_float64, _exp_alone):
            y = np.empty_like(x)
            way(x, y)
            yield y


def same(a, b):
    """Where two float32 arrays hold the same bits, or both a NaN."""
    return (a.view(np.int32) == b.view(np.int32)) | (np.isnan(a) & np.isnan(b))


JUDGES = {"exp": judge_exp, "log": judge_log, "tanh": judge_tanh, "logistic": judge_logistic}


def clear_cases(name, x):
    """Where the float32 result is plain to see, and what it is there."""
    size = np.abs(x)
    if name == "exp":
        return np.isnan(x), x
    if name == "log":
        expected = np.where(x == 0, -np.inf, np.where(x > 0, np.inf, np.nan))
        return ~((x > 0) & (x < np.inf)), expected.astype(np.float32)
    if name == "tanh":
        # x - tanh(x) < x^3 / 3 < 2^-27 x; from 10 on, 1 - tanh(x) < 2^-27.
        return np.isnan(x) | (size < 2.0**-13) | (size > 10), np.where(size > 1, np.sign(x), x)
    # |y - 1/2| < |x| / 4; above 18, 1 - y < 2^-25; below -104, y < 2^-150.
    clear = np.isnan(x) | (size < 2.0**-25) | (x > 18) | (x < -104)
    expected = np.where(size < 1, np.float32(0.5), np.where(x > 0, np.float32(1), np.float32(0)))
    return clear, np.where(np.isnan(x), x, expected)


def judge(name, x, y):
    """The verdicts on y = f(x); float32, shape (n,)."""
    verdict = np.empty(x.shape, np.uint8)
    with np.errstate(all="ignore"):
        clear, expected = clear_cases(name, x)
        verdict[clear] = np.where(same(y, expected), RIGHT, WRONG)[clear]
        others = np.empty(x.size - np.count_nonzero(clear), np.uint8)
        JUDGES[name](x[~clear], y[~clear], others)
    verdict[~clear] = others
    return verdict


EXACT = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "tanh": mpmath.tanh,
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
}


def decide(name, x, y):
    """The verdict on one float32 pair by mpmath: exact midpoints, 200 bits."""
    with mpmath.workprec(200):
        exact = EXACT[name](mpmath.mpf(float(x)))
        bits = abs(y).view(np.int32)
        near = [float(np.int32(bits + step).view(np.float32)) for step in (-1, 0, 1)]
        below, value, above = (mpmath.mpf(min(number, 2.0**128)) for number in near)
        exact *= -1 if y < 0 else 1
        return RIGHT if (below + value) / 2 < exact < (value + above) / 2 else WRONG


def prove(name):
    """Judge all 2^32 inputs; return how many got each verdict, and the wrong x."""
    function = FUNCTIONS[name][np.dtype(np.float32)]

    def chunk(first):
        x = np.arange(first, first + CHUNK, dtype=np.uint32).view(np.float32)
        y = np.empty_like(x)
        function(x, y)
        verdict = judge(name, x, y)
        for other in others(name, x):
            verdict[~same(other, y)] = WRONG
        undecided = np.flatnonzero(verdict == UNDECIDED)
        wrong = [x[i] for i in undecided if decide(name, x[i], y[i]) == WRONG]
        return np.bincount(verdict, minlength=3), [*x[verdict == WRONG], *wrong]

    counts, failures = np.zeros(3, np.int64), []
    with ThreadPoolExecutor(2) as pool:
        for count, wrong in pool.map(chunk, range(0, 1 << 32, CHUNK)):
            counts += count
            failures += wrong
    return counts, failures


@jit
def _worst_of_scaled(y, k, high, low):
    worst, where = 0.0, 0
    for i in range(y.size):
        half = np.floor(0.5 * k[i])
        scaled = y[i] * _power_of_two(-half) * _power_of_two(half - k[i])
        exponent = max(np.float64(y[i]).view(np.int64) >> 52, 1)
        ulps = abs((high[i] - scaled) + low[i]) / _power_of_two(exponent - 1075 - np.int64(k[i]))
        if ulps > worst:
            worst, where = ulps, i
    return worst, where


@jit
def ulps_exp(x, y):
    """(worst |y - e^x| in ulps of y, its index); float64, shape (n,), finite results only."""
    k, high, low = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    wide_exp(x, k, high, low)
    return _worst_of_scaled(y, k, high, low)


@jit
def ulps_logistic(x, y):
    """(worst |y - logistic(x)| in ulps of y, its index); float64, shape (n,)."""
    k, high, low = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    wide_logistic(x, k, high, low)
    return _worst_of_scaled(y, k, high, low)


@jit
def ulps_tanh(x, y):
    """(worst |y - tanh(x)| in ulps of y, its index); float64, shape (n,), x != 0."""
    k, high, low = np.zeros_like(x), np.empty_like(x), np.empty_like(x)
    wide_tanh(x, high, low)
    return _worst_of_scaled(np.abs(y), k, np.abs(high), np.where(high < 0.0, -low, low))


@jit
def ulps_log(x, y):
    """(worst |y - log(x)| in ulps of y, its index); float64, shape (n,), finite results only."""
    high, low = np.empty_like(x), np.empty_like(x)
    wide_log(x, high, low)
    worst, where = 0.0, 0
    for i in range(x.size):
        exponent = (np.float64(abs(y[i])).view(np.int64) >> 52) - 1023
        error = abs((high[i] - y[i]) + low[i])
        ulps = error / _power_of_two(exponent) * 2.0**52 if error > 0.0 else 0.0
        if ulps > worst:
            worst, where = ulps, i
    return worst, where


ULPS = {"exp": ulps_exp, "log": ulps_log, "tanh": ulps_tanh, "logistic": ulps_logistic}


def samples(name, count):
    """Yield (region, limit in ulps, x): `count` float64 inputs each, from PCG64's raw draws."""
    raw = np.random.PCG64(2024).random_raw(count)
    uniform = (raw >> np.uint64(11)) * 2.0**-53
    sign = np.where(raw & np.uint64(1), 1.0, -1.0)
    near = sign * 2.0 ** -((raw >> np.uint64(1)) % np.uint64(50)).astype(float) * (1 + uniform) / 4
    if name == "exp":
        yield "all normal results", 0.63, -708.0 + uniform * 1417.78
        yield "subnormal results", 0.78, -745.2 + uniform * 36.8
        yield "|x| < 2", 0.63, 4.0 * uniform - 2.0
        yield "near 0", 0.63, near
        yield "near overflow", 0.63, 709.0 + uniform * 0.7827
        k = np.floor(uniform * 2044.0) - 1020.5
        yield "between two k", 0.63, k * np.log(2.0) * (1 + near * 2.0**-30)
    elif name == "tanh":
        yield "all results but 1", 0.85, 38.2 * uniform - 19.1
        yield "|x| < 2", 0.85, 4.0 * uniform - 2.0
        yield "near 0", 0.85, near
        yield "before k = -1", 0.85, 0.164 + 0.0094 * uniform
        k = np.floor(uniform * 54.0) + 0.5
        yield "between two k", 0.85, 0.5 * k * np.log(2.0) * (1 + near * 2.0**-30)
        yield "near 1", 0.85, 17.0 + 2.1 * uniform
    elif name == "logistic":
        yield "all normal results", 0.65, 746.0 * uniform - 708.0
        yield "subnormal results", 0.82, -745.2 + uniform * 36.8
        yield "|x| < 2", 0.65, 4.0 * uniform - 2.0
        yield "|x| < 40", 0.65, 80.0 * uniform - 40.0
        yield "near 0", 0.65, near
        k = np.floor(uniform * 1072.0) - 1020.5
        yield "between two k", 0.65, k * np.log(2.0) * (1 + near * 2.0**-30)
    else:
        first, last = np.array([2.0**-1022, np.finfo(float).max]).view(np.uint64)
        yield "all normal inputs", 0.7, (first + raw % (last - first)).view(np.float64)
        yield "subnormal inputs", 0.7, ((raw >> np.uint64(12)) + np.uint64(1)).view(np.float64)
        yield "0.5 to 2", 0.7, 0.5 + 1.5 * uniform
        yield "below sqrt(1/2)", 0.7, 0.7 + 0.00711 * uniform
        yield "around sqrt(2)", 0.7, 1.4 + 0.02 * uniform
        yield "near 1", 0.7, 1.0 + near


def measure(name, count):
    """Yield (region, limit, worst error, its x) of float64 exp or log, `count` inputs each."""
    function, ulps = FUNCTIONS[name][np.dtype(np.float64)], ULPS[name]
    for region, limit, x in samples(name, count):
        y = np.empty_like(x)
        function(x, y)
        worst, where = ulps(x, y)
        yield region, limit, worst, x[where]


def fit(function, weight, fixed, count, low, high):
    """The polynomial of `count` coefficients that is nearest to `function` on [low, high].

    Weighted least squares at 4 * count Chebyshev nodes. The `fixed` coefficients come first; each
    further one is rounded to float64, and those after it are fitted again.
    """
    with mpmath.workdps(50):
        number = 4 * count
        angles = [mpmath.pi * (2 * i + 1) / (2 * number) for i in range(number)]
        nodes = [(low + high) / 2 + (high - low) / 2 * mpmath.cos(angle) for angle in angles]
        coefficients, scale = list(fixed), max(abs(low), abs(high))
        while len(coefficients) < count:
            done = len(coefficients)
            rows = [[weight(x) * (x / scale) ** n for n in range(done, count)] for x in nodes]
            rest = [
                weight(x) * (function(x) - sum(c * x**n for n, c in enumerate(coefficients)))
                for x in nodes
            ]
            solution, _ = mpmath.qr_solve(mpmath.matrix(rows), mpmath.matrix(rest))
            coefficients.append(float(solution[0] / scale**done))
        return coefficients


def fitted():
    """Yield (name, coefficients) of the four polynomials, as `fit` finds them; some seconds."""
    half, log1p = mpmath.mpf(1) / 2, mpmath.log1p
    with mpmath.workdps(50):
        ends, log2 = (mpmath.sqrt(half) - 1, mpmath.sqrt(2) - 1), mpmath.log(2)
        yield "EXP_FLOAT32", fit(lambda f: 2**f, lambda f: 2**-f, [1.0], 11, -half, half)[1:]
        yield (
            "EXP_FLOAT64",
            fit(mpmath.exp, lambda r: mpmath.exp(-r), [1.0, 1.0, 0.5], 13, -log2 / 2, log2 / 2)[3:],
        )
        yield (
            "LOG_FLOAT32",
            fit(lambda r: (log1p(r) - r) / r**2, lambda r: r**2 / log1p(r), [], 18, *ends),
        )
        yield (
            "LOG_FLOAT64",
            fit(
                lambda r: (log1p(r) - r + r * r / 2) / r**3,
                lambda r: r**3 / log1p(r),
                [],
                20,
                *ends,
            ),
        )


def main():
    failed = False
    for name, coefficients in fitted():
        same_fit = coefficients == list(getattr(elementary, name))
        print(f"{name}: {'as' if same_fit else 'NOT as'} fitted", flush=True)
        failed = failed or not same_fit
    for name in sys.argv[1:] or FUNCTIONS:
        counts, failures = prove(name)
        print(f"{name} float32: {counts[RIGHT]} right, {counts[WRONG]} wrong,", end=" ")
        print(f"{counts[UNDECIDED]} given to mpmath; wrong in the end: {len(failures)}", flush=True)
        for x in failures[:20]:
            print(f"  {name}({float(x).hex()})")
        failed = failed or bool(failures)
        for region, limit, worst, x in measure(name, 1 << 23):
            print(f"{name} float64, {region}: {worst:.4f} ulp at {x.hex()}", flush=True)
            failed = failed or worst > limit
    sys.exit(failed)


if __name__ == "__main__":
    main()

"""exp, log, tanh, logistic: float32 correctly rounded, float64 within its bound, the same bits."""

import hashlib
import re
from pathlib import Path

import numba
import numpy as np
import pytest
from fastmlp_kernels.arithmetic import elementary as kernels
from fastmlp_kernels.arithmetic import sigmoids
from fastmlp_kernels.compiling.jit import FLAGS
from helpers import VECTORS, assert_same_bits, bits, specials
from prove_elementary import FUNCTIONS, RIGHT, ULPS, WRONG, decide, fitted, judge, measure, others

from fastmlp.reference import elementary as reference
from fastmlp.reference.sigmoids import logistic, tanh

REFERENCES = {"exp": reference.exp, "log": reference.log, "tanh": tanh, "logistic": logistic}
PROMISES = (Path(__file__).parents[1] / "docs/promises.md").read_text()
UNSIGNED = {np.float32: np.uint32, np.float64: np.uint64}

each_name = pytest.mark.parametrize("name", REFERENCES)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def kernel(name, x):
    out = np.full_like(x, 12345.0)
    FUNCTIONS[name][x.dtype](x, out)
    return out


def scattered(dtype, count):
    """Every kind of bit pattern, and fixed-point numbers in [-1024, 1024): integers only."""
    n = np.arange(count, dtype=np.uint64)
    hashed = n * np.uint64(0x9E3779B97F4A7C15)
    patterns = (hashed >> np.uint64(0 if dtype == np.float64 else 32)).astype(UNSIGNED[dtype])
    fixed = (hashed >> np.uint64(32)).astype(np.float64) / 2.0**21 - 1024.0
    return np.concatenate([patterns.view(dtype), fixed.astype(dtype)])


def stratified(dtype):
    """Every sign and exponent with several mantissas, and around every multiple of log(2) / 2."""
    unsigned, mantissa_bits = UNSIGNED[dtype], np.finfo(dtype).nmant
    exponents = np.arange(2 ** (np.dtype(dtype).itemsize * 8 - mantissa_bits), dtype=unsigned)
    last = 2**mantissa_bits - 1
    mantissas = np.array([0, 1, last // 3, 0x6A09E667F3BCD >> (52 - mantissa_bits), last], unsigned)
    patterns = (exponents[:, np.newaxis] << unsigned(mantissa_bits)) | mantissas
    multiples = (np.arange(-2200, 2200) * (np.log(2.0) / 2)).astype(dtype)
    beside = [np.nextafter(multiples, dtype(end)) for end in (-np.inf, np.inf)]
    return np.concatenate([patterns.view(dtype).ravel(), multiples, *beside, specials(dtype)])


@pytest.mark.parametrize("name", ["exp", "log"])
def test_the_exact_vectors(name):
    with np.load(VECTORS) as vectors:
        x, expected = vectors[f"{name}_float32_x"], vectors[f"{name}_float32_y"]
    assert len(x) > 6000
    assert_same_bits(kernel(name, x), expected)
    assert_same_bits(REFERENCES[name](x), expected)


@each_dtype
@each_name
def test_the_kernel_equals_the_reference(name, dtype):
    x = np.concatenate([stratified(dtype), scattered(dtype, 20_000)])
    assert_same_bits(kernel(name, x), REFERENCES[name](x))


@each_name
def test_float32_is_correctly_rounded(name):
    step = 419  # a prime: 10 million of the 2^32 bit patterns
    x = np.arange(0, 2**32, step, dtype=np.uint32).view(np.float32)
    assert x.size > 10_000_000
    for part in np.array_split(x, 16):
        y = kernel(name, part)
        verdict = judge(name, part, y)
        assert np.all(verdict == RIGHT), part[verdict != RIGHT][:5]
        for other in others(name, part):
            assert_same_bits(other, y)


@each_name
def test_the_judges_reject_a_neighbour(name):
    x = scattered(np.float32, 2000)
    x = x[(x > 0) & (x < 80) & (x != 1)]
    y = kernel(name, x)
    for end in (-np.inf, np.inf):
        off = np.nextafter(y, np.float32(end))
        assert np.all(judge(name, x, off) == WRONG)
        assert decide(name, x[0], off[0]) == WRONG
    assert decide(name, x[0], y[0]) == RIGHT


def test_the_polynomials_are_those_of_the_fit():
    for name, coefficients in fitted():
        assert list(getattr(kernels, name)) == coefficients
        assert getattr(reference, name).tolist() == coefficients


@each_name
def test_float64_is_within_its_bound(name):
    for region, limit, worst, x in measure(name, 1 << 18):
        assert 0.49 < worst <= limit, (region, x)


STATED = re.compile(r"\b(exp|log|tanh|logistic)\b|(0\.\d{4})\s+at\s+(-?0x[0-9a-f.]+p[+-]\d+)")


@pytest.mark.parametrize(
    "text", [*(f"{name}: {function.__doc__}" for name, function in REFERENCES.items()), PROMISES]
)
def test_the_worst_errors_stated_are_those_measured(text):
    name, checked = "", 0
    for named, error, at in STATED.findall(text):
        name = named or name
        if error:
            x, checked = np.array([float.fromhex(at)]), checked + 1
            assert f"{ULPS[name](x, kernel(name, x))[0]:.4f}" == error, name
    assert checked >= (6 if text is PROMISES else 1)


@each_dtype
@each_name
def test_monotone(name, dtype):
    x = np.concatenate([stratified(dtype), scattered(dtype, 1 << 18)])
    x = np.sort(x[x > 0] if name == "log" else x[~np.isnan(x)])
    with np.errstate(over="ignore", under="ignore"):
        x = np.sort(np.concatenate([x, np.nextafter(x, dtype(np.inf))]))
    y = kernel(name, x)
    assert np.all(y[1:] >= y[:-1])


@each_dtype
def test_special_values(dtype):
    limits = np.finfo(dtype)
    overflow = {np.float32: 88.72284, np.float64: 709.7827128933841}[dtype]  # the least such x
    least, huge = limits.smallest_subnormal, limits.max
    inf, nan = np.inf, np.nan
    cases = {
        "exp": [(0.0, 1), (-0.0, 1), (least, 1), (overflow, inf), (huge, inf), (inf, inf)],
        "log": [(1.0, 0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-least, nan), (-1.0, nan)],
    }
    # Where the results become 1: 1 - 2^-25, 1 - 2^-54 is a midpoint.
    one = {np.float32: (9.011, 17.4), np.float64: (19.0616, 37.5)}[dtype]
    cases["tanh"] = [(0.0, 0.0), (least, least), (limits.tiny, limits.tiny), (one[0], 1)]
    cases["tanh"] += [(1e-5 * limits.eps, 1e-5 * limits.eps), (huge, 1), (inf, 1)]
    cases["tanh"] += [(-x, -y) for x, y in cases["tanh"]] + [(nan, nan)]
    cases["logistic"] = [(0.0, 0.5), (-0.0, 0.5), (least, 0.5), (-least, 0.5), (one[1], 1)]
    cases["logistic"] += [(huge, 1), (inf, 1), (-huge, 0), (-inf, 0), (nan, nan)]
    cases["exp"] += [(-huge, 0), (-inf, 0), (nan, nan)]
    cases["log"] += [(-huge, nan), (-inf, nan), (nan, nan)]
    for name, pairs in cases.items():
        x, expected = np.array(pairs, dtype).T.copy()
        assert_same_bits(kernel(name, x), expected)
        assert_same_bits(REFERENCES[name](x), expected)


def test_the_ends_of_exp():
    x = np.array([709.782712893384, -745.1332191019411, -745.1332191019412])
    expected = np.array([float.fromhex("0x1.fffffffffff2ap+1023"), 5e-324, 0.0])
    assert_same_bits(kernel("exp", x), expected)
    x = np.array([88.72283, -103.97208, -103.97209], np.float32)
    expected = np.array([float.fromhex("0x1.ffff08p+127"), 2.0**-149, 0.0], np.float32)
    assert_same_bits(kernel("exp", x), expected)


def test_the_ends_of_logistic():
    x = np.array([-708.3964185322641, -745.1332191019411, -745.1332191019412])
    expected = np.array([float.fromhex("0x1.000000000007cp-1022"), 5e-324, 0.0])
    assert_same_bits(kernel("logistic", x), expected)
    x = np.array([-87.33655, -103.97208, -103.97209], np.float32)
    expected = np.array([8388582 * 2.0**-149, 2.0**-149, 0.0], np.float32)
    assert_same_bits(kernel("logistic", x), expected)


@each_dtype
def test_tanh_is_odd(dtype):
    x = np.concatenate([stratified(dtype), scattered(dtype, 20_000)])
    assert_same_bits(kernel("tanh", -x), -kernel("tanh", x))


@each_dtype
@each_name
def test_a_value_does_not_depend_on_its_place(name, dtype):
    x = scattered(dtype, 40)
    alone = np.concatenate([kernel(name, x[i : i + 1]) for i in range(x.size)])
    for start in range(9):
        for stop in range(start, x.size, 3):
            assert_same_bits(kernel(name, x[start:stop].copy()), alone[start:stop])


@each_dtype
def test_inside_other_jitted_code(dtype):
    @numba.njit(**FLAGS)
    def all_four(x, out):
        for i in range(x.size):
            out[i] = sigmoids.tanh(sigmoids.logistic(kernels.exp(kernels.log(x[i]))))

    x = scattered(dtype, 1000)
    out = np.empty_like(x)
    all_four(x, out)
    expected = x
    for name in ("log", "exp", "logistic", "tanh"):
        expected = kernel(name, expected)
    assert_same_bits(out, expected)


@each_name
def test_the_reference_keeps_shape_and_dtype(name):
    function = REFERENCES[name]
    for dtype in (np.float32, np.float64):
        for shape in [(), (0,), (2, 3), (2, 0, 4), (2, 3, 4)]:
            y = function(np.full(shape, 2, dtype))
            assert (y.shape, y.dtype) == (shape, np.dtype(dtype))
    with pytest.raises(TypeError, match="float16"):
        function(np.ones(3, np.float16))


@pytest.mark.parametrize(
    "function", [kernels.exp, kernels.log, sigmoids.tanh, sigmoids.logistic]
)
def test_the_scalar_functions_are_for_jitted_code(function):
    with pytest.raises(NotImplementedError, match="_array"):
        function(1.0)


DIGESTS = {
    ("exp", np.float32): "edf0449e120208766fe94f0b8a407b31d5b637e65035d448afa108d0d0aedbf0",
    ("exp", np.float64): "b0607b60d8a16ab1bd3a3f64457f886757dbc396b1b375d0f5f4ca1df7df50c2",
    ("log", np.float32): "3e09d76879191e17b4dd007f5c29634fc117a8029b7129285bbcfdcb7d1d9430",
    ("log", np.float64): "939ad786ba724456a75ba8e5118816cdd48f86b440fd558797ab85727e8da33c",
}


@pytest.mark.parametrize(("name", "dtype"), DIGESTS)
def test_the_bits_are_those_of_every_machine(name, dtype):
    y = bits(kernel(name, scattered(dtype, 1 << 17)))
    little_endian = y.astype(y.dtype.newbyteorder("<"))
    assert hashlib.sha256(little_endian.tobytes()).hexdigest() == DIGESTS[name, dtype]

"""The fused multiply-add, in every form, has the bits of the exact value rounded once."""

import math
import warnings
from fractions import Fraction
from functools import cache
from itertools import product

import numba
import numpy as np
import pytest
from fastmlp_kernels.arithmetic import fma as kernel
from fastmlp_kernels.compiling.cpu import has_fma
from helpers import assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError

from fastmlp.reference import fma as reference

DTYPES = (np.float32, np.float64)
UNSIGNED = {np.float32: np.uint32, np.float64: np.uint64}
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def over_arrays(scalar_fma):
    @numba.njit
    def loop(a, b, c, result):
        for i in range(a.size):
            result[i] = scalar_fma(a[i], b[i], c[i])

    def over(a, b, c):
        result = np.full_like(a, np.nan)
        loop(a, b, c, result)
        return result

    return over


FORMS = {
    "reference": reference.fma,
    "software": over_arrays(kernel.fma_software),
    "chosen": over_arrays(kernel.fma),
}
if has_fma():
    FORMS["hardware"] = over_arrays(kernel.fma_hardware)
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def oracle(a: float, b: float, c: float, dtype: type) -> float:
    """a * b + c by the rules of IEEE 754, its finite values by exact fractions."""
    if math.isnan(a) or math.isnan(b) or math.isnan(c):
        return math.nan
    product_sign = math.copysign(1.0, a) * math.copysign(1.0, b)
    if math.isinf(a) or math.isinf(b):
        opposed = math.isinf(c) and math.copysign(1.0, c) != product_sign
        return math.nan if a == 0 or b == 0 or opposed else math.inf * product_sign
    if math.isinf(c):
        return c
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        both_negative = (a == 0 or b == 0) and product_sign < 0 and math.copysign(1.0, c) < 0
        return -0.0 if both_negative else 0.0
    magnitude = rounded(abs(exact), np.finfo(dtype))
    return magnitude if exact > 0 else -magnitude


def rounded(exact: Fraction, info: np.finfo) -> float:
    """The nearest to a positive number, ties to even; infinity if past the largest."""
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    if exact < Fraction(2) ** exponent:
        exponent -= 1
    last = max(exponent, int(info.minexp)) - int(info.nmant)
    ulps = round(exact / Fraction(2) ** last)  # a Fraction rounds its ties to even
    return math.ldexp(ulps, last) if ulps * Fraction(2) ** last <= float(info.max) else math.inf


def special_values(dtype) -> np.ndarray:
    info = np.finfo(dtype)
    half_range = dtype(2) ** (info.minexp // 2)
    magnitudes = [
        0.0,
        info.smallest_subnormal,
        info.tiny - info.smallest_subnormal,
        info.tiny,
        half_range,
        1 - info.epsneg,
        1.0,
        1 + info.eps,
        3.0,
        1 / half_range,
        info.max,
        np.inf,
    ]
    positive = np.array(magnitudes, dtype)
    return np.concatenate([positive, -positive, np.array([np.nan], dtype)])


COUNT = 2000


def signs(rng):
    return rng.choice([-1.0, 1.0], COUNT)


def wide(rng, dtype):
    """Full significands, and half the range of exponents, so that a product stays in the range."""
    info = np.finfo(dtype)
    significands = rng.integers(2**info.nmant, 2 ** (info.nmant + 1), COUNT)
    exponents = rng.integers(info.minexp // 2, info.maxexp // 2, COUNT)
    return np.ldexp(signs(rng) * significands, exponents - info.nmant).astype(dtype)


def specials(rng, dtype):
    return np.array(list(product(special_values(dtype), repeat=3))).T


def any_bits(rng, dtype):
    unsigned = UNSIGNED[dtype]
    return rng.integers(0, np.iinfo(unsigned).max, (3, COUNT), unsigned, endpoint=True).view(dtype)


def ordinary(rng, dtype):
    return rng.standard_normal((3, COUNT))


def small_integers(rng, dtype):
    return rng.integers(-4, 5, (3, COUNT))


def wide_exponents(rng, dtype):
    return wide(rng, dtype), wide(rng, dtype), wide(rng, dtype)


def near_cancellation(rng, dtype):
    a, b = wide(rng, dtype), wide(rng, dtype)
    c = -(a * b)
    for _ in range(3):
        c = np.where(rng.random(COUNT) < 0.5, c, np.nextafter(c, signs(rng).astype(dtype) * np.inf))
    return a, b, c


def far_apart(rng, dtype):
    """The addend is near half an ulp of the product, or the product half an ulp of the addend."""
    a, b = rng.standard_normal((2, COUNT)).astype(dtype)
    nmant = np.finfo(dtype).nmant
    distance = rng.choice([-1, 1], COUNT) * rng.integers(nmant - 1, nmant + 4, COUNT)
    return a, b, np.ldexp(signs(rng) * (a * b), distance)


def ties(rng, dtype):
    """An exact product, and an addend of half its ulp, or a little less or more."""
    info = np.finfo(dtype)
    a = rng.integers(2**info.nmant, 2 ** (info.nmant + 1), COUNT)
    b = np.ldexp(signs(rng), rng.integers(-9, 9, COUNT))
    nudge = rng.choice([-1, 0, 0, 1], COUNT) * float(info.eps)
    return a, b, signs(rng) * b / 2 * (1 + nudge)


def near_ties(rng, dtype):
    """Half an ulp of the addend, less a part so small that only an exact product has it."""
    info = np.finfo(dtype)
    part = np.floor(2 ** rng.uniform(0, info.nmant / 2, COUNT)) * float(info.eps)
    b = np.ldexp(1 - part, rng.choice([-1, 0], COUNT) - info.nmant)
    addend = 1 + rng.integers(0, 2**info.nmant, COUNT) * float(info.eps)
    return 1 + part, signs(rng) * b, signs(rng) * addend


def barely_over_ties(rng, dtype):
    """Half an ulp of the addend, times 1 + 2^-2n = (1 - h + 2^-n)(1 + h + 2^-n), h^2 = 2^(1-n)."""
    info = np.finfo(dtype)
    n = (info.nmant - 1) | 1
    h = math.ldexp(1.0, (1 - n) // 2)
    exponent = rng.choice([-20, 0, 20, info.minexp, info.minexp - 4], COUNT)
    half_ulp = np.maximum(exponent, info.minexp) - info.nmant - 1 - rng.integers(-1, 2, COUNT)
    a = np.ldexp(1 - h + 2.0**-n, half_ulp // 2)
    b = np.ldexp(1 + h + 2.0**-n, half_ulp - half_ulp // 2)
    c = np.ldexp(1 + rng.choice([0, 1, 2, 3, 2.0**19], COUNT) * float(info.eps), exponent)
    return signs(rng) * a, b, signs(rng) * c


def subnormal_results(rng, dtype):
    tiny = float(np.finfo(dtype).tiny)
    a = wide(rng, dtype)
    b = tiny * 4 * rng.standard_normal(COUNT) / a
    return a, b, tiny * rng.choice([0, 2.0**-9, 1], COUNT) * rng.standard_normal(COUNT)


def products_below_the_smallest(rng, dtype):
    info = np.finfo(dtype)
    a = np.ldexp(signs(rng) * rng.uniform(1, 2, COUNT), info.minexp // 2)
    b = np.ldexp(rng.uniform(1, 2, COUNT), info.minexp // 2 - rng.integers(0, 60, COUNT))
    return a, b, rng.integers(-3, 4, COUNT) * float(info.smallest_subnormal)


def near_overflow(rng, dtype):
    info = np.finfo(dtype)
    a = wide(rng, dtype)
    b = np.ldexp(1.0 / a, info.maxexp - rng.integers(0, 12, COUNT))
    c = np.ldexp(1.0, info.maxexp - rng.integers(1, 60, COUNT))
    return a, b, signs(rng) * np.where(rng.random(COUNT) < 0.3, float(info.max), c)


def edge_of_the_largest(rng, dtype):
    """The largest number plus about half its ulp: the tie goes to infinity."""
    info = np.finfo(dtype)
    half_ulp = math.ldexp(1.0, info.maxexp - info.nmant - 2)
    nudge = rng.integers(-2, 3, COUNT) * float(info.eps)
    a = np.full(COUNT, info.max)
    return a, signs(rng), half_ulp * (1 + nudge) * signs(rng)


def edge_of_the_room(rng, dtype):
    """Around the limits of Boldo and Melquiond's method, whose errors need room in float64."""
    info = np.finfo(dtype)
    limits = [-1074, -1022, -1000, -961, -960, -959, 0, 994, 995, 998, 1015, 1018]
    exponents = rng.choice(limits, COUNT)
    exponents = np.clip(exponents, info.minexp - info.nmant, info.maxexp - 6)
    a = np.ldexp(signs(rng) * rng.uniform(1, 2, COUNT), exponents).astype(dtype)
    b = np.ldexp(rng.uniform(1, 2, COUNT), rng.integers(-5, 6, COUNT)).astype(dtype)
    c = np.where(rng.random(COUNT) < 0.5, -(a * b), wide(rng, dtype))
    swapped = rng.random(COUNT) < 0.5
    return np.where(swapped, b, a), np.where(swapped, a, b), c


KINDS = (
    specials,
    any_bits,
    ordinary,
    small_integers,
    wide_exponents,
    near_cancellation,
    far_apart,
    ties,
    near_ties,
    barely_over_ties,
    subnormal_results,
    products_below_the_smallest,
    near_overflow,
    edge_of_the_largest,
    edge_of_the_room,
)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@cache
def triples(kind, dtype):
    """a, b, c and the oracle's result: computed once for all forms, so read-only."""
    with np.errstate(all="ignore"):
        arrays = [np.array(x, dtype) for x in kind(np.random.default_rng(7), dtype)]
        numbers = zip(*(x.tolist() for x in arrays), strict=True)
        arrays.append(np.array([oracle(*abc, dtype) for abc in numbers], dtype))
    for array in arrays:
        array.flags.writeable = False
    return tuple(arrays)


def test_oracle_knows_the_values_that_naive_emulations_get_wrong():
    a, b, c, expected = from_bits(0x97000800, 0x1CFFF001, 0x00010002, 0x00010001)
    assert oracle(a, b, c, np.float32) == expected
    a, b, c = (float(np.float32(x)) for x in (0.9474001, 4.639901e-7, -0.24325085))
    assert oracle(a, b, c, np.float32) == float.fromhex("-0x1.f22d46p-3")


def from_bits(*bits):
    return np.array(bits, np.uint32).view(np.float32).tolist()


@each_dtype
@each_form
@each_kind
def test_every_form_rounds_the_exact_value_once(kind, form, dtype):
    *abc, expected = triples(kind, dtype)
    assert_same_bits(form(*abc), expected)


@each_form
def test_values_that_naive_emulations_get_wrong(form):
    *abc, expected = np.array(
        [
            from_bits(0x97000800, 0x1CFFF001, 0x00010002, 0x00010001),
            [0.9474001, 4.639901e-7, -0.24325085, float.fromhex("-0x1.f22d46p-3")],
        ],
        np.float32,
    ).T.copy()
    assert_same_bits(form(*abc), expected)


@each_dtype
@each_form
@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_bit_patterns(form, dtype, data):
    unsigned = UNSIGNED[dtype]
    patterns = st.integers(0, int(np.iinfo(unsigned).max))
    bits = data.draw(st.tuples(patterns, patterns, patterns))
    a, b, c = (np.array([x], unsigned).view(dtype) for x in bits)
    with np.errstate(all="ignore"):
        expected = np.array([oracle(a.item(), b.item(), c.item(), dtype)], dtype)
    assert_same_bits(form(a, b, c), expected)


def test_the_chosen_form_is_the_one_for_this_cpu():
    assert kernel.fma is (kernel.fma_hardware if has_fma() else kernel.fma_software)


@pytest.mark.parametrize("scalar_fma", [kernel.fma_hardware, kernel.fma_software])
def test_kernels_refuse_other_or_mixed_dtypes(scalar_fma):
    @numba.njit
    def call(a, b, c):
        return scalar_fma(a, b, c)

    for a, b, c in [
        (np.float32(1), np.float64(1), np.float32(1)),
        (np.float64(1), np.float64(1), np.float32(1)),
        (np.int64(1), np.int64(1), np.int64(1)),
    ]:
        with pytest.raises(TypingError, match=r"one dtype, float32 or float64, got"):
            call(a, b, c)


@pytest.mark.parametrize("scalar_fma", [kernel.fma_hardware, kernel.fma_software])
def test_kernels_say_that_they_are_for_jitted_code(scalar_fma):
    with pytest.raises(NotImplementedError):
        scalar_fma(1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "dtypes",
    ["fdf", "ddf", "FFF", "eee", "lll", "ggg", "???"],
)
def test_reference_refuses_other_or_mixed_dtypes(dtypes):
    a, b, c = (np.ones(2, dtype) for dtype in dtypes)
    with pytest.raises(TypeError, match=r"one dtype, float32 or float64, got .*: cast them"):
        reference.fma(a, b, c)


@each_dtype
@pytest.mark.parametrize(
    "shapes",
    [
        ((), (), ()),
        ((3, 1), (4,), (3, 4)),
        ((1,), (5,), ()),
        ((0, 3), (3,), ()),
        ((2, 1), (1, 3), ()),
    ],
    ids=str,
)
@pytest.mark.parametrize("factor", [1.0, 2.0**-1000])
def test_reference_broadcasts(shapes, factor, dtype):
    rng = np.random.default_rng(3)
    a, b, c = (np.asarray(factor * rng.standard_normal(shape), dtype) for shape in shapes)
    result = reference.fma(a, b, c)
    a, b, c = np.broadcast_arrays(a, b, c)
    numbers = zip(a.ravel().tolist(), b.ravel().tolist(), c.ravel().tolist(), strict=True)
    expected = np.array([oracle(*abc, dtype) for abc in numbers], dtype).reshape(a.shape)
    assert_same_bits(result, expected)


@each_dtype
def test_reference_takes_any_memory_layout(dtype):
    *abc, expected = triples(any_bits, dtype)
    a, b, c = (x.reshape(40, 50).T[::-1, ::3] for x in abc)
    assert_same_bits(reference.fma(a, b, c), expected.reshape(40, 50).T[::-1, ::3])


@each_dtype
@pytest.mark.parametrize("kind", [any_bits, edge_of_the_room, near_overflow])
def test_reference_gives_an_element_the_same_bits_alone(kind, dtype):
    *abc, expected = (x[::7] for x in triples(kind, dtype))
    alone = [reference.fma(a, b, c) for a, b, c in zip(*abc, strict=True)]
    assert_same_bits(np.array(alone), expected)


@each_dtype
def test_reference_neither_warns_nor_writes_into_its_arguments(dtype):
    abc = [x.copy() for x in triples(specials, dtype)[:3]]
    before = [x.copy() for x in abc]
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        reference.fma(*abc)
    for array, copy in zip(abc, before, strict=True):
        assert_same_bits(array, copy)


def test_reference_says_which_shapes_do_not_broadcast():
    with pytest.raises(ValueError, match="shape mismatch"):
        reference.fma(np.ones(2), np.ones(3), np.ones(2))

"""The reference's quick chains have the bits of one fused multiply-add after the other."""

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, specials

from fastmlp.reference import chains
from fastmlp.reference.chains import chain, chain_by_fma

SHAPES = [(1, 0, 3), (0, 4, 3), (2, 5, 0), (1, 256, 100), (7, 3, 1), (70, 40, 90), (3, 30, 2000)]


def by_fma(a, b):
    return chain_by_fma(a, b, np.zeros((len(a), b.shape[1]), a.dtype))


def near_powers(generator, shape, dtype):
    """Numbers whose products and sums often lie on, or just beside, a middle of two results."""
    epsilon = np.finfo(dtype).eps
    mantissas = [1, 1 + epsilon, 1 - epsilon / 2, 1 + 2 * epsilon, 1.5]
    lowest = np.finfo(dtype).nmant
    exponents = generator.choice([0, 0, -1, 1, -lowest // 2, -lowest, -lowest - 1], shape)
    signs = generator.choice([1, -1], shape)
    return (signs * generator.choice(mantissas, shape) * 2.0**exponents).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("M", "K", "N"), SHAPES)
def test_a_chain_is_one_fma_after_the_other(dtype, M, K, N):
    for lowest, highest in ((-6, 3), (-30, -20)):
        a, b = floats(1, (M, K), dtype, lowest, highest), floats(2, (K, N), dtype)
        a[a > 1] = 0
        assert_same_bits(chain(a, b), by_fma(a, b))
    assert_same_bits(chain(np.asfortranarray(a), b[:, ::-1]), by_fma(a, b[:, ::-1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_middles_and_specials(dtype, monkeypatch):
    monkeypatch.setattr(chains, "_BLOCK", 100)  # bytes: a few steps at a time
    generator, smallest = np.random.default_rng(1), np.finfo(dtype).minexp
    for trial in range(300):
        M, K, N = generator.integers(1, 9, 3)
        a, b = (near_powers(generator, shape, dtype) for shape in ((M, K), (K, N)))
        if trial % 3 == 1:  # of subnormal results, and of -0
            a = np.ldexp(a, smallest // 2 - generator.integers(0, 30)).astype(dtype)
            b = np.ldexp(b, smallest // 2).astype(dtype)
        elif trial % 3 == 2:
            a = np.where(generator.random(a.shape) < 0.2, generator.choice(specials(dtype)), a)
        assert_same_bits(chain(a, b), by_fma(a, b))
    monkeypatch.setattr(chains, "_BLOCK", 1)
    tiny = np.finfo(dtype).tiny  # its square comes out as -0, which stays
    a, b = np.array([[tiny, 0]], dtype), np.array([[-tiny], [-1]], dtype)
    assert_same_bits(chain(a, b), np.array([[-0.0]], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_just_beside_the_middle_is_seen(dtype, monkeypatch):
    """1 + e, then a product that is less than e / 2 by a part in 2^46, or 2^104."""
    epsilon = np.finfo(dtype).eps
    above, below = 1 + epsilon, 1 - epsilon
    a, b = np.array([[above, above * epsilon / 2]], dtype), np.array([[1], [below]], dtype)
    expected = np.array([[above]], dtype)
    assert_same_bits(by_fma(a, b), expected)
    assert_same_bits(chain(a, b), expected)
    used = []
    monkeypatch.setattr(chains, "chain_by_fma", lambda *block: used.append(block) or block[2])
    chain(a, b)
    assert used
    used.clear()
    for shape in ((1, 256), (40, 256)):  # of usual numbers, hardly any chain needs that
        a, b = floats(1, shape, dtype), floats(2, (256, 100), dtype)
        chain(a, b)
        chain((a > 0).astype(dtype), b)
        chain(np.floor(a * 32), np.floor(b * 32))
    assert not used

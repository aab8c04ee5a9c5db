import numpy as np
import pytest
from fastmlp_kernels.arithmetic.row_sum import row_max, row_sum
from fastmlp_kernels.compiling.jit import integer, kernel, packed, result
from helpers import DTYPES, VECTORS, assert_same_bits, floats, specials

from fastmlp.reference.row_sum import row_sum as reference_row_sum

EDGES = [1, 2, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 100, 1000]


@kernel(lambda real: (packed(real, 1), integer, result(real, 1), result(real, 1)))
def sums_and_maxima(x, count, sums, maxima):
    for row in range(sums.size):
        sums[row] = row_sum(x, row * count, count)
        maxima[row] = row_max(x, row * count, count)


def kernel_sums_and_maxima(x):
    sums, maxima = np.full(len(x), np.nan, x.dtype), np.full(len(x), np.nan, x.dtype)
    sums_and_maxima[x.dtype](x.reshape(-1), x.shape[1], sums, maxima)
    return sums[:, np.newaxis], maxima[:, np.newaxis]


def by_hand(row):
    """The sum of one row of Python loops over NumPy scalars."""
    lanes = [row.dtype.type(0)] * 16
    for j, value in enumerate(row):
        lanes[j % 16] += value
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [low + high for low, high in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def test_the_exact_vectors():
    with np.load(VECTORS) as vectors:
        inputs = [name for name in vectors if name.startswith("rowsum_") and name.endswith("_x")]
        assert len(inputs) == 22
        for name in inputs:
            x, expected = vectors[name], vectors[name[:-1] + "y"][:, np.newaxis]
            assert_same_bits(reference_row_sum(x), expected)
            assert_same_bits(kernel_sums_and_maxima(x)[0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", EDGES)
def test_both_sums_equal_the_definition(dtype, count):
    x = floats(count, (5, count), dtype)
    expected = np.array([[by_hand(row)] for row in x])
    assert_same_bits(reference_row_sum(x), expected)
    sums, maxima = kernel_sums_and_maxima(x)
    assert_same_bits(sums, expected)
    assert_same_bits(maxima, np.max(x, axis=1, keepdims=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 16, 20])
def test_special_values(dtype, count):
    values = specials(dtype)
    x = values[np.random.PCG64(1).random_raw(2000 * count) % len(values)].reshape(2000, count)
    sums, maxima = kernel_sums_and_maxima(x)
    assert_same_bits(sums, reference_row_sum(x))
    numbers = ~np.isnan(x).any(axis=1)
    assert np.array_equal(maxima[numbers], np.max(x[numbers], axis=1, keepdims=True))


def test_a_sum_of_negative_zeros_is_positive_zero():
    x = np.full((2, 20), -0.0, np.float32)
    assert_same_bits(reference_row_sum(x), np.zeros((2, 1), np.float32))
    assert_same_bits(kernel_sums_and_maxima(x)[0], np.zeros((2, 1), np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype):
    x = np.empty((0, 10), dtype)
    assert_same_bits(reference_row_sum(x), np.empty((0, 1), dtype))
    assert_same_bits(kernel_sums_and_maxima(x)[0], np.empty((0, 1), dtype))

import copy

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats

import fastmlp
from fastmlp import reference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 16, 20, 300])
def test_rows_that_are_not_numbers(dtype, classes):
    x = np.zeros((5, classes), dtype)
    x[0, 1], x[1, 2], x[2, :] = np.nan, np.inf, -np.inf
    x[3, 0] = -np.inf
    for softmax in (fastmlp.LogSoftmax(), reference.LogSoftmax()):
        logp = softmax.forward(x)
        assert np.isnan(logp[:3]).all()
        assert np.isnan(softmax.mem["p"][:3]).all()
        assert logp[3, 0] == -np.inf
        assert np.isfinite(logp[3, 1:]).all()
        assert np.isfinite(logp[4]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [16, 300, 1001])
def test_masked_and_far_logits(dtype, classes):
    """Where exp is 0, subnormal, or just above: beside each other, and filling whole vectors."""
    far = np.array([-np.inf, -1e30, -1e4, -104.1, -103.9, -103.97208, -90, -88, -78.1, -77.9])
    x = floats(7, (4 * far.size, classes), dtype)
    some = np.random.PCG64(8).random_raw(x.size).reshape(x.shape) % 3 == 0
    distant = np.repeat(far, 4)[:, np.newaxis] + 0 * x
    x = np.where(some, distant, x).astype(dtype)
    x[::4, 1:] = distant[::4, 1:]
    x[:, 0] = 0
    ours, theirs = fastmlp.LogSoftmax(), reference.LogSoftmax()
    assert_same_bits(ours.forward(x), theirs.forward(x))
    assert_same_bits(ours.mem["p"], theirs.mem["p"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_logits_stay_finite_and_right(dtype):
    x = np.array([[1000, -1000, 0], [-1000, -1000, -1000], [1000, 1000, 999]], dtype)
    softmax = fastmlp.LogSoftmax()
    logp = softmax.forward(x)
    third = [-np.log(2 + np.exp(-1)), -np.log(2 + np.exp(-1)), -1 - np.log(2 + np.exp(-1))]
    expected = np.array([[0, -2000, -1000], [-np.log(3)] * 3, third])
    np.testing.assert_allclose(logp, expected, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(softmax.mem["p"], np.exp(expected), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_class_is_certain_whatever_the_zeros(dtype):
    x = np.array([[0.0], [-0.0], [5.0], [-1e30]], dtype)
    softmax = fastmlp.LogSoftmax()
    assert_same_bits(softmax.forward(x), np.zeros_like(x))
    assert_same_bits(softmax.mem["p"], np.ones_like(x))


@pytest.mark.parametrize(
    ("hold", "p_of"),
    [
        (lambda softmax: softmax.mem["p"], np.asarray),
        (lambda softmax: softmax.mem["p"][3:, ::2], np.asarray),
        (lambda softmax: memoryview(softmax.mem["p"]), np.asarray),
        (lambda softmax: softmax.mem, lambda mem: mem["p"]),
        (copy.copy, lambda softmax: softmax.mem["p"]),
    ],
    ids=["array", "view", "buffer", "mem", "copy"],
)
def test_probabilities_that_somebody_has_stay(hold, p_of):
    softmax = fastmlp.LogSoftmax()
    softmax.forward(floats(1, (20, 30), np.float32))
    held = hold(softmax)
    before = p_of(held).copy()
    softmax.forward(floats(2, (20, 30), np.float32))
    assert_same_bits(p_of(held), before)
    assert not np.shares_memory(p_of(held), softmax.mem["p"])


def test_many_probabilities_that_nobody_has_are_overwritten():
    softmax, x = fastmlp.LogSoftmax(), floats(1, (2000, 30), np.float32)
    softmax.forward(x)
    place = softmax.mem["p"].ctypes.data
    softmax.forward(x)
    assert softmax.mem["p"].ctypes.data == place
    for other in (x[:7], x.astype(np.float64)):
        logp = softmax.forward(other)
        assert softmax.mem["p"].shape == logp.shape
        assert softmax.mem["p"].dtype == logp.dtype


def test_memory_that_is_not_our_own_is_not_overwritten():
    softmax, whole = fastmlp.LogSoftmax(), np.zeros((21, 30), np.float32)
    softmax.mem["p"] = whole[1:]
    softmax.forward(floats(1, (20, 30), np.float32))
    assert not whole.any()

import copy

import numpy as np
import pytest
from helpers import DTYPES, ROW_SHAPES, assert_same_bits, floats, layouts, specials

import fastmlp
from fastmlp import notebook, reference


def assert_equals_reference(x, grad_y):
    ours, theirs = fastmlp.LogSoftmax(), reference.LogSoftmax()
    logp = ours.forward(x)
    assert_same_bits(logp, theirs.forward(x))
    assert ours.mem["out"] is logp
    assert ours.mem.keys() == theirs.mem.keys() == {"out", "p"}
    assert_same_bits(ours.mem["p"], theirs.mem["p"])
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*ROW_SHAPES, (9, 1000), (3, 5000)], ids=str)
def test_forward_and_backward_equal_the_reference(dtype, shape):
    assert_equals_reference(floats(1, shape, dtype), floats(2, shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 10), (1, 10), (2001, 10), (41, 300)], ids=str)
def test_any_number_of_threads(dtype, shape, threads):
    assert_equals_reference(floats(3, shape, dtype), floats(4, shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 16, 19])
def test_special_values(dtype, classes):
    values = specials(dtype)
    raw = np.random.PCG64(classes).random_raw(2 * 500 * classes).reshape(2, 500, classes)
    x, grad_y = values[raw % len(values)]
    x[::2] = np.where(np.isfinite(x[::2]), x[::2], 0)
    assert_equals_reference(x, grad_y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [3, 16, 20])
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [10, 33])
def test_a_row_alone_equals_the_row_in_a_batch(dtype, classes):
    x, grad_y = floats(5, (70, classes), dtype), floats(6, (70, classes), dtype)
    batch, alone = fastmlp.LogSoftmax(), fastmlp.LogSoftmax()
    logp, grad_x = batch.forward(x), batch.backward(grad_y)
    for row in range(len(x)):
        mine = slice(row, row + 1)
        assert_same_bits(alone.forward(x[mine]), logp[mine])
        assert_same_bits(alone.backward(grad_y[mine]), grad_x[mine])


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout(dtype):
    values, gradients = floats(7, (6, 19), dtype), floats(8, (6, 19), dtype)
    for _, x in layouts(values):
        for _, grad_y in layouts(gradients):
            assert_equals_reference(x, grad_y)
        assert_same_bits(x, values)


def test_mixed_dtypes_promote_as_numpy_does():
    softmax = fastmlp.LogSoftmax()
    assert softmax.forward(np.ones((2, 3), np.float32)).dtype == np.float32
    assert softmax.backward(np.ones((2, 3), np.float64)).dtype == np.float64


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_arithmetic_gives_the_notebooks_bits(dtype):
    x, grad_y = floats(9, (50, 10), dtype), floats(10, (50, 10), dtype)
    logp, p = notebook.log_softmax(x)
    with fastmlp.arithmetic("numpy"):
        softmax = fastmlp.LogSoftmax()
        assert_same_bits(softmax.forward(x), logp)
        assert_same_bits(softmax.mem["p"], p)
        assert_same_bits(softmax.backward(grad_y), notebook.log_softmax_backward(p, grad_y))


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_errors_say_expected_got_and_mend(module):
    softmax = module.LogSoftmax()
    with pytest.raises(RuntimeError, match=r"LogSoftmax\.backward: expected a forward"):
        softmax.backward(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"x: expected float32 or float64, got int64; convert"):
        softmax.forward(np.ones((2, 3), np.int64))
    with pytest.raises(ValueError, match=r"x: expected a matrix.*got shape \(3,\); reshape"):
        softmax.forward(np.ones(3))
    with pytest.raises(ValueError, match=r"x: expected at least one class, got shape \(2, 0\); "):
        softmax.forward(np.ones((2, 0)))
    assert softmax.mem == {}
    softmax.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"grad_y: expected shape \(2, 3\).*got shape \(3, 2\)"):
        softmax.backward(np.ones((3, 2)))


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


def test_probabilities_that_nobody_has_are_overwritten():
    softmax, x = fastmlp.LogSoftmax(), floats(1, (20, 30), np.float32)
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

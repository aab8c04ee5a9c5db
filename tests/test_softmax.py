import numpy as np
import pytest
from helpers import DTYPES, ROW_SHAPES, assert_same_bits, floats, layouts, specials

import fastmlp
from fastmlp import notebook, reference


def assert_equals_reference(x, grad_y):
    ours, theirs = fastmlp.Softmax(), reference.Softmax()
    y = ours.forward(x)
    assert_same_bits(y, theirs.forward(x))
    assert ours.mem["out"] is y
    assert ours.mem.keys() == theirs.mem.keys() == {"out", "x_exp"}
    assert_same_bits(ours.mem["x_exp"], theirs.mem["x_exp"])
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ROW_SHAPES, ids=str)
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
def test_epsilon_is_used_and_rounded_to_the_dtype(dtype):
    x, grad_y = floats(11, (20, 10), dtype), floats(12, (20, 10), dtype)
    ours, theirs = fastmlp.Softmax(), reference.Softmax()
    assert ours.epsilon == theirs.epsilon == 1e-12
    plain = ours.forward(x)
    ours.epsilon = theirs.epsilon = 0.1
    y = ours.forward(x)
    assert (y != plain).all()
    assert_same_bits(y, theirs.forward(x))
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))
    with fastmlp.arithmetic("numpy"):
        assert_same_bits(ours.forward(x), notebook.exp_and_softmax(x, 0.1)[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [10, 33])
def test_a_row_alone_equals_the_row_in_a_batch(dtype, classes):
    x, grad_y = floats(5, (70, classes), dtype), floats(6, (70, classes), dtype)
    batch, alone = fastmlp.Softmax(), fastmlp.Softmax()
    y, grad_x = batch.forward(x), batch.backward(grad_y)
    for row in range(len(x)):
        mine = slice(row, row + 1)
        assert_same_bits(alone.forward(x[mine]), y[mine])
        assert_same_bits(alone.backward(grad_y[mine]), grad_x[mine])


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout(dtype):
    values, gradients = floats(7, (6, 19), dtype), floats(8, (6, 19), dtype)
    for _, x in layouts(values):
        for _, grad_y in layouts(gradients):
            assert_equals_reference(x, grad_y)
        assert_same_bits(x, values)


def test_mixed_dtypes_promote_as_numpy_does():
    softmax = fastmlp.Softmax()
    assert softmax.forward(np.ones((2, 3), np.float32)).dtype == np.float32
    assert softmax.backward(np.ones((2, 3), np.float64)).dtype == np.float64


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_arithmetic_gives_the_notebooks_bits(dtype):
    x, grad_y = floats(9, (50, 10), dtype), floats(10, (50, 10), dtype)
    x_exp, y = notebook.exp_and_softmax(x, 1e-12)
    with fastmlp.arithmetic("numpy"):
        softmax = fastmlp.Softmax()
        assert_same_bits(softmax.forward(x), y)
        assert_same_bits(softmax.mem["x_exp"], x_exp)
        assert_same_bits(softmax.backward(grad_y), notebook.softmax_backward(y, grad_y))


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_errors_say_expected_got_and_mend(module):
    softmax = module.Softmax()
    with pytest.raises(RuntimeError, match=r"Softmax\.backward: expected a forward"):
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

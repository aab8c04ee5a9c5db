import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, layouts, specials

import fastmlp
from fastmlp import notebook, reference


def assert_equals_reference(x, grad_y, epsilon=1e-12):
    ours, theirs = fastmlp.Log(), reference.Log()
    ours.epsilon = theirs.epsilon = epsilon
    assert_same_bits(ours.forward(x), theirs.forward(x))
    assert ours.mem.keys() == theirs.mem.keys() == {"x"}
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 5), (1, 1), (7,), (3, 4, 5), (300, 11)], ids=str)
def test_forward_and_backward_equal_the_reference(dtype, shape):
    assert_equals_reference(np.abs(floats(1, shape, dtype)), floats(2, shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 5), (1,), (301, 11)], ids=str)
def test_any_number_of_threads(dtype, shape, threads):
    assert_equals_reference(np.abs(floats(3, shape, dtype)), floats(4, shape, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epsilon", [1e-12, 0.1, 0.0])
def test_special_values(dtype, epsilon):
    x, grad_y = (a.ravel() for a in np.meshgrid(specials(dtype), specials(dtype)))
    assert_equals_reference(x, grad_y, epsilon)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_value_at_zero_and_one(dtype):
    log = fastmlp.Log()
    y = log.forward(np.array([0, 1, -1], dtype))
    np.testing.assert_allclose(y, [-12 * np.log(10), 0, np.nan], atol=1e-11, rtol=1e-6)
    grad_x = log.backward(np.array([1, 2, 3], dtype))
    np.testing.assert_allclose(grad_x, [1e12, 2, -3], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout(dtype):
    values, gradients = np.abs(floats(5, (6, 9), dtype)), floats(6, (6, 9), dtype)
    log, expected = fastmlp.Log(), reference.Log()
    y, grad_x = expected.forward(values), expected.backward(gradients)
    for name, x in layouts(values):
        assert_same_bits(log.forward(x), y)
        assert log.mem["x"] is x, name
        for _, grad_y in layouts(gradients):
            assert_same_bits(log.backward(grad_y), grad_x)
        assert_same_bits(x, values)


def test_mixed_dtypes_promote_as_numpy_does():
    log = fastmlp.Log()
    assert log.forward(np.ones((2, 3), np.float32)).dtype == np.float32
    assert log.backward(np.ones((2, 3), np.float64)).dtype == np.float64


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("epsilon", [1e-12, 0.1])
def test_numpy_arithmetic_gives_the_notebooks_bits(dtype, epsilon):
    x, grad_y = np.abs(floats(7, (50, 10), dtype)), floats(8, (50, 10), dtype)
    with fastmlp.arithmetic("numpy"):
        log = fastmlp.Log()
        log.epsilon = epsilon
        assert_same_bits(log.forward(x), notebook.log(x, epsilon))
        assert_same_bits(log.backward(grad_y), notebook.log_backward(x, grad_y, epsilon))


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_errors_say_expected_got_and_mend(module):
    log = module.Log()
    with pytest.raises(RuntimeError, match=r"Log\.backward: expected a forward"):
        log.backward(np.ones(3))
    with pytest.raises(TypeError, match=r"x: expected float32 or float64, got int64; pass "):
        log.forward(np.arange(3))
    log.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"grad_y: expected shape \(2, 3\).*got shape \(3, 2\)"):
        log.backward(np.ones((3, 2)))

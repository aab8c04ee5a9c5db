import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, layouts, specials

import fastmlp
from fastmlp import reference


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (7,), (3, 4, 5), (300, 1001)])
def test_forward_and_backward_equal_the_reference(dtype, shape):
    x, grad_y = floats(1, shape, dtype), floats(2, shape, dtype)
    ours, theirs = fastmlp.Relu(), reference.Relu()
    assert_same_bits(ours.forward(x), theirs.forward(x))
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype):
    x, grad_y = (a.ravel() for a in np.meshgrid(specials(dtype), specials(dtype)))
    ours, theirs = fastmlp.Relu(), reference.Relu()
    y = ours.forward(x)
    assert_same_bits(y, theirs.forward(x))
    assert_same_bits(y[np.isnan(x)], np.zeros(np.isnan(x).sum(), dtype))
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout(dtype):
    values, grad_y = floats(3, (6, 9), dtype), floats(4, (6, 9), dtype)
    expected = reference.Relu()
    y, grad_x = expected.forward(values), expected.backward(grad_y)
    for name, x in layouts(values):
        relu = fastmlp.Relu()
        assert_same_bits(relu.forward(x), y)
        assert relu.mem["x"] is x, name
        for _, grad in layouts(grad_y):
            assert_same_bits(relu.backward(grad), grad_x)
        assert_same_bits(x, values)


def test_mixed_dtypes_promote_as_numpy_does():
    relu = fastmlp.Relu()
    assert relu.forward(np.ones((2, 3), np.float32)).dtype == np.float32
    assert relu.backward(np.ones((2, 3), np.float64)).dtype == np.float64


def test_numpy_arithmetic_gives_the_notebooks_bits():
    x, grad_y = floats(5, (50, 100), np.float64), floats(6, (50, 100), np.float64)
    with fastmlp.arithmetic("numpy"):
        relu = fastmlp.Relu()
        assert_same_bits(relu.forward(x), np.where(x > 0, x, np.zeros_like(x)))
        assert_same_bits(relu.backward(grad_y), (x > 0).astype(np.float32) * grad_y)


def test_errors_say_expected_got_and_mend():
    relu = fastmlp.Relu()
    with pytest.raises(RuntimeError, match=r"Relu\.backward: expected a forward"):
        relu.backward(np.ones(3))
    with pytest.raises(TypeError, match=r"x: expected float32 or float64, got int64; pass "):
        relu.forward(np.arange(3))
    relu.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"grad_y: expected shape \(2, 3\).*got shape \(3, 2\)"):
        relu.backward(np.ones((3, 2)))

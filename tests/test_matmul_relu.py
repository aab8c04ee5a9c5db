import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, layouts, with_threads

import fastmlp
from fastmlp import reference
from fastmlp.operations.matmul_relu import affine, gradient_below

SHAPES = [
    (1, 1, 1), (2, 3, 4), (7, 17, 33), (3, 0, 4), (0, 5, 3), (13, 255, 16), (13, 256, 15),
    (66, 40, 52), (5, 785, 100), (300, 10, 12),
    (5000, 40, 9),  # a gradient over many samples, which threads share
]  # fmt: skip


def _inputs(shape, dtype):
    M, K, N = shape
    return (
        floats(1, (M, K), dtype),
        floats(2, (K, N), dtype),
        floats(3, (N,), dtype),
        floats(4, (M, N), dtype),
    )


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_equal_the_reference(shape, dtype, with_bias, num_threads):
    x, W, b, grad_y = _inputs(shape, dtype)
    ours, theirs = fastmlp.MatmulRelu(), reference.MatmulRelu()
    with with_threads(num_threads):
        assert_same_bits(
            ours.forward(x, W, b if with_bias else None),
            theirs.forward(x, W, b if with_bias else None),
        )
        actual, expected = ours.backward(grad_y), theirs.backward(grad_y)
    assert len(actual) == len(expected) == 2 + with_bias
    for mine, other in zip(actual, expected, strict=True):
        assert_same_bits(mine, other)


@pytest.mark.parametrize("inner", [4095, 4096, 4097])
def test_a_bias_is_added_once_to_runs_of_leaves(inner):
    """x @ W + b without relu, whose leaves threads share: the last run alone has the bias."""
    x, W, b = (floats(i, shape, np.float32) for i, shape in enumerate([(9, inner), (inner, 5), 5]))
    expected = reference.Matmul().forward(
        np.hstack([x, np.ones((9, 1), np.float32)]), np.vstack([W, b])
    )
    for num_threads in (1, 2):
        with with_threads(num_threads):
            for weights in layouts(W):
                assert_same_bits(affine(x, weights[1], b, None, relu=False), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_the_composition_of_matmul_and_relu(dtype):
    x, W, b, grad_y = _inputs((30, 256, 20), dtype)
    ones = np.ones((30, 1), dtype)
    matmul, relu, fused = fastmlp.Matmul(), fastmlp.Relu(), fastmlp.MatmulRelu()
    y = relu.forward(matmul.forward(np.hstack([x, ones]), np.vstack([W, b])))
    grad_x, grad_W = matmul.backward(relu.backward(grad_y))
    assert_same_bits(fused.forward(x, W, b), y)
    actual = fused.backward(grad_y)
    assert_same_bits(actual[0], grad_x[:, :-1])
    assert_same_bits(actual[1], grad_W[:-1])
    assert_same_bits(actual[2], grad_W[-1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bias_of_negative_zero_is_a_step_of_the_chain(dtype):
    x, W = np.zeros((2, 256), dtype), np.zeros((256, 3), dtype)
    b = np.array([-0.0, 0.0, -1.0], dtype)
    y = reference.Matmul().forward(np.hstack([x, np.ones((2, 1), dtype)]), np.vstack([W, b]))
    assert not np.signbit(y[:, 0]).any()
    assert_same_bits(fastmlp.MatmulRelu().forward(x, W, b), np.where(y > 0, y, 0).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout(dtype):
    x_values, W_values, b, grad_y = _inputs((9, 20, 7), dtype)
    expected = reference.MatmulRelu()
    y = expected.forward(x_values, W_values, b)
    gradients = expected.backward(grad_y)
    every_other = np.repeat(b, 2)[::2]
    for (_, x), (_, W), (_, grad) in zip(
        layouts(x_values), reversed(list(layouts(W_values))), layouts(grad_y), strict=True
    ):
        ours = fastmlp.MatmulRelu()
        assert_same_bits(ours.forward(x, W, every_other), y)
        for mine, other in zip(ours.backward(grad), gradients, strict=True):
            assert_same_bits(mine, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity(dtype):
    x = np.array([[np.nan, 1], [np.inf, 1], [-np.inf, 1], [1, 1]], dtype)
    W = np.array([[1, -1, 0], [0, 1, 2]], dtype)
    grad_y = np.array([[np.nan, 1, -0.0]] * 4, dtype)
    ours, theirs = fastmlp.MatmulRelu(), reference.MatmulRelu()
    assert_same_bits(ours.forward(x, W), theirs.forward(x, W))
    for mine, other in zip(ours.backward(grad_y), theirs.backward(grad_y), strict=True):
        assert_same_bits(mine, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out(dtype):
    x, W, b, _ = _inputs((9, 20, 7), dtype)
    y = reference.MatmulRelu().forward(x, W, b)
    for out in (np.empty((9, 7), dtype), np.empty((7, 9), dtype).T):
        assert fastmlp.MatmulRelu().forward(x, W, b, out=out) is out
        assert_same_bits(out, y)


def test_numpy_arithmetic_gives_the_notebooks_bits():
    x, W, b, grad_y = _inputs((128, 784, 100), np.float64)
    with_ones, whole = np.hstack([x, np.ones((128, 1))]), np.vstack([W, b])
    h = np.matmul(with_ones, whole)
    masked = (h > 0).astype(np.float32) * grad_y
    with fastmlp.arithmetic("numpy"):
        ours = fastmlp.MatmulRelu()
        assert_same_bits(ours.forward(x, W, b), np.where(h > 0, h, np.zeros_like(h)))
        grad_x, grad_W, grad_b = ours.backward(grad_y)
    assert_same_bits(grad_x, np.matmul(masked, W.T))
    assert_same_bits(np.vstack([grad_W, grad_b]), np.matmul(with_ones.T, masked))


def test_errors_say_expected_got_and_mend():
    x, W = np.ones((2, 3)), np.ones((3, 4))
    ours = fastmlp.MatmulRelu()
    with pytest.raises(
        ValueError, match=r"b: expected shape \(4,\), .* got shape \(1, 4\); pass np.ravel"
    ):
        ours.forward(x, W, np.ones((1, 4)))
    with pytest.raises(ValueError, match=r"out: expected memory of its own, .* overlaps W"):
        ours.forward(x, W, out=W[:2])
    with pytest.raises(RuntimeError, match=r"MatmulRelu\.backward: expected a forward"):
        fastmlp.MatmulRelu().backward(x)
    ours.forward(x, W)
    with pytest.raises(ValueError, match=r"grad_y: expected shape \(2, 4\), that of y"):
        ours.backward(x)


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize("name", ["Matmul", "MatmulRelu"])
def test_backward_looks_again_at_what_mem_holds(module, name):
    x, grad_y = np.ones((5, 2000), np.float32), np.ones((5, 3), np.float32)
    operation = getattr(module, name)()
    operation.forward(x, np.ones((2000, 3), np.float32))
    operation.mem["x"] = x[:, :4]  # smaller than the gradient that W has
    with pytest.raises(ValueError, match="x @ W: expected as many columns in x as W"):
        operation.backward(grad_y)
    operation.mem["x"] = np.ones((7, 2000), np.float32)
    with pytest.raises(ValueError, match="expected shape"):
        operation.backward(grad_y)


def test_the_gradient_below_looks_at_the_weights_shape():
    with pytest.raises(ValueError, match="expected shape"):
        gradient_below(np.ones((5, 3), "f4"), np.ones((900, 3), "f4"), np.ones((5, 4), "f4"))

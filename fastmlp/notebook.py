"""The operations as the notebook wrote them, in NumPy's own calls: the `numpy` arithmetic.

Their bits are those NumPy gives on this machine today, and no more is promised.
"""

import numpy as np

from .checks import Array
from .reference.activations import slope_at, y_and_slope


def matmul(x: Array, W: Array) -> Array:
    """x @ W."""
    return np.asarray(np.matmul(x, W))


def relu(x: Array) -> Array:
    """x where x > 0, else 0."""
    return np.where(x > 0, x, np.zeros_like(x))


def relu_backward(x: Array, grad_y: Array) -> Array:
    """grad_y where x > 0, as a product."""
    return np.asarray((x > 0).astype(np.float32) * grad_y)


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def activation(name: str, x: Array) -> Array:
    """The reference's formulas of y, of NumPy's tanh and exp."""
    return y_and_slope(name, x, np.tanh, logistic)[0]


def activation_backward(name: str, kept: Array, grad_y: Array) -> Array:
    """grad_y times the slope; kept: y of tanh and logistic, else x."""
    return np.asarray(grad_y * slope_at(name, kept, np.tanh, logistic))


def exp_and_softmax(x: Array, epsilon: float) -> tuple[Array, Array]:
    """exp(x), and it over its row sums plus epsilon."""
    x_exp = np.exp(x)
    return x_exp, x_exp / (np.sum(x_exp, axis=1, keepdims=True) + epsilon)


def softmax_backward(s: Array, grad_y: Array) -> Array:
    """-(grad_y @ s s^T) + grad_y * s, row by row, with the products s s^T formed first."""
    outer = np.matmul(s[:, :, np.newaxis], s[:, np.newaxis, :])
    mixed = np.squeeze(np.matmul(grad_y[:, np.newaxis, :], outer), axis=1)
    return np.asarray(-mixed + grad_y * s)


def log(x: Array, epsilon: float) -> Array:
    """log(x + epsilon)."""
    return np.asarray(np.log(x + epsilon))


def log_backward(x: Array, grad_y: Array, epsilon: float) -> Array:
    """grad_y / (x + epsilon), the reciprocal first."""
    return np.asarray(1.0 / (x + epsilon) * grad_y)


def log_softmax(x: Array) -> tuple[Array, Array]:
    """log(softmax(x)) with the row's maximum taken off first, and softmax(x)."""
    shifted = x - np.max(x, axis=1, keepdims=True)
    x_exp = np.exp(shifted)
    total = np.sum(x_exp, axis=1, keepdims=True)
    return shifted - np.log(total), x_exp / total


def log_softmax_backward(p: Array, grad_y: Array) -> Array:
    """grad_y - p * rowsum(grad_y)."""
    return np.asarray(grad_y - p * np.sum(grad_y, axis=1, keepdims=True))


def affine(x: Array, W: Array, b: Array | None) -> Array:
    """x @ W, the bias as a last row of W beside a column of ones appended to x."""
    if b is None:
        return matmul(x, W)
    ones = np.ones((x.shape[0], 1), x.dtype)
    return matmul(np.concatenate([x, ones], axis=1), np.concatenate([W, b[np.newaxis]]))


def affine_backward(x: Array, W: Array, grad_y: Array, with_bias: bool) -> tuple[Array, ...]:
    """(grad_x, grad_W), and grad_b where there is a bias."""
    if not with_bias:
        return matmul(grad_y, W.T), matmul(x.T, grad_y)
    ones = np.ones((x.shape[0], 1), x.dtype)
    grad = matmul(np.concatenate([x, ones], axis=1).T, grad_y)
    return matmul(grad_y, W.T), grad[:-1], grad[-1]

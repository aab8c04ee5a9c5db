"""The updates of the parameters in plain NumPy.

Every operation is rounded once, from left to right. Constants are rounded once to the dtype of the
parameter: NumPy's rule for a Python float beside an array.
"""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from ..checks import Array
from ..operations.update_checks import (
    decay_rate,
    real_number,
    refuse_overlap,
    step_number,
    updatable,
    weight_decay_number,
)
from .fma import fma
from .matmul import LEAF, tree, tree_of_chains


def sgd(params: Sequence[Array], grads: Sequence[Array], learning_rate: float) -> None:
    """Update every p of `params` in place: p = p - learning_rate * g."""
    rate = real_number("learning_rate", learning_rate)
    lists = updatable(params, grads)
    refuse_overlap(lists)
    for p, g in zip(*lists.arrays, strict=True):
        (lr,) = _rounded(p.dtype, rate)
        with np.errstate(all="ignore"):
            p[...] = p - lr * g.astype(p.dtype)


def momentum(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array],
    learning_rate: float,
    momentum: float,
) -> None:
    """Update every p and v in place: v = momentum * v + g; p = p - learning_rate * v."""
    rate = real_number("learning_rate", learning_rate)
    decay = real_number("momentum", momentum)
    lists = updatable(params, grads, velocities=velocities)
    refuse_overlap(lists)
    for p, g, v in zip(*lists.arrays, strict=True):
        lr, mu = _rounded(p.dtype, rate, decay)
        with np.errstate(all="ignore"):
            v[...] = mu * v + g.astype(p.dtype)
            p[...] = p - lr * v


def nesterov(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array],
    learning_rate: float,
    momentum: float,
) -> None:
    """Update every p and v in place: v = momentum * v + g; p = p - lr * (g + momentum * v)."""
    rate = real_number("learning_rate", learning_rate)
    decay = real_number("momentum", momentum)
    lists = updatable(params, grads, velocities=velocities)
    refuse_overlap(lists)
    for p, gradient, v in zip(*lists.arrays, strict=True):
        lr, mu = _rounded(p.dtype, rate, decay)
        g = gradient.astype(p.dtype)
        with np.errstate(all="ignore"):
            v[...] = mu * v + g
            p[...] = p - lr * (g + mu * v)


def adam(
    params: Sequence[Array],
    grads: Sequence[Array],
    m: Sequence[Array],
    v: Sequence[Array],
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """Update every p, m and v in place by Adam (Kingma & Ba, 2015), as PyTorch writes it.

    m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * (g * g);
    p = p - (s * m) / (sqrt(v) / c + eps), with s = learning_rate / (1 - b1^step) and
    c = sqrt(1 - b2^step) computed in float64. step starts at 1.
    """
    adamw(params, grads, m, v, step, learning_rate, beta1, beta2, epsilon, 0.0)


def adamw(
    params: Sequence[Array],
    grads: Sequence[Array],
    m: Sequence[Array],
    v: Sequence[Array],
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """Update every p, m and v in place by AdamW (Loshchilov & Hutter, 2019), as PyTorch writes it.

    Adam with p = keep * p - ... in place of p - ..., keep = 1 - learning_rate * weight_decay
    computed in float64.
    """
    decay = weight_decay_number(weight_decay)
    step = step_number(step)
    rate = real_number("learning_rate", learning_rate)
    b1, b2 = decay_rate("beta1", beta1), decay_rate("beta2", beta2)
    s, c = rate / (1 - _power(b1, step)), sqrt(1 - _power(b2, step))
    constants = (b1, 1 - b1, b2, 1 - b2, s, c, real_number("epsilon", epsilon), 1 - rate * decay)
    lists = updatable(params, grads, m=m, v=v)
    refuse_overlap(lists)
    for p, gradient, mean, square in zip(*lists.arrays, strict=True):
        b1, rest1, b2, rest2, s, c, eps, keep = _rounded(p.dtype, *constants)
        g = gradient.astype(p.dtype)
        with np.errstate(all="ignore"):
            mean[...] = b1 * mean + rest1 * g
            square[...] = b2 * square + rest2 * (g * g)
            p[...] = keep * p - (s * mean) / (np.sqrt(square) / c + eps)


def sum_of_squares(g: Array) -> float:
    """Return the sum of g * g in float64, g (N,), by leaves and tree: a product of one element."""
    leaves = max(1, -(-g.size // LEAF))
    values = np.zeros((leaves, LEAF))
    values.reshape(-1)[: g.size] = g  # a zero behind the last changes no chain
    chains = tree_of_chains(
        LEAF, lambda k, total: fma(values[:, k], values[:, k], total), np.zeros(leaves)
    )
    return float(tree(list(chains)))


def _power(base: float, exponent: int) -> float:
    power = 1.0
    for _ in range(exponent):
        power *= base
    return power


def _rounded(dtype: np.dtype[np.floating], *constants: float) -> Array:
    with np.errstate(over="ignore"):
        return np.array(constants, dtype)

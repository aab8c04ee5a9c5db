"""Activations in plain NumPy: y = f(x), and grad_x = grad_y * f'(x)."""

from collections.abc import Callable

import numpy as np

from ..checks import Array
from . import sigmoids

Function = Callable[[Array], Array]

SILU_CLAMP = 800.0  # logistic is 0 at -800 and 1 at 800, in either dtype
GELU_CLAMP = 10.0  # t is -1 at -10 and 1 at 10
A, B, C = 0.7978845608028654, 0.044715, 0.134145  # sqrt(2 / pi), and C = 3 B
LEAK = 0.01


def tanh_slope(y: Array) -> Array:
    """Return the slope of tanh where it is y."""
    return np.asarray(1 - y * y)


def logistic_slope(y: Array) -> Array:
    """Return the slope of logistic where it is y."""
    return np.asarray(y * (1 - y))


def silu(x: Array, logistic: Function = sigmoids.logistic) -> tuple[Array, Array]:
    """Return y and the slope."""
    above, x = _clamped(x, SILU_CLAMP)
    s = logistic(x)
    return above * s, s * (1 + x * (1 - s))


def gelu(x: Array, tanh: Function = sigmoids.tanh) -> tuple[Array, Array]:
    """Return y and the slope, of the tanh form."""
    above, x = _clamped(x, GELU_CLAMP)
    square = x * x
    t = tanh(A * (x + B * (square * x)))
    curved = ((0.5 * x) * (1 - t * t)) * (A * (1 + C * square))
    return (0.5 * above) * (1 + t), 0.5 * (1 + t) + curved


def leaky_relu(x: Array) -> tuple[Array, Array]:
    """Return y and the slope."""
    slope = np.where(x > 0, x.dtype.type(1), x.dtype.type(LEAK))
    return x * slope, slope


def _clamped(x: Array, limit: float) -> tuple[Array, Array]:
    """Return x but at least -limit, and this but at most limit.

    There f and f' have reached their limits: the clamps change only what would be 0 * inf.
    """
    top = x.dtype.type(limit)
    above = np.where(x < -top, -top, x)
    return above, np.where(above > top, top, above)


def y_and_slope(name: str, x: Array) -> tuple[Array, Array]:
    """Return f(x) and f'(x) of the activation of this name, in x's shape and dtype."""
    with np.errstate(all="ignore"):
        if name == "tanh":
            y = sigmoids.tanh(x)
            return y, tanh_slope(y)
        if name == "logistic":
            y = sigmoids.logistic(x)
            return y, logistic_slope(y)
        return {"silu": silu, "gelu": gelu, "leaky_relu": leaky_relu}[name](x)

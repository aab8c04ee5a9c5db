"""Activations in plain NumPy: y = f(x), and grad_x = grad_y * f'(x)."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..checks import Array, like, real_arrays, remembered
from . import sigmoids
from .relu import Relu

Function = Callable[[Array], Array]

SILU_CLAMP = 800.0  # logistic is 0 at -800 and 1 at 800, in either dtype
GELU_CLAMP = 10.0  # t is -1 at -10 and 1 at 10
A, B, C = 0.7978845608028654, 0.044715, 0.134145  # sqrt(2 / pi); C = 3 B
LEAK = 0.01


def y_and_slope(
    name: str, x: Array, tanh: Function = sigmoids.tanh, logistic: Function = sigmoids.logistic
) -> tuple[Array, Array]:
    """Return f(x) and f'(x) of the activation of this name, in x's shape and dtype."""
    with np.errstate(all="ignore"):
        if name == "silu":
            return _silu(x, logistic)
        if name == "gelu":
            return _gelu(x, tanh)
        if name == "leaky_relu":
            one, leak = x.dtype.type(1), x.dtype.type(LEAK)
            slope = np.where(x > 0, one, leak)
            return np.asarray(x * slope), slope
        y = np.asarray(tanh(x) if name == "tanh" else logistic(x))
        return y, slope_at(name, y)


def slope_at(
    name: str, kept: Array, tanh: Function = sigmoids.tanh, logistic: Function = sigmoids.logistic
) -> Array:
    """Return the slope where y of tanh or logistic, or x of another, is `kept`."""
    if name == "tanh":
        return np.asarray(1 - kept * kept)
    if name == "logistic":
        return np.asarray(kept * (1 - kept))
    return y_and_slope(name, kept, tanh, logistic)[1]


def _silu(x: Array, logistic: Function) -> tuple[Array, Array]:
    above, x = _clamped(x, SILU_CLAMP)
    s = logistic(x)
    return np.asarray(above * s), np.asarray(s * (1 + x * (1 - s)))


def _gelu(x: Array, tanh: Function) -> tuple[Array, Array]:
    above, x = _clamped(x, GELU_CLAMP)
    square = x * x
    t = tanh(A * (x + B * (square * x)))
    curved = ((0.5 * x) * (1 - t * t)) * (A * (1 + C * square))
    return np.asarray((0.5 * above) * (1 + t)), np.asarray(0.5 * (1 + t) + curved)


def _clamped(x: Array, limit: float) -> tuple[Array, Array]:
    """Return x but at least -limit, and this but at most limit.

    There f and f' have reached their limits: the clamps change only what would be 0 * inf.
    """
    most = x.dtype.type(limit)
    above = np.where(x < -most, -most, x)
    return above, np.where(above > most, most, above)


class _Activation:
    _name: ClassVar[str]
    _kept: ClassVar[str] = "x"  # what in `mem` the slope is made of

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype (float32 or float64)."""
        (x,) = real_arrays(x=x)
        y = y_and_slope(self._name, x)[0]
        self.mem = {"x": x, "out": y} if self._kept == "out" else {"x": x}
        return y

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = grad_y * f'(x) for the x of the last forward."""
        kept = remembered(self.mem, self._kept, type(self).__name__)
        kept, grad_y = real_arrays(x=kept, grad_y=grad_y)
        like("grad_y", grad_y, "x", kept.shape)
        with np.errstate(all="ignore"):
            return np.asarray(grad_y * slope_at(self._name, kept))


class Tanh(_Activation):
    """y = tanh(x); f'(x) = 1 - y * y. `mem` holds `x` and `out`, which is y."""

    _name, _kept = "tanh", "out"


class Logistic(_Activation):
    """y = 1 / (1 + exp(-x)); f'(x) = y * (1 - y). `mem` holds `x` and `out`, which is y."""

    _name, _kept = "logistic", "out"


class Silu(_Activation):
    """y = x * s, s = logistic(x); f'(x) = s * (1 + x * (1 - s)). `mem` holds `x`.

    Source: Elfwing, Uchibe & Doya, "Sigmoid-weighted linear units", Neural Networks 107, 2018.
    """

    _name = "silu"


class Gelu(_Activation):
    """y = (0.5 * x) * (1 + t), t = tanh(a * (x + b * x^3)), a = sqrt(2 / pi), b = 0.044715.

    f'(x) = 0.5 * (1 + t) + ((0.5 * x) * (1 - t^2)) * (a * (1 + 3 b * x^2)). `mem` holds `x`.

    Source: Hendrycks & Gimpel, "Gaussian error linear units", arXiv 1606.08415, 2016.
    """

    _name = "gelu"


class LeakyRelu(_Activation):
    """y = x where x > 0, else 0.01 * x; f'(x) is 1 or 0.01. `mem` holds `x`."""

    _name = "leaky_relu"


class Identity:
    """y = x, a copy. `mem` holds `x` of the last forward."""

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype. Raises TypeError for other dtypes than floats."""
        (x,) = real_arrays(x=x)
        self.mem["x"] = x
        return np.array(x, order="C")

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x, a copy of grad_y.

        Raises ValueError if grad_y has another shape than x, RuntimeError without a forward.
        """
        x, grad_y = real_arrays(x=remembered(self.mem, "x", "Identity"), grad_y=grad_y)
        like("grad_y", grad_y, "x", x.shape)
        return np.array(grad_y, order="C")


CLASSES: dict[str, type[Any]] = {
    "relu": Relu,
    "tanh": Tanh,
    "logistic": Logistic,
    "silu": Silu,
    "gelu": Gelu,
    "leaky_relu": LeakyRelu,
    "identity": Identity,
}

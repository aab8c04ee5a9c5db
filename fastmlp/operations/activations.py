"""Activations, compiled: y = f(x), and grad_x = grad_y * f'(x)."""

from typing import Any, ClassVar

from fastmlp_kernels.compiling.late import Late

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import Array, like, real_arrays, remembered
from ..reference.activations import Identity as Identity
from .relu import Relu
from .rowwise import Rowwise

kernels = Late("activations")


class _Activation:
    _name: ClassVar[str]
    _kept: ClassVar[str] = "x"  # what in `mem` the slope is made of
    _work: ClassVar[int] = 16  # multiply-adds that an element costs
    _forward: ClassVar[Rowwise]
    _backward: ClassVar[Rowwise]

    def __init_subclass__(cls) -> None:
        name, work = cls._name, 1 if cls._kept == "out" else cls._work
        cls._forward = Rowwise(lambda: kernels.forward[name], cls._work)
        cls._backward = Rowwise(lambda: kernels.backward[name], work, inputs=2)

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype. Raises TypeError for another dtype."""
        y, _ = self._forward.of_usual(x)
        if y is None:
            (x,) = real_arrays(x=x)
            y = notebook.activation(self._name, x) if is_numpy() else self._forward.run_flat(x)
        self.mem = {"x": x, "out": y} if self._kept == "out" else {"x": x}
        return y

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = grad_y * f'(x) for the x of the last forward.

        Raises ValueError if grad_y has another shape than x, RuntimeError without a forward.
        """
        kept = remembered(self.mem, self._kept, type(self).__name__)
        grad_x, _ = self._backward.of_usual(kept, grad_y)
        if grad_x is not None:
            return grad_x
        kept, grad_y = real_arrays(x=kept, grad_y=grad_y)
        like("grad_y", grad_y, "x", kept.shape)
        if is_numpy():
            return notebook.activation_backward(self._name, kept, grad_y)
        return self._backward.run_flat(kept, grad_y)


class Tanh(_Activation):
    """y = tanh(x); f'(x) = 1 - y * y. Arrays of any shape, float32 or float64.

    `mem` holds `x` and `out`, which is y, of the last forward.
    """

    _name, _kept = "tanh", "out"


class Logistic(_Activation):
    """y = 1 / (1 + exp(-x)), the sigmoid; f'(x) = y * (1 - y). Arrays of any shape, as Tanh's.

    `mem` holds `x` and `out`, which is y, of the last forward.
    """

    _name, _kept = "logistic", "out"


class Silu(_Activation):
    """y = x * s, s = logistic(x); f'(x) = s * (1 + x * (1 - s)). Arrays of any shape, as Tanh's.

    `mem` holds `x` of the last forward.

    Source: Elfwing, Uchibe & Doya, "Sigmoid-weighted linear units", Neural Networks 107, 2018.
    """

    _name = "silu"


class Gelu(_Activation):
    """y = (0.5 * x) * (1 + t), t = tanh(a * (x + b * x^3)), a = sqrt(2 / pi), b = 0.044715.

    f'(x) = 0.5 * (1 + t) + ((0.5 * x) * (1 - t^2)) * (a * (1 + 3 b * x^2)). This is the tanh form.
    Arrays of any shape, as Tanh's. `mem` holds `x` of the last forward.

    Source: Hendrycks & Gimpel, "Gaussian error linear units", arXiv 1606.08415, 2016.
    """

    _name = "gelu"


class LeakyRelu(_Activation):
    """y = x where x > 0, else 0.01 * x; f'(x) is 1 or 0.01. Arrays of any shape, as Tanh's.

    `mem` holds `x` of the last forward.
    """

    _name, _work = "leaky_relu", 1


CLASSES: dict[str, type[Any]] = {
    "relu": Relu,
    "tanh": Tanh,
    "logistic": Logistic,
    "silu": Silu,
    "gelu": Gelu,
    "leaky_relu": LeakyRelu,
    "identity": Identity,
}

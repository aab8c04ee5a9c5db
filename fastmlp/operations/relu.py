"""Relu, compiled."""

from typing import Any

from fastmlp_kernels.compiling.late import Late

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import Array, like, real_arrays, remembered
from .rowwise import Rowwise

kernels = Late("relu")

_FORWARD = Rowwise(lambda: kernels.forward)
_BACKWARD = Rowwise(lambda: kernels.backward, inputs=2)


class Relu:
    """y = x where x > 0, else +0; arrays of any shape, float32 or float64.

    `mem` holds `x` of the last forward.
    """

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype. Raises TypeError for another dtype."""
        y, _ = _FORWARD.of_usual(x)
        if y is None:
            (x,) = real_arrays(x=x)
            y = notebook.relu(x) if is_numpy() else _FORWARD.run_flat(x)
        self.mem["x"] = x
        return y

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = grad_y * (x > 0 ? 1 : 0) for the x of the last forward.

        Raises ValueError if grad_y has another shape than x, RuntimeError without a forward.
        """
        x = remembered(self.mem, "x", "Relu")
        grad_x, _ = _BACKWARD.of_usual(x, grad_y)
        if grad_x is not None:
            return grad_x
        x, grad_y = real_arrays(x=x, grad_y=grad_y)
        like("grad_y", grad_y, "x", x.shape)
        if is_numpy():
            return notebook.relu_backward(x, grad_y)
        return _BACKWARD.run_flat(x, grad_y)

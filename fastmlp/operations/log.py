"""Log, compiled."""

from typing import Any

from fastmlp_kernels.compiling.late import Late

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import Array, like, real_arrays, remembered
from .rowwise import Rowwise

kernels = Late("log")

_FORWARD = Rowwise(lambda: kernels.forward, work=12)
_BACKWARD = Rowwise(lambda: kernels.backward, inputs=2)


class Log:
    """y = log(x + epsilon); arrays of any shape, float32 or float64.

    `epsilon` is rounded to the dtype of x. `mem` holds `x` of the last forward.
    """

    def __init__(self) -> None:
        self.epsilon = 1e-12
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype. Raises TypeError for another dtype."""
        epsilon = float(self.epsilon)
        y, _ = _FORWARD.of_usual(x, None, epsilon)
        if y is None:
            (x,) = real_arrays(x=x)
            y = notebook.log(x, epsilon) if is_numpy() else _FORWARD.run_flat(x, None, epsilon)
        self.mem["x"] = x
        return y

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = (1 / (x + epsilon)) * grad_y for the x of the last forward.

        Raises ValueError if grad_y has another shape than x, RuntimeError without a forward.
        """
        x, epsilon = remembered(self.mem, "x", "Log"), float(self.epsilon)
        grad_x, _ = _BACKWARD.of_usual(x, grad_y, epsilon)
        if grad_x is not None:
            return grad_x
        x, grad_y = real_arrays(x=x, grad_y=grad_y)
        like("grad_y", grad_y, "x", x.shape)
        if is_numpy():
            return notebook.log_backward(x, grad_y, epsilon)
        return _BACKWARD.run_flat(x, grad_y, epsilon)

"""Log in plain NumPy."""

from typing import Any

import numpy as np

from ..checks import Array, like, real_arrays, remembered
from . import elementary


class Log:
    """y = log(x + epsilon).

    `epsilon` is rounded to the dtype of x. `mem` holds `x` of the last forward.
    """

    def __init__(self) -> None:
        self.epsilon = 1e-12
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype (float32 or float64)."""
        (x,) = real_arrays(x=x)
        self.mem["x"] = x
        with np.errstate(invalid="ignore", divide="ignore"):
            return elementary.log(np.asarray(x + x.dtype.type(self.epsilon)))

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = (1 / (x + epsilon)) * grad_y."""
        x, grad_y = real_arrays(x=remembered(self.mem, "x", "Log"), grad_y=grad_y)
        like("grad_y", grad_y, "x", x.shape)
        one, epsilon = x.dtype.type(1), x.dtype.type(self.epsilon)
        with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
            return np.asarray((one / (x + epsilon)) * grad_y)

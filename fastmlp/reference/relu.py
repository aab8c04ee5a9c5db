"""Relu in plain NumPy."""

from typing import Any

import numpy as np

from ..checks import Array, like, real_arrays, remembered


class Relu:
    """y = x where x > 0, else +0 (so a NaN gives +0).

    `mem` holds `x` of the last forward.
    """

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype (float32 or float64)."""
        (x,) = real_arrays(x=x)
        self.mem["x"] = x
        return np.where(x > 0, x, np.zeros_like(x))

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = grad_y * (x > 0 ? 1 : 0): -0, NaN and inf behave as in a product."""
        x, grad_y = real_arrays(x=remembered(self.mem, "x", "Relu"), grad_y=grad_y)
        like("grad_y", grad_y, "x", x.shape)
        with np.errstate(invalid="ignore"):
            return np.asarray(grad_y * (x > 0).astype(x.dtype))

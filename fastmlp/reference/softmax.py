"""Softmax in plain NumPy, as the notebook wrote it: exp(x) over its row sums plus epsilon."""

from typing import Any

import numpy as np

from ..checks import Array, like, real_arrays, remembered, remembered_matrix, rows_of_classes
from .elementary import exp
from .fma import fma
from .matmul import tree_of_chains
from .row_sum import row_sum


class Softmax:
    """exp(x) / (rowsum(exp(x)) + epsilon); exp overflows above 88 (float32) or 709 (float64).

    `epsilon` is rounded to the dtype of x. `mem` holds `out` and `x_exp` of the last forward.
    """

    def __init__(self) -> None:
        self.epsilon = 1e-12
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y for x (N, classes), float32 or float64, in its shape and dtype."""
        (x,) = real_arrays(x=x)
        rows_of_classes("x", x)
        with np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore"):
            x_exp = exp(x)
            y = x_exp / (row_sum(x_exp) + x.dtype.type(self.epsilon))
        self.mem = {"out": y, "x_exp": x_exp}
        return np.asarray(y)

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = (-t) + grad_y * y, t[j] = sum over i of grad_y[i] * (y[i] * y[j])."""
        y, grad_y = real_arrays(y=remembered(self.mem, "out", "Softmax"), grad_y=grad_y)
        like("grad_y", grad_y, "x", remembered_matrix("out", y).shape)

        def step(i: int, total: Array) -> Array:
            return fma(grad_y[:, i, np.newaxis], y[:, i, np.newaxis] * y, total)

        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            t = tree_of_chains(y.shape[1], step, np.zeros_like(y))
            return np.asarray(-t + grad_y * y)

"""LogSoftmax in plain NumPy."""

from typing import Any

import numpy as np

from ..checks import Array, like, real_arrays, remembered, remembered_matrix, rows_of_classes
from .elementary import exp, log
from .row_sum import row_sum


class LogSoftmax:
    """log(softmax(x)) of each row, stable for any finite x.

    `mem` holds `out` (the log-probabilities) and `p` (the probabilities) of the last forward.
    """

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return logp for x (N, classes), float32 or float64, in its shape and dtype.

        m = max(x); z = x - m; e = exp(z); r = rowsum(e); logp = z - log(r); p = e / r. A NaN or
        +inf in a row makes the whole row NaN, and so does a row of -inf alone.
        """
        (x,) = real_arrays(x=x)
        rows_of_classes("x", x)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            z = x - np.max(x, axis=1, keepdims=True)
            e = exp(z)
            r = row_sum(e)
            self.mem = {"out": z - log(r), "p": e / r}
        return np.asarray(self.mem["out"])

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = grad_y - p * rowsum(grad_y)."""
        p, grad_y = real_arrays(p=remembered(self.mem, "p", "LogSoftmax"), grad_y=grad_y)
        like("grad_y", grad_y, "x", remembered_matrix("p", p).shape)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return np.asarray(grad_y - p * row_sum(grad_y))

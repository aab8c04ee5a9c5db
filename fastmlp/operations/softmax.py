"""Softmax, compiled."""

from typing import Any

import numpy as np
from fastmlp_kernels.compiling.late import Late

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import Array, like, own_arrays, remembered, remembered_matrix, rows_of_classes
from .rowwise import Rowwise

kernels = Late("softmax")

# An element's exp, sum and division cost 12 multiply-adds.
_FORWARD = Rowwise(lambda: kernels.forward, work=12, results=2, is_matrix=True)
_BACKWARD = Rowwise(lambda: kernels.backward, work=0, inputs=2, is_matrix=True)


class Softmax:
    """exp(x) / (rowsum(exp(x)) + epsilon) for each row of x (N, classes), as the notebook wrote it.

    exp overflows above 88 (float32) or 709 (float64): LogSoftmax has no such limit. `epsilon` is
    rounded to the dtype of x. `mem` holds `out` and `x_exp` (exp(x)) of the last forward.
    """

    def __init__(self) -> None:
        self.epsilon = 1e-12
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return the probabilities, of x's shape and dtype (float32 or float64).

        Raises TypeError for another dtype, ValueError if x is not a matrix or has no column.
        """
        epsilon = float(self.epsilon)
        x_exp, y = _FORWARD.of_usual(x, None, epsilon)
        if y is None:
            (x,) = own_arrays(x=x)
            rows_of_classes("x", x)
            if is_numpy():
                x_exp, y = notebook.exp_and_softmax(x, epsilon)
            else:
                x_exp, y = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
                _FORWARD.run(np.ascontiguousarray(x), x_exp, y, epsilon)
        self.mem = {"out": y, "x_exp": x_exp}
        return y

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = (-t) + grad_y * y, t[j] = sum over i of grad_y[i] * (y[i] * y[j]).

        y is that of the last forward. Raises ValueError if grad_y has another shape than x,
        RuntimeError without a forward.
        """
        y = remembered(self.mem, "out", "Softmax")
        grad_x, _ = _BACKWARD.of_usual(y, grad_y)
        if grad_x is not None:
            return grad_x
        y, grad_y = own_arrays(y=y, grad_y=grad_y)
        like("grad_y", grad_y, "x", remembered_matrix("out", y).shape)
        if is_numpy():
            return notebook.softmax_backward(y, grad_y)
        return _BACKWARD.run_rows(y, grad_y)

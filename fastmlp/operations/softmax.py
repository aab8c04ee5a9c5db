"""Softmax, compiled."""

from typing import Any

import numpy as np
from fastmlp_kernels import softmax as kernels

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import Array, like, own_arrays, remembered, remembered_matrix, rows_of_classes
from ..threads import threads_for

_FORWARD_WORK = 12  # multiply-adds that an element's exp, sum and division cost


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
        (x,) = own_arrays(x=x)
        rows_of_classes("x", x)
        epsilon = float(self.epsilon)
        if is_numpy():
            x_exp, y = notebook.exp_and_softmax(x, epsilon)
        else:
            x_exp, y = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
            threads = threads_for(x.size * _FORWARD_WORK)
            kernels.forward[x.dtype](np.ascontiguousarray(x), x_exp, y, epsilon, threads)
        self.mem = {"out": y, "x_exp": x_exp}
        return y

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = (-t) + grad_y * y, t[j] = sum over i of grad_y[i] * (y[i] * y[j]).

        y is that of the last forward. Raises ValueError if grad_y has another shape than x,
        RuntimeError without a forward.
        """
        y, grad_y = own_arrays(y=remembered(self.mem, "out", "Softmax"), grad_y=grad_y)
        like("grad_y", grad_y, "x", remembered_matrix("out", y).shape)
        if is_numpy():
            return notebook.softmax_backward(y, grad_y)
        grad_x = np.empty(y.shape, y.dtype)
        y, grad_y = np.ascontiguousarray(y), np.ascontiguousarray(grad_y)
        kernels.backward[y.dtype](y, grad_y, grad_x, 0.0, threads_for(y.size * y.shape[1]))
        return grad_x

"""Relu, compiled."""

from typing import Any

import numpy as np
from fastmlp_kernels import relu as kernels

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import Array, like, real_arrays, remembered
from ..threads import threads_for


class Relu:
    """y = x where x > 0, else +0; arrays of any shape, float32 or float64.

    `mem` holds `x` of the last forward.
    """

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype. Raises TypeError for another dtype."""
        (x,) = real_arrays(x=x)
        self.mem["x"] = x
        if is_numpy():
            return notebook.relu(x)
        flat = np.ascontiguousarray(x).reshape(-1, 1)
        y = np.empty(x.shape, x.dtype)
        flat_y = y.reshape(-1, 1)
        kernels.forward[x.dtype](flat, flat_y, flat_y, 0.0, threads_for(x.size))
        return y

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = grad_y * (x > 0 ? 1 : 0) for the x of the last forward.

        Raises ValueError if grad_y has another shape than x, RuntimeError without a forward.
        """
        x = remembered(self.mem, "x", "Relu")
        x, grad_y = real_arrays(x=x, grad_y=grad_y)
        like("grad_y", grad_y, "x", x.shape)
        if is_numpy():
            return notebook.relu_backward(x, grad_y)
        flat_x = np.ascontiguousarray(x).reshape(-1, 1)
        flat_grad_y = np.ascontiguousarray(grad_y).reshape(-1, 1)
        grad_x = np.empty(x.shape, x.dtype)
        kernels.backward[x.dtype](
            flat_x, flat_grad_y, grad_x.reshape(-1, 1), 0.0, threads_for(x.size)
        )
        return grad_x

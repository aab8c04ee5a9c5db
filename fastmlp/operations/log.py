"""Log, compiled."""

from typing import Any

import numpy as np
from fastmlp_kernels import log as kernels

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import Array, like, real_arrays, remembered
from ..threads import threads_for

_FORWARD_WORK = 12  # multiply-adds that an element's log costs


class Log:
    """y = log(x + epsilon); arrays of any shape, float32 or float64.

    `epsilon` is rounded to the dtype of x. `mem` holds `x` of the last forward.
    """

    def __init__(self) -> None:
        self.epsilon = 1e-12
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array) -> Array:
        """Return y, of x's shape and dtype. Raises TypeError for another dtype."""
        (x,) = real_arrays(x=x)
        self.mem["x"] = x
        epsilon = float(self.epsilon)
        if is_numpy():
            return notebook.log(x, epsilon)
        flat_x = np.ascontiguousarray(x).reshape(-1, 1)
        y = np.empty(x.shape, x.dtype)
        flat_y = y.reshape(-1, 1)
        threads = threads_for(x.size * _FORWARD_WORK)
        kernels.forward[x.dtype](flat_x, flat_y, flat_y, epsilon, threads)
        return y

    def backward(self, grad_y: Array) -> Array:
        """Return grad_x = (1 / (x + epsilon)) * grad_y for the x of the last forward.

        Raises ValueError if grad_y has another shape than x, RuntimeError without a forward.
        """
        x, grad_y = real_arrays(x=remembered(self.mem, "x", "Log"), grad_y=grad_y)
        like("grad_y", grad_y, "x", x.shape)
        epsilon = float(self.epsilon)
        if is_numpy():
            return notebook.log_backward(x, grad_y, epsilon)
        flat_x = np.ascontiguousarray(x).reshape(-1, 1)
        flat_grad_y = np.ascontiguousarray(grad_y).reshape(-1, 1)
        grad_x = np.empty(x.shape, x.dtype)
        kernels.backward[x.dtype](
            flat_x, flat_grad_y, grad_x.reshape(-1, 1), epsilon, threads_for(x.size)
        )
        return grad_x

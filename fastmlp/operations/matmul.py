"""Matmul, compiled."""

from typing import Any

import numpy as np
from fastmlp_kernels.compiling.late import Late

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import (
    Array,
    like,
    matrix,
    output,
    own_arrays,
    product_shapes,
    real_arrays,
    remembered,
)
from ..plan.matmul import plan_backward, plan_forward
from .product import Product, with_contiguous_rows, written

kernels = Late("matmul")

_FORWARD = Product(kernels, "forward", plan_forward)
_BACKWARD = Product(kernels, "backward", plan_backward)


class Matmul:
    """y = x @ W for x (N, inputs) and W (inputs, outputs), float32 or float64, any strides.

    `mem` holds `x` and `W` of the last forward.
    """

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array, W: Array, out: Array | None = None) -> Array:
        """Return y (N, outputs) in the dtype that x and W promote to.

        It is written to `out` if given: an array of y's shape and dtype that overlaps neither.
        Raises TypeError for dtypes and ValueError for shapes that don't fit.
        """
        y = _FORWARD.forward_of_usual(x, W, None, out)
        if y is None:
            x, W = real_arrays(x=x, W=W)
            y = _product(x.view(), W.view(), out)  # as in own_arrays
        self.mem = {"x": x, "W": W}
        return y

    def backward(self, grad_y: Array) -> tuple[Array, Array]:
        """Return grad_x = grad_y @ W^T and grad_W = x^T @ grad_y for the last forward.

        Raises ValueError if grad_y hasn't the shape of y, RuntimeError without a forward.
        """
        x, W = remembered(self.mem, "x", "Matmul"), remembered(self.mem, "W", "Matmul")
        gradients = _BACKWARD.backward_of_usual(x, W, grad_y, None)
        if gradients is not None:
            return gradients
        x, W, grad_y = own_arrays(x=x, W=W, grad_y=grad_y)
        # Again, as `mem` and the shapes of its arrays may have been changed.
        like("grad_y", matrix("grad_y", grad_y), "x @ W", product_shapes(x, W))
        if is_numpy():
            return notebook.matmul(grad_y, W.T), notebook.matmul(x.T, grad_y)
        grad_x, grad_W = np.empty(x.shape, x.dtype), np.empty(W.shape, x.dtype)
        _BACKWARD.run(x, W, grad_y, grad_x, grad_W, None)
        return grad_x, grad_W


def _product(x: Array, W: Array, out: Array | None) -> Array:
    """Return x @ W, `out` if given, for arrays of one dtype."""
    shape = product_shapes(x, W)
    if out is None:
        y = rows = np.empty(shape, x.dtype)
    else:
        y = output(out, shape, x.dtype, x=x, W=W)
        rows = with_contiguous_rows(y)
    if is_numpy():
        return np.matmul(x, W, out=out)
    _FORWARD.run(x, W, rows, None, None, None)
    y = written(rows, y)
    return y if out is None else out

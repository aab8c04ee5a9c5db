"""MatmulRelu in plain NumPy: the product with a bias row, then relu."""

from typing import Any

import numpy as np

from ..checks import Array, bias_row, like, output, product_shapes, real_arrays, remembered
from .matmul import matmul
from .relu import Relu


def affine(x: Array, W: Array, b: Array | None) -> Array:
    """x @ W + b: the bias is a last row of W beside a last column of ones of x."""
    if b is None:
        return matmul(x, W)
    ones = np.ones((x.shape[0], 1), x.dtype)
    return matmul(np.concatenate([x, ones], axis=1), np.concatenate([W, b[np.newaxis]]))


class MatmulRelu:
    """y = relu(x @ W + b) for x (N, inputs), W (inputs, outputs), b (outputs,) or none.

    `mem` holds `x`, `W`, `b` and `y` of the last forward.
    """

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(
        self, x: Array, W: Array, b: Array | None = None, out: Array | None = None
    ) -> Array:
        """Return y (N, outputs) in the dtype that the inputs promote to, in `out` if given."""
        if b is None:
            x, W = real_arrays(x=x, W=W)
        else:
            x, W, b = real_arrays(x=x, W=W, b=b)
        shape = product_shapes(x, W)
        inputs = {"x": x, "W": W}
        if b is not None:
            inputs["b"] = bias_row(b, W)
        if out is not None:
            output(out, shape, x.dtype, **inputs)
        y = Relu().forward(affine(x, W, b))
        if out is not None:
            out[...] = y
            y = out
        self.mem = {"x": x, "W": W, "b": b, "y": y}
        return y

    def backward(self, grad_y: Array) -> tuple[Array, ...]:
        """Return (grad_x, grad_W), and grad_b third if there was a bias: Relu's, then Matmul's."""
        y = remembered(self.mem, "y", "MatmulRelu")
        x, W, y, grad_y = real_arrays(x=self.mem["x"], W=self.mem["W"], y=y, grad_y=grad_y)
        like("grad_y", grad_y, "y", y.shape)
        like("mem['y']", y, "x @ W", product_shapes(x, W))
        relu = Relu()
        relu.mem["x"] = y  # y > 0 exactly where x @ W + b > 0
        g = relu.backward(grad_y)
        if self.mem["b"] is None:
            return matmul(g, W.T), matmul(x.T, g)
        ones = np.ones((x.shape[0], 1), x.dtype)
        grad = matmul(np.concatenate([x, ones], axis=1).T, g)
        return matmul(g, W.T), grad[:-1], grad[-1]

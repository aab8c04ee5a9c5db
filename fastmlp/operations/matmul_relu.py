"""MatmulRelu: a layer's product, bias and relu in one, compiled."""

from itertools import product
from typing import Any

import numpy as np
from fastmlp_kernels.compiling.late import Late

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import (
    Array,
    bias_row,
    like,
    output,
    own_arrays,
    product_shapes,
    real_arrays,
    remembered,
)
from ..plan.matmul import plan_backward, plan_forward
from .product import Product, with_contiguous_rows, written

kernels = Late("matmul_relu")

# By the flags with_bias, relu, and gate of forward.
_FORWARD = {
    flags: Product(kernels, "forward", plan_forward, *flags)
    for flags in product((False, True), repeat=3)
}
_RELU, _RELU_OF_BIASED = _FORWARD[False, True, False], _FORWARD[True, True, False]
_BACKWARD, _BACKWARD_OF_BIASED = (
    Product(kernels, "backward", plan_backward, with_bias, True) for with_bias in (False, True)
)


class MatmulRelu:
    """y = relu(x @ W + b) for x (N, inputs), W (inputs, outputs), b (outputs,) or none.

    A bias is one more index of the product: exactly a last row of W beside a last column of ones of
    x, without copying x. float32 or float64, any strides. `mem` holds `x`, `W`, `b` and `y` of the
    last forward.
    """

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(
        self, x: Array, W: Array, b: Array | None = None, out: Array | None = None
    ) -> Array:
        """Return y (N, outputs) in the dtype that the inputs promote to.

        It is written to `out` if given: an array of y's shape and dtype that overlaps no input.
        Raises TypeError for dtypes and ValueError for shapes that don't fit.
        """
        y = (_RELU if b is None else _RELU_OF_BIASED).forward_of_usual(x, W, b, out)
        if y is None:
            if b is None:
                x, W = real_arrays(x=x, W=W)
            else:
                x, W, b = real_arrays(x=x, W=W, b=b)
            # Views, as in own_arrays.
            y = affine(x.view(), W.view(), None if b is None else b.view(), out, relu=True)
        self.mem = {"x": x, "W": W, "b": b, "y": y}
        return y

    def backward(self, grad_y: Array) -> tuple[Array, ...]:
        """Return (grad_x, grad_W), and grad_b third if the last forward had a bias.

        Raises ValueError if grad_y hasn't the shape of y, RuntimeError without a forward.
        """
        y = remembered(self.mem, "y", "MatmulRelu")
        x, W, with_bias = self.mem["x"], self.mem["W"], self.mem["b"] is not None
        product = _BACKWARD_OF_BIASED if with_bias else _BACKWARD
        gradients = product.backward_of_usual(x, W, grad_y, y)
        if gradients is None:
            x, W, y, grad_y = own_arrays(x=x, W=W, y=y, grad_y=grad_y)
            like("grad_y", grad_y, "y", y.shape)
            like("mem['y']", y, "x @ W", product_shapes(x, W))  # `mem` may have been changed
            if is_numpy():
                g = notebook.relu_backward(y, grad_y)
                return notebook.affine_backward(x, W, g, with_bias)
            grad_x = np.empty(x.shape, x.dtype)
            grad_W = np.empty((W.shape[0] + with_bias, W.shape[1]), x.dtype)
            y, grad_y = np.ascontiguousarray(y), np.ascontiguousarray(grad_y)
            product.run(x, W, grad_y, grad_x, grad_W, y)
            gradients = grad_x, grad_W
        grad_x, grad_W = gradients
        return (grad_x, grad_W[:-1], grad_W[-1]) if with_bias else gradients


def affine(x: Array, W: Array, b: Array | None, out: Array | None, *, relu: bool) -> Array:
    """Return x @ W + b, or its relu, for arrays of one dtype: the forward of every layer."""
    product = _FORWARD[b is not None, relu, False]
    y = product.forward_of_usual(x, W, b, out)
    if y is not None:
        return y
    shape = product_shapes(x, W)
    inputs = {"x": x, "W": W}
    if b is not None:
        inputs["b"] = bias_row(b, W)
    if out is None:
        y = rows = np.empty(shape, x.dtype)
    else:
        y = output(out, shape, x.dtype, **inputs)
        rows = with_contiguous_rows(y)
    if is_numpy():
        h = notebook.affine(x, W, b)
        y[...] = notebook.relu(h) if relu else h
        return y if out is None else out
    product.run(x, W, rows, None if b is None else np.ascontiguousarray(b), None, None)
    y = written(rows, y)
    return y if out is None else out


def gradient_below(grad_y: Array, W: Array, x: Array) -> Array:
    """Return grad_y @ W^T through the relu that made x: the grad_y of the layer below, in one pass.

    x (N, inputs) is above 0 exactly where that relu's input is.
    """
    like("x", x, "grad_y @ W^T", product_shapes(grad_y, W.T))
    if is_numpy():
        return notebook.relu_backward(x, notebook.matmul(grad_y, W.T))
    y = np.empty(x.shape, x.dtype)
    product = _FORWARD[False, False, True]
    product.run(grad_y, W.T, y, None, np.ascontiguousarray(x), None)
    return y

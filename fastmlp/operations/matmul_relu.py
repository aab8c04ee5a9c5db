"""MatmulRelu: a layer's product, bias and relu in one, compiled."""

from typing import Any

import numpy as np
from fastmlp_kernels import matmul_relu as kernels

from .. import notebook
from ..arithmetic_mode import is_numpy
from ..checks import (
    FLOATS,
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
from .matmul import planned, with_contiguous_rows, written

NONE = {
    dtype.itemsize: (np.empty(0, dtype), np.empty((0, 0), dtype)) for dtype in FLOATS
}  # neither bias nor gate


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
        with_bias = self.mem["b"] is not None
        x, W, y, grad_y = own_arrays(x=self.mem["x"], W=self.mem["W"], y=y, grad_y=grad_y)
        like("grad_y", grad_y, "y", y.shape)
        like("mem['y']", y, "x @ W", product_shapes(x, W))  # `mem` may have been changed
        if is_numpy():
            g = notebook.relu_backward(y, grad_y)
            return notebook.affine_backward(x, W, g, with_bias)
        grad_x = np.empty(x.shape, x.dtype)
        grad_W = np.empty((W.shape[0] + with_bias, W.shape[1]), x.dtype)
        y, grad_y = np.ascontiguousarray(y), np.ascontiguousarray(grad_y)
        x, W, grad_y, *plan = planned(plan_backward, x, W, grad_y, with_bias, True)
        kernels.backward[x.dtype](x, W, grad_y, y, grad_x, grad_W, *plan)
        return (grad_x, grad_W[:-1], grad_W[-1]) if with_bias else (grad_x, grad_W)


def affine(x: Array, W: Array, b: Array | None, out: Array | None, *, relu: bool) -> Array:
    """Return x @ W + b, or its relu, for arrays of one dtype: the forward of every layer."""
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
    _multiply(x, W, None if b is None else np.ascontiguousarray(b), None, rows, relu)
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
    _multiply(grad_y, W.T, None, np.ascontiguousarray(x), y, False)
    return y


def _multiply(
    x: Array, W: Array, bias: Array | None, gate: Array | None, y: Array, relu: bool
) -> None:
    x, W, y, *plan = planned(plan_forward, x, W, y, bias is not None, relu, gate is not None)
    no_bias, no_gate = NONE[x.itemsize]
    kernels.forward[x.dtype](
        x, W, y, no_bias if bias is None else bias, no_gate if gate is None else gate, *plan
    )

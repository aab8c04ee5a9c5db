"""Matmul, compiled."""

from typing import Any

import numpy as np
from fastmlp_kernels import matmul as kernels

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
from ..model.addresses import Planner, product_plan
from ..plan.matmul import plan_backward, plan_forward
from ..scratch import scratch
from ..threads import threads_for


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
        given = real_arrays(x=x, W=W)
        x, W = given[0].view(), given[1].view()  # as in own_arrays
        shape = product_shapes(x, W)
        if out is None:
            y = rows = np.empty(shape, x.dtype)
        else:
            y = output(out, shape, x.dtype, x=x, W=W)
            rows = with_contiguous_rows(y)
        self.mem = {"x": given[0], "W": given[1]}
        if is_numpy():
            return np.matmul(x, W, out=out)
        kernels.forward[x.dtype](*planned(plan_forward, x, W, rows))
        y = written(rows, y)
        return y if out is None else out

    def backward(self, grad_y: Array) -> tuple[Array, Array]:
        """Return grad_x = grad_y @ W^T and grad_W = x^T @ grad_y for the last forward.

        Raises ValueError if grad_y hasn't the shape of y, RuntimeError without a forward.
        """
        x, W = remembered(self.mem, "x", "Matmul"), remembered(self.mem, "W", "Matmul")
        x, W, grad_y = own_arrays(x=x, W=W, grad_y=grad_y)
        # Again, as `mem` and the shapes of its arrays may have been changed.
        like("grad_y", matrix("grad_y", grad_y), "x @ W", product_shapes(x, W))
        if is_numpy():
            return notebook.matmul(grad_y, W.T), notebook.matmul(x.T, grad_y)
        grad_x, grad_W = np.empty(x.shape, x.dtype), np.empty(W.shape, x.dtype)
        x, W, grad_y, *plan = planned(plan_backward, x, W, grad_y)
        kernels.backward[x.dtype](x, W, grad_y, grad_x, grad_W, *plan)
        return grad_x, grad_W


def planned(
    plan: Planner, x: Array, W: Array, y: Array, *flags: bool
) -> tuple[Array, Array, Array, Array, Array]:
    """Return x, W and y as kernels take them, what their plan tells, and memory for it.

    flags: of its Layout.

    One whose strides aren't whole elements, as those of a field of a record, is copied: never a
    y that is written, see `with_contiguous_rows`.
    """
    found = product_plan(
        plan, x.shape, x.strides, W.shape, W.strides, y.strides, x.itemsize,
        threads_for(x.size * W.shape[1]), *flags,
    )  # fmt: skip
    if found is None:
        return planned(plan, _in_elements(x), _in_elements(W), _in_elements(y), *flags)
    words, room = found
    return x, W, y, words, scratch(room)


def _in_elements(x: Array) -> Array:
    return np.ascontiguousarray(x) if any(stride % x.itemsize for stride in x.strides) else x


def with_contiguous_rows(y: Array) -> Array:
    """Return y, or new memory of its shape if a kernel can't write y's rows where they lie."""
    if y.flags.c_contiguous or (y.strides[1] == y.itemsize and y.strides[0] % y.itemsize == 0):
        return y
    return np.empty(y.shape, y.dtype)


def written(rows: Array, y: Array) -> Array:
    """Return y, filled from `rows` where `with_contiguous_rows` gave new memory."""
    if rows is not y:
        y[...] = rows
    return y

"""Relu: y = x > 0 ? x : +0; grad_x = grad_y * (x > 0 ? 1 : 0). All arrays (n, 1)."""

from fastmlp_kernels.compiling.jit import jit
from fastmlp_kernels.row_shares import RowsKernel, finish, my_rows


@jit
def relu(x, y):
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = x[i] if x[i] > zero else zero


@jit
def relu_backward(x, grad_y, grad_x):
    one, zero = x.dtype.type(1), x.dtype.type(0)
    for i in range(x.size):
        grad_x[i] = grad_y[i] * (one if x[i] > zero else zero)


def _forward(zero):
    def relu_forward(data, _, thread):
        x, y, _, _ = my_rows(zero, data, thread)
        relu(x.reshape(-1), y.reshape(-1))
        finish(data)

    return relu_forward


def _backward(zero):
    def relu_backward_of_rows(data, _, thread):
        x, grad_y, grad_x, _ = my_rows(zero, data, thread)
        relu_backward(x.reshape(-1), grad_y.reshape(-1), grad_x.reshape(-1))
        finish(data)

    return relu_backward_of_rows


forward = RowsKernel(_forward)  # x, y
backward = RowsKernel(_backward)  # x, grad_y, grad_x

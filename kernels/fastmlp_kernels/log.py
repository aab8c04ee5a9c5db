"""Log: y = log(x + epsilon); grad_x = (1 / (x + epsilon)) * grad_y.

All arrays (n, 1); epsilon is a float64 that is rounded to their dtype.
"""

from fastmlp_kernels.arithmetic import elementary
from fastmlp_kernels.compiling.jit import jit
from fastmlp_kernels.row_shares import RowsKernel, finish, my_rows


@jit
def log(x, epsilon, y):
    added = x.dtype.type(epsilon)
    for i in range(x.size):
        y[i] = elementary.log(x[i] + added)


@jit
def log_backward(x, epsilon, grad_y, grad_x):
    one, added = x.dtype.type(1), x.dtype.type(epsilon)
    for i in range(x.size):
        grad_x[i] = (one / (x[i] + added)) * grad_y[i]


def _forward(zero):
    def log_forward(data, _, thread):
        x, y, _, epsilon = my_rows(zero, data, thread)
        log(x.reshape(-1), epsilon, y.reshape(-1))
        finish(data)

    return log_forward


def _backward(zero):
    def log_backward_of_rows(data, _, thread):
        x, grad_y, grad_x, epsilon = my_rows(zero, data, thread)
        log_backward(x.reshape(-1), epsilon, grad_y.reshape(-1), grad_x.reshape(-1))
        finish(data)

    return log_backward_of_rows


forward = RowsKernel(_forward)  # x, y
backward = RowsKernel(_backward)  # x, grad_y, grad_x

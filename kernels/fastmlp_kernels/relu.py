"""Relu: y = x > 0 ? x : +0; grad_x = grad_y * (x > 0 ? 1 : 0). All arrays 1-D, of one length."""

from numba import prange

from fastmlp_kernels.float_mode import in_ieee_mode
from fastmlp_kernels.jit import integer, kernel, packed, result, share


@in_ieee_mode
def relu(x, y):
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = x[i] if x[i] > zero else zero


@in_ieee_mode
def relu_backward(x, grad_y, grad_x):
    one, zero = x.dtype.type(1), x.dtype.type(0)
    for i in range(x.size):
        grad_x[i] = grad_y[i] * (one if x[i] > zero else zero)


@kernel(lambda real: (packed(real, 1), result(real, 1), integer), parallel=True)
def forward(x, y, num_threads):
    if num_threads == 1:
        relu(x, y)
    else:
        for part in prange(num_threads):
            mine = share(x.size, part, num_threads)
            relu(x[mine], y[mine])


@kernel(lambda real: (packed(real, 1), packed(real, 1), result(real, 1), integer), parallel=True)
def backward(x, grad_y, grad_x, num_threads):
    if num_threads == 1:
        relu_backward(x, grad_y, grad_x)
    else:
        for part in prange(num_threads):
            mine = share(x.size, part, num_threads)
            relu_backward(x[mine], grad_y[mine], grad_x[mine])

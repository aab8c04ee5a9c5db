"""Log: y = log(x + epsilon); grad_x = (1 / (x + epsilon)) * grad_y.

All arrays are 1-D and of one length; epsilon is a float64 that is rounded to their dtype.
"""

from numba import prange
from numba.core import types

from fastmlp_kernels import elementary
from fastmlp_kernels.float_mode import in_ieee_mode
from fastmlp_kernels.jit import integer, kernel, packed, result, share


@in_ieee_mode
def log(x, epsilon, y):
    added = x.dtype.type(epsilon)
    for i in range(x.size):
        y[i] = elementary.log(x[i] + added)


@in_ieee_mode
def log_backward(x, epsilon, grad_y, grad_x):
    one, added = x.dtype.type(1), x.dtype.type(epsilon)
    for i in range(x.size):
        grad_x[i] = (one / (x[i] + added)) * grad_y[i]


@kernel(lambda real: (packed(real, 1), types.float64, result(real, 1), integer), parallel=True)
def forward(x, epsilon, y, num_threads):
    if num_threads == 1:
        log(x, epsilon, y)
    else:
        for part in prange(num_threads):
            mine = share(x.size, part, num_threads)
            log(x[mine], epsilon, y[mine])


@kernel(
    lambda real: (packed(real, 1), types.float64, packed(real, 1), result(real, 1), integer),
    parallel=True,
)
def backward(x, epsilon, grad_y, grad_x, num_threads):
    if num_threads == 1:
        log_backward(x, epsilon, grad_y, grad_x)
    else:
        for part in prange(num_threads):
            mine = share(x.size, part, num_threads)
            log_backward(x[mine], epsilon, grad_y[mine], grad_x[mine])

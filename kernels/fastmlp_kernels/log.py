"""Log: y = log(x + epsilon); grad_x = (1 / (x + epsilon)) * grad_y.

All arrays are 1-D and of one length.
"""

from numba import prange

from fastmlp_kernels import elementary
from fastmlp_kernels.jit import integer, jit, kernel, packed, result, share


@jit
def log(x, epsilon, y):
    for i in range(x.size):
        y[i] = elementary.log(x[i] + epsilon)


@jit
def log_backward(x, epsilon, grad_y, grad_x):
    one = x.dtype.type(1)
    for i in range(x.size):
        grad_x[i] = (one / (x[i] + epsilon)) * grad_y[i]


@kernel(lambda real: (packed(real, 1), real, result(real, 1), integer), parallel=True)
def forward(x, epsilon, y, num_threads):
    if num_threads == 1:
        log(x, epsilon, y)
    else:
        for part in prange(num_threads):
            mine = share(x.size, part, num_threads)
            log(x[mine], epsilon, y[mine])


@kernel(
    lambda real: (packed(real, 1), real, packed(real, 1), result(real, 1), integer), parallel=True
)
def backward(x, epsilon, grad_y, grad_x, num_threads):
    if num_threads == 1:
        log_backward(x, epsilon, grad_y, grad_x)
    else:
        for part in prange(num_threads):
            mine = share(x.size, part, num_threads)
            log_backward(x[mine], epsilon, grad_y[mine], grad_x[mine])

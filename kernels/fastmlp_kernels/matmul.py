"""Matmul: y = x @ W for x (M, K), W (K, N); grad_x = grad_y @ W^T, grad_W = x^T @ grad_y."""

import numpy as np

from fastmlp_kernels.jit import kernel, result, view, writable
from fastmlp_kernels.product import CALL, product


@kernel(lambda real: (view(real, 2), view(real, 2), writable(real, 2), *CALL))
def forward(x, W, y, code, num_threads):
    """y = x @ W: x (M, K), W (K, N), y (M, N) with contiguous rows."""
    none = np.empty((0, 1), y.dtype)
    product(x, W, none[:, 0], none, y, False, False, code, num_threads)


@kernel(
    lambda real: (
        view(real, 2), view(real, 2), view(real, 2), result(real, 2), result(real, 2), *CALL
    )
)  # fmt: skip
def backward(x, W, grad_y, grad_x, grad_W, code, num_threads):
    """grad_x = grad_y @ W^T, grad_W = x^T @ grad_y: the shapes of x and W."""
    none = np.empty((0, 1), grad_x.dtype)
    product(grad_y, W.T, none[:, 0], none, grad_x, False, False, code, num_threads)
    product(x.T, grad_y, none[:, 0], none, grad_W, False, False, code, num_threads)

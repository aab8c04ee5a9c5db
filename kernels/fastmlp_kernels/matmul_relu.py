"""MatmulRelu: y = relu(x @ W + b) for x (M, K), W (K, N), b (N,) or none.

The bias and the relu happen in registers, before the only store of y; the bias is one more index of
the product (a row of W beside a column of ones of x that lies nowhere). Backward takes what relu's
makes of grad_y, g = grad_y * (y > 0 ? 1 : 0): grad_x = g @ W^T, grad_W = x^T @ g, grad_b = 1^T @ g.
"""

import numpy as np

from fastmlp_kernels.jit import flag, kernel, packed, result, view, writable
from fastmlp_kernels.product import CALL, product


@kernel(
    lambda real: (
        view(real, 2), view(real, 2), packed(real, 1), packed(real, 2), writable(real, 2), flag,
        *CALL,
    )
)  # fmt: skip
def forward(x, W, b, gate, y, relu, code, num_threads):
    """y (M, N) with contiguous rows; b empty: no bias; `relu` off: y = x @ W + b.

    gate (M, N), or empty: y is multiplied by gate > 0 ? 1 : 0. So a layer's gradient goes below:
    x its grad_y, W its W^T, gate its input, which is a relu's output.
    """
    product(x, W, b, gate, y, relu, False, code, num_threads)


@kernel(
    lambda real: (
        view(real, 2), view(real, 2), packed(real, 2), result(real, 2), result(real, 2), *CALL
    )
)  # fmt: skip
def backward(x, W, g, grad_x, grad_W, code, num_threads):
    """grad_W (K, N), or (K + 1, N) with grad_b as its last row."""
    none = np.empty((0, 1), g.dtype)
    product(g, W.T, none[:, 0], none, grad_x, False, False, code, num_threads)
    with_bias = grad_W.shape[0] > x.shape[1]
    product(x.T, g, none[:, 0], none, grad_W, False, with_bias, code, num_threads)

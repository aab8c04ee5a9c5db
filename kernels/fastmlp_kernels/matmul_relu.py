"""MatmulRelu: y = relu(x @ W + b) for x (M, K), W (K, N), b (N,) or none.

The bias and the relu happen in registers, before the only store of y; the bias is one more index of
the product (a row of W beside a column of ones of x that lies nowhere). Backward, with
g = grad_y * (y > 0 ? 1 : 0): grad_x = g @ W^T, grad_W = x^T @ g, grad_b = 1^T @ g.
"""

from fastmlp_kernels.jit import kernel, packed, result, view, writable
from fastmlp_kernels.memory import address
from fastmlp_kernels.product import MEMORY, NO_ARRAY, PLAN, run


@kernel(
    lambda real: (
        view(real, 2), view(real, 2), writable(real, 2), packed(real, 1), packed(real, 2), PLAN,
        MEMORY,
    )
)  # fmt: skip
def forward(x, W, y, b, gate, plan, memory):
    """y (M, N) with contiguous rows, b (N,), gate (M, N); the plan tells which of them are read.

    With a gate, y is multiplied by gate > 0 ? 1 : 0. So a layer's gradient goes below: x its
    grad_y, W its W^T, gate its input, which is a relu's output.
    """
    run(plan, memory, (address(x), address(W), address(y), address(b), address(gate), NO_ARRAY))


@kernel(
    lambda real: (
        view(real, 2), view(real, 2), packed(real, 2), packed(real, 2), result(real, 2),
        result(real, 2), PLAN, MEMORY,
    )
)  # fmt: skip
def backward(x, W, grad_y, y, grad_x, grad_W, plan, memory):
    """grad_W (K, N), or (K + 1, N) with grad_b as its last row."""
    arrays = address(x), address(W), address(grad_y), address(grad_x), address(grad_W), address(y)
    run(plan, memory, arrays)

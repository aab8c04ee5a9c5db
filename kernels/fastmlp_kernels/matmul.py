"""Matmul: y = x @ W for x (M, K), W (K, N); grad_x = grad_y @ W^T, grad_W = x^T @ grad_y."""

from fastmlp_kernels.jit import kernel, result, view, writable
from fastmlp_kernels.memory import address
from fastmlp_kernels.product import MEMORY, NO_ARRAY, PLAN, run


@kernel(lambda real: (view(real, 2), view(real, 2), writable(real, 2), PLAN, MEMORY))
def forward(x, W, y, plan, memory):
    """y = x @ W: x (M, K), W (K, N), y (M, N) with contiguous rows."""
    run(plan, memory, (address(x), address(W), address(y), NO_ARRAY, NO_ARRAY, NO_ARRAY))


@kernel(
    lambda real: (
        view(real, 2), view(real, 2), view(real, 2), result(real, 2), result(real, 2), PLAN,
        MEMORY,
    )
)  # fmt: skip
def backward(x, W, grad_y, grad_x, grad_W, plan, memory):
    """grad_x = grad_y @ W^T, grad_W = x^T @ grad_y: the shapes of x and W."""
    arrays = address(x), address(W), address(grad_y), address(grad_x), address(grad_W), NO_ARRAY
    run(plan, memory, arrays)

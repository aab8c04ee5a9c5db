"""The product in plain NumPy: chains of fused multiply-adds over leaves, joined by a fixed tree."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import Array, like, matrix, output, product_shapes, real_arrays, remembered
from .chains import chain

LEAF = 256


def tree_of_chains(count: int, step: Callable[[int, Array], Array], zero: Array) -> Array:
    """Sum over an index of `count`: chains over leaves of 256, then the aligned tree.

    `step(k, total)` returns the chain's next total, `zero` is where each chain starts.
    """
    leaves = []
    for start in range(0, max(count, 1), LEAF):
        total = zero
        for k in range(start, min(start + LEAF, count)):
            total = step(k, total)
        leaves.append(total)
    return tree(leaves)


def tree(leaves: list[Array]) -> Array:
    """Add the sums of leaves, of which there is at least one."""
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1  # the largest power of two below their number
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(tree(leaves[:half]) + tree(leaves[half:]))


def matmul(a: Array, b: Array) -> Array:
    """Return a @ b for matrices of one dtype (M, K) and (K, N), by the portable arithmetic."""
    starts = range(0, max(len(b), 1), LEAF)
    return tree([chain(a[:, k : k + LEAF], b[k : k + LEAF]) for k in starts])


class Matmul:
    """y = x @ W for x (N, inputs) and W (inputs, outputs).

    `mem` holds `x` and `W` of the last forward.
    """

    def __init__(self) -> None:
        self.mem: dict[str, Any] = {}

    def forward(self, x: Array, W: Array, out: Array | None = None) -> Array:
        """Return y (N, outputs) in the dtype x and W promote to, in `out` if given."""
        x, W = real_arrays(x=x, W=W)
        shape = product_shapes(x, W)
        if out is not None:
            output(out, shape, x.dtype, x=x, W=W)
        self.mem = {"x": x, "W": W}
        y = matmul(x, W)
        if out is None:
            return y
        out[...] = y
        return out

    def backward(self, grad_y: Array) -> tuple[Array, Array]:
        """Return grad_x = grad_y @ W^T and grad_W = x^T @ grad_y."""
        x, W = remembered(self.mem, "x", "Matmul"), remembered(self.mem, "W", "Matmul")
        x, W, grad_y = real_arrays(x=x, W=W, grad_y=grad_y)
        like("grad_y", matrix("grad_y", grad_y), "x @ W", product_shapes(x, W))
        return matmul(grad_y, W.T), matmul(x.T, grad_y)

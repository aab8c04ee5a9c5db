"""The sum of each row in plain NumPy, by 16 lanes."""

import numpy as np

from ..checks import Array

LANES = 16


def row_sum(x: Array) -> Array:
    """Return the sums over the last axis of x (N, count), as a column (N, 1) of x's dtype.

    Element j is added to lane j mod 16 in increasing j, each lane starting at +0; then
    lane[i] += lane[i + 8] for i < 8, then + 4, + 2, + 1; lane 0 is the sum.
    """
    lanes = np.zeros((x.shape[0], LANES), x.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, x.shape[1], LANES):
            part = x[:, start : start + LANES]
            lanes[:, : part.shape[1]] += part
        width = LANES // 2
        while width:
            lanes[:, :width] += lanes[:, width : 2 * width]
            width //= 2
    return lanes[:, :1]

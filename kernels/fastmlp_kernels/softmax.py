"""Softmax over the rows of x (N, classes), N >= 0, classes >= 1.

e = exp(x); y = e / (rowsum(e) + epsilon).
t[j] = sum over i of g[i] * (y[i] * y[j]), chains over leaves of 256, then the tree;
grad_x = (-t) + g * y.
"""

import numpy as np

from fastmlp_kernels.arithmetic import lanes
from fastmlp_kernels.arithmetic.elementary import exp_all
from fastmlp_kernels.arithmetic.fma import fma
from fastmlp_kernels.arithmetic.lanes import LANES
from fastmlp_kernels.arithmetic.row_sum import last_part, row_sum
from fastmlp_kernels.compiling.jit import jit
from fastmlp_kernels.row_shares import RowsKernel, finish, my_rows

LEAF = 256
BLOCK_SIZE = 65536  # elements of a block: e stays in the cache until it is divided
SHORT = 32  # classes of the longest row whose gradient is computed for 64 rows at a time
SHORT_ROWS = 64


@jit
def softmax(x, epsilon, e, y):
    """Write e and y, both of x's shape; epsilon is a float64, rounded to their dtype."""
    samples, classes = x.shape
    added = x.dtype.type(epsilon)
    rows = max(8, BLOCK_SIZE // classes // 8 * 8)  # a multiple of 8, so exp has no remainder
    flat_x, flat_e, flat_y = x.reshape(-1), e.reshape(-1), y.reshape(-1)
    for start in range(0, samples, rows):
        block = slice(start * classes, min(start + rows, samples) * classes)
        x_block, e_block = flat_x[block], flat_e[block]
        exp_all(x_block, e_block)
        normalise(e_block, classes, added, flat_y[block])


@jit
def normalise(e, classes, epsilon, y):
    """Write y = e / (rowsum(e) + epsilon)."""
    zero, rest = e.dtype.type(0), last_part(classes)
    for start in range(0, e.size, classes):
        divisor = lanes.splat(row_sum(e, start, classes) + epsilon)
        stop = start + classes - rest
        for j in range(start, stop, LANES):
            lanes.store(y, j, lanes.divide(lanes.load(e, j), divisor))
        part = lanes.load_part(e, stop, rest, zero)
        lanes.store_end(y, stop, rest, lanes.divide(part, divisor), y.size)


@jit
def softmax_backward(y, grad_y, grad_x):
    """Write grad_x; all three of shape (N, classes)."""
    samples, classes = y.shape
    if classes <= SHORT:
        columns = np.zeros((3, classes, SHORT_ROWS), y.dtype)
        for start in range(0, samples, SHORT_ROWS):
            block = slice(start, min(start + SHORT_ROWS, samples))
            backward_by_columns(y[block], grad_y[block], grad_x[block], columns)
    else:
        leaves = np.empty(((classes + LEAF - 1) // LEAF, classes), y.dtype)
        for row in range(samples):
            backward_by_row(y[row], grad_y[row], grad_x[row], leaves)


@jit
def backward_by_columns(y, grad_y, grad_x, columns):
    """Up to 64 short rows, one in each lane. columns: (3, classes, 64)."""
    rows, classes = y.shape
    s, g, t = columns[0], columns[1], columns[2]
    width = (rows + LANES - 1) // LANES * LANES
    for row in range(rows):
        for j in range(classes):
            s[j, row], g[j, row] = y[row, j], grad_y[row, j]
    t[:] = t.dtype.type(0)
    for i in range(classes):
        for j in range(classes):
            for lane in range(width):
                t[j, lane] = fma(g[i, lane], s[i, lane] * s[j, lane], t[j, lane])
    for j in range(classes):
        for lane in range(width):
            t[j, lane] = -t[j, lane] + g[j, lane] * s[j, lane]
    for row in range(rows):
        for j in range(classes):
            grad_x[row, j] = t[j, row]


@jit
def backward_by_row(s, g, grad_x, leaves):
    """One row of any length. leaves: a row of `classes` for each leaf; its values don't matter."""
    for leaf in range(leaves.shape[0]):
        part = slice(leaf * LEAF, min((leaf + 1) * LEAF, s.size))
        chains(s[part], g[part], s, leaves[leaf])
    join(leaves)
    for j in range(s.size):
        grad_x[j] = -leaves[0, j] + g[j] * s[j]


@jit
def chains(s_of_leaf, g_of_leaf, s, totals):
    """totals[j] = the chain of g[i] * (s[i] * s[j]) over the i of one leaf."""
    totals[:] = totals.dtype.type(0)
    for i in range(s_of_leaf.size):
        s_i, g_i = s_of_leaf[i], g_of_leaf[i]
        for j in range(s.size):
            totals[j] = fma(g_i, s_i * s[j], totals[j])


@jit
def join(leaves):
    """leaves[0] = the tree of all leaves: neighbours first, then pairs of neighbours, ..."""
    width = 1
    while width < leaves.shape[0]:
        for leaf in range(0, leaves.shape[0] - width, 2 * width):
            low, high = leaves[leaf], leaves[leaf + width]
            for j in range(low.size):
                low[j] += high[j]
        width *= 2


def _forward(zero):
    def softmax_forward(data, _, thread):
        x, e, y, epsilon = my_rows(zero, data, thread)
        softmax(x, epsilon, e, y)
        finish(data)

    return softmax_forward


def _backward(zero):
    def softmax_backward_of_rows(data, _, thread):
        y, grad_y, grad_x, _ = my_rows(zero, data, thread)
        softmax_backward(y, grad_y, grad_x)
        finish(data)

    return softmax_backward_of_rows


forward = RowsKernel(_forward)  # x, e, y
backward = RowsKernel(_backward)  # y, grad_y, grad_x

"""What an epoch watches for that passes over zeros: numbers for which a zero matters.

A task that finds one says so at `epoch.fails`; see sparse_layer.py.
"""

import numpy as np

from fastmlp_kernels.epoch_table import GRAD, ROW, buffer_row, is_sparse, layer_field
from fastmlp_kernels.jit import jit
from fastmlp_kernels.memory import array_at, load, store
from fastmlp_kernels.weight_blocks import block_places, count_rows


@jit
def is_finite(value):
    """Whether it is; loading what Numba has for that, np.isfinite or np.finfo, takes 0.2 s."""
    return value - value == 0


@jit
def watch(epoch, values):
    """Say so where one of the values is not finite."""
    others = False
    for i in range(values.size):
        others |= not is_finite(values[i])
    report(epoch, others)


@jit
def report(epoch, found):
    if found:
        store(np.int64(1), epoch.fails, 0)


@jit
def block_values(zero, epoch, block):
    """A block of W, as it lies in memory."""
    place = block_places(epoch, block)[0]
    return array_at(zero, place, count_rows(epoch, block) * block.stride)


@jit
def watch_gradients(zero, epoch, row, rows):
    """Watch rows of the gradients that products with zeros read."""
    for layer in range(epoch.by_columns):
        if is_sparse(epoch, layer):
            size = rows * layer_field(epoch, layer, ROW)
            watch(epoch, array_at(zero, buffer_row(epoch, layer, GRAD, row), size))


@jit
def watch_weights(zero, epoch, block):
    """Watch a block of W."""
    watch(epoch, block_values(zero, epoch, block))


@jit
def watch_signs(zero, epoch, block):
    """Say so where a block of W has a -0."""
    W, negative = block_values(zero, epoch, block), False
    for i in range(W.size):
        negative |= W[i] == 0 and 1 / W[i] < 0
    report(epoch, negative)


@jit
def has_failed(epoch):
    return load(np.int64(0), epoch.fails, 0) != 0

"""The second half of a training step, for a block of weights: gradient, update, packed copies.

    grad_W = x^T @ grad, and 1^T @ grad below it where there is a bias; g = grad_W + decay * W;
    W = what sgd, momentum or Adam makes of W and g

A block's gradient stays in the cache between its product and the update. For sgd without decay it
is never stored: the product's own end is W - rate * grad, which made an epoch of 784-512-256-10 4%
(7% with 32 samples) faster. The same task then renews the packed copies of its block, which the
next step reads.
"""

import numpy as np

from fastmlp_kernels.blocking import (
    LEAF,
    count_leaves,
    count_levels,
    end_of_run,
    lanes_of,
    panel_width,
)
from fastmlp_kernels.epoch_table import (
    BIAS,
    GRAD,
    INPUTS,
    OUTPUTS,
    ROW,
    START,
    buffer_row,
    goes_by_leaves,
    is_sparse,
    layer_field,
    layer_input,
    run_product,
    scratch_of,
)
from fastmlp_kernels.forward_backward import scratch_size
from fastmlp_kernels.input_leaves import leaf_columns, leaf_columns_size
from fastmlp_kernels.jit import jit
from fastmlp_kernels.memory import array_at
from fastmlp_kernels.packing import panels_at
from fastmlp_kernels.product import partials_size, run_leaf, serial_product
from fastmlp_kernels.sparse import add
from fastmlp_kernels.sparse_layer import (
    block_columns,
    sparse_gradient,
    sparse_leaf_gradient,
    sparse_scratch_size,
)
from fastmlp_kernels.update import adam_array, momentum_array, sgd_array
from fastmlp_kernels.watch import is_finite, watch_weights
from fastmlp_kernels.weight_blocks import (
    block_places,
    count_rows,
    has_bias,
    part_start,
    read_block,
)
from fastmlp_kernels.weight_copies import renew_copies

OPTIMIZERS = ("sgd", "momentum", "adam")
SGD, MOMENTUM, ADAM = range(3)  # their places there
CONSTANTS = 8  # of each step: weight decay, then those of the update, as update.py has them


@jit
def round_rates(zero, epoch):
    """Round sgd's rates to the dtype; return their address, or 0 if an update needs more."""
    if epoch.optimizer != SGD:
        return 0
    constants = array_at(np.float64(0), epoch.constants, epoch.steps * CONSTANTS)
    rates = array_at(zero, epoch.rates, epoch.steps)
    for step in range(epoch.steps):
        if constants[step * CONSTANTS] != 0:  # a weight decay
            return 0
        rates[step] = constants[step * CONSTANTS + 1]
        if not is_finite(rates[step]):  # too large for float32
            return 0
    return epoch.rates


@jit
def describe_gradient(
    epoch, layer, first, stop, samples, x, x_row, grad, columns, one, target, target_row, rate
):
    """Rows first .. stop of x^T @ grad, from addresses; `one`: with the bias gradient below.

    rate: the address of the rate by which the target falls, or 0: it is the gradient.
    """
    return serial_product(
        x + first * epoch.itemsize, 1, x_row, stop - first, one,
        grad, layer_field(epoch, layer, ROW), 0,
        target, target_row, 0, 0, 0, 0, rate, samples, columns, epoch.itemsize, epoch.tile,
    )  # fmt: skip


@jit
def describe_block(epoch, block, target, rate):
    """The product that is the block's gradient."""
    x, x_row = layer_input(epoch, block.layer, epoch.first, 0)
    grad = buffer_row(epoch, block.layer, GRAD, 0) + block.column * epoch.itemsize
    one = epoch.one if has_bias(epoch, block) else 0
    return describe_gradient(
        epoch, block.layer, block.first, block.stop, epoch.rows, x, x_row, grad, block.columns,
        one, target, block.stride, rate,
    )  # fmt: skip


@jit
def gradient_size(epoch, block):
    """The elements that a block's gradient takes, in whole vectors."""
    return panel_width(count_rows(epoch, block) * block.stride, lanes_of(epoch.itemsize))


@jit
def update_scratch_size(epoch, block):
    """The elements of scratch that update_task needs for a block."""
    size = gradient_size(epoch, block)
    if is_sparse(epoch, block.layer):
        words = block_words_size(epoch, block) // epoch.itemsize
        return size * (1 + count_levels(count_leaves(epoch.rows, 0))) + words
    return size + partials_size(describe_block(epoch, block, 0, 0))


@jit
def block_words(epoch, block, workspace):
    """The address of the column words of a sparse layer's block."""
    if goes_by_leaves(epoch, block.layer):
        return leaf_columns(epoch, block, workspace)
    return block_columns(epoch, block)


@jit
def block_words_size(epoch, block):
    """The bytes of scratch that block_words needs."""
    return leaf_columns_size(epoch) if goes_by_leaves(epoch, block.layer) else 0


@jit
def rides_sparse(epoch):
    """Whether a sparse layer's update is its gradient's end: for sgd, and a batch of one leaf."""
    return epoch.rates != 0 and epoch.rows <= LEAF


@jit
def update_task(zero, epoch, number, workspace):
    """Block `number`: its gradient, then its update and its packed copies."""
    block, scratch = read_block(epoch, number), scratch_of(epoch, workspace)
    if epoch.leaves_each:
        start = part_start(epoch, block)
        join_parts(zero, epoch, start, count_rows(epoch, block) * block.stride)
        update_weights(zero, epoch, block, epoch.parts + start * epoch.itemsize)
    elif is_sparse(epoch, block.layer):
        rate = epoch.rates + epoch.step * epoch.itemsize if rides_sparse(epoch) else 0
        words = block_words(epoch, block, workspace)
        scratch += block_words_size(epoch, block)
        behind = scratch + gradient_size(epoch, block) * epoch.itemsize
        sparse_gradient(zero, epoch, block, words, scratch, behind, rate)
        if not rate:
            update_weights(zero, epoch, block, scratch)
    elif epoch.rates:
        W, rate = block_places(epoch, block)[0], epoch.rates + epoch.step * epoch.itemsize
        run_product(zero, epoch, describe_block(epoch, block, W, rate), workspace, scratch)
    else:
        behind = scratch + gradient_size(epoch, block) * epoch.itemsize
        run_product(zero, epoch, describe_block(epoch, block, scratch, 0), workspace, behind)
        update_weights(zero, epoch, block, scratch)
    if is_sparse(epoch, block.layer) and not rides_sparse(epoch):
        watch_weights(zero, epoch, block)
    renew_copies(zero, epoch, block, workspace)


@jit
def leaf_scratch_size(epoch):
    """The elements of scratch that a leaf needs on its way through all layers and back."""
    size = scratch_size(epoch, LEAF)
    return max(size, sparse_scratch_size(epoch)) if epoch.sparse else size


@jit
def leaf_gradients(zero, epoch, leaf, first, stop, row, thread, target, workspace):
    """Add one leaf of samples, in the buffers from `row` on, to all gradients of a run of leaves.

    The run's leaves first .. stop come one after the other; the last writes the gradients, one
    layer behind the other, to `target`. The partial tiles of all layers stay in the workspace,
    behind the scratch of the leaf's way forward and back.
    """
    scratch = scratch_of(epoch, workspace) + leaf_scratch_size(epoch) * epoch.itemsize
    back = leaf * LEAF * epoch.itemsize  # the product counts the samples from the batch's first on
    first_layer = int(is_sparse(epoch, 0))
    if first_layer:
        panels = target + epoch.size * epoch.itemsize
        sparse_leaf_gradient(
            zero, epoch, leaf, first, stop, row, thread, panels, scratch, workspace
        )  # fmt: skip
        scratch += leaf_partials_size(epoch, 0) * epoch.itemsize
    for layer in range(first_layer, epoch.count):
        inputs = layer_field(epoch, layer, INPUTS)
        x, x_row = layer_input(epoch, layer, epoch.first + leaf * LEAF, row)
        grad, stride = buffer_row(epoch, layer, GRAD, row), layer_field(epoch, layer, ROW)
        outputs = layer_field(epoch, layer, OUTPUTS)
        one = epoch.one if layer_field(epoch, layer, BIAS) else 0
        it = describe_gradient(
            epoch, layer, 0, inputs, epoch.rows, x - back * x_row, x_row, grad - back * stride,
            outputs, one, target + layer_field(epoch, layer, START) * epoch.itemsize, outputs, 0,
        )  # fmt: skip
        panels = panels_at(workspace, it.rows, outputs, it.lanes)
        run_leaf(zero, it, panels, leaf, first, stop, 0, it.c, it.c_row, scratch)
        scratch += leaf_partials_size(epoch, layer) * epoch.itemsize


@jit
def leaf_partials_size(epoch, layer):
    """The elements of a layer's partial tiles over a run of leaves: a level for each bit."""
    lanes = lanes_of(epoch.itemsize)
    rows = layer_field(epoch, layer, INPUTS) + 1
    width = panel_width(layer_field(epoch, layer, OUTPUTS), lanes)
    return count_levels(epoch.leaves_each) * rows * width


@jit
def join_parts(zero, epoch, start, size):
    """The first part's elements from `start` on = the tree over all parts' elements there."""
    leaves, first, number = count_leaves(epoch.rows, 0), 0, 0
    # Parts that wait for their neighbour, and their leaves: less for each, a power of two.
    waiting, count = np.empty((64, 2), np.int64), 0
    while first < leaves:
        stop = end_of_run(leaves, epoch.leaves_each, epoch.num_threads, first)
        waiting[count, 0], waiting[count, 1] = number, stop - first
        while count > 0 and (stop == leaves or waiting[count - 1, 1] == waiting[count, 1]):
            add_part(zero, epoch, waiting[count - 1, 0], waiting[count, 0], start, size)
            waiting[count - 1, 1] *= 2
            count -= 1
        first, number, count = stop, number + 1, count + 1


@jit
def add_part(zero, epoch, left, right, start, size):
    """Add elements of part `right` to those of part `left`."""
    total = array_at(zero, epoch.parts + (left * epoch.part_size + start) * epoch.itemsize, size)
    other = array_at(zero, epoch.parts + (right * epoch.part_size + start) * epoch.itemsize, size)
    add(total, other)


@jit
def update_weights(zero, epoch, block, gradient):
    """Update a block by the gradient at an address."""
    place = epoch.constants + epoch.step * CONSTANTS * 8
    constants = array_at(np.float64(0), place, CONSTANTS)
    size = count_rows(epoch, block) * block.stride
    places, g = block_places(epoch, block), array_at(zero, gradient, size)
    W, first_state = array_at(zero, places[0], size), array_at(zero, places[1], size)
    second_state = array_at(zero, places[2], size)
    real = W.dtype.type
    rate = real(constants[1])
    if constants[0] != 0:
        decay = real(constants[0])
        for i in range(size):
            g[i] = g[i] + decay * W[i]
    if epoch.optimizer == SGD:
        sgd_array(W, g, rate)
    elif epoch.optimizer == MOMENTUM:
        momentum_array(W, g, first_state, rate, real(constants[2]))
    else:
        b1, rest1, b2, rest2 = constants[1], constants[2], constants[3], constants[4]
        s, c, epsilon = constants[5], constants[6], constants[7]
        decays = real(b1), real(rest1), real(b2), real(rest2)
        adam_array(W, g, first_state, second_state, decays, (real(s), real(c), real(epsilon)))

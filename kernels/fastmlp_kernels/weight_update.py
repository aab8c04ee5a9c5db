"""The second half of a training step, for some rows of a layer's W: gradient, update, packing.

    grad_W = x^T @ grad, and 1^T @ grad below it where there is a bias; g = grad_W + decay * W;
    W = what sgd, momentum or Adam makes of W and g

A task's rows of the gradient stay in the cache between their product and the update, and are never
stored. The same task then renews the packed copies of its rows, which the next step reads.
"""

import numpy as np

from fastmlp_kernels.blocking import (
    LEAF,
    MAX_VECTORS,
    count_leaves,
    count_panels,
    lanes_of,
    panel_width,
)
from fastmlp_kernels.forward_backward import (
    BIAS,
    BLOCKS,
    GRAD,
    INPUTS,
    OUTPUTS,
    PACKED,
    PACKED_TRANSPOSE,
    ROW,
    START,
    buffer_row,
    layer_field,
    layer_input,
    layer_weights,
    scratch_of,
    scratch_size,
)
from fastmlp_kernels.jit import jit
from fastmlp_kernels.memory import array_at
from fastmlp_kernels.packing import pack_rows, panels_at
from fastmlp_kernels.product import partials_size, run_leaf, run_task, serial_product
from fastmlp_kernels.update import adam_array, momentum_array, sgd_array

OPTIMIZERS = ("sgd", "momentum", "adam")
SGD, MOMENTUM, ADAM = range(3)  # their places there
CONSTANTS = 8  # of each step: weight decay, then those of the update, as update.py has them

# The rows of W of a task, in panels of W^T: enough that its tiles are whole, few enough that their
# gradient stays in the level-2 cache and that the last tasks of a step are short.
ROWS_EACH = 64


@jit
def panels_each(lanes):
    return max(1, ROWS_EACH // (MAX_VECTORS * lanes))


@jit
def input_panels(epoch, layer, workspace):
    """The panels of W^T: runs of the rows of W."""
    lanes = lanes_of(epoch.itemsize)
    return panels_at(workspace, LEAF, layer_field(epoch, layer, INPUTS), lanes)


@jit
def output_panels(epoch, layer, rows, workspace):
    """The panels of W, for a product of so many rows, behind those of W^T."""
    lanes, place = lanes_of(epoch.itemsize), workspace + epoch.panels_bytes
    return panels_at(place, rows, layer_field(epoch, layer, OUTPUTS), lanes)


@jit
def count_blocks(inputs, lanes):
    """How many tasks the update of a layer is."""
    each = panels_each(lanes)
    return (count_panels(LEAF, inputs, lanes) + each - 1) // each


@jit
def describe_gradient(epoch, layer, first, stop, samples, x, x_row, grad, one, target):
    """Rows first .. stop of x^T @ grad, from addresses; `one`: with the bias gradient below."""
    outputs, stride = layer_field(epoch, layer, OUTPUTS), layer_field(epoch, layer, ROW)
    return serial_product(
        x + first * epoch.itemsize, 1, x_row, stop - first, one, grad, stride, 0,
        target, outputs, 0, 0, 0, 0, samples, outputs, epoch.itemsize, epoch.tile,
    )  # fmt: skip


@jit
def task_rows(panels, number, each):
    """The rows of W of task `number`: the panels from number * each on."""
    first, last = panels[number * each], panels[min((number + 1) * each, panels.shape[0]) - 1]
    return first[0], last[0] + last[1]


@jit
def gradient_size(epoch, layer):
    """The elements that a task's gradient takes, in whole vectors, and those of partial tiles."""
    inputs, outputs = layer_field(epoch, layer, INPUTS), layer_field(epoch, layer, OUTPUTS)
    lanes = lanes_of(epoch.itemsize)
    rows = min(inputs, panels_each(lanes) * MAX_VECTORS * lanes)
    it = describe_gradient(epoch, layer, 0, rows, epoch.rows, 0, 0, 0, 1, 0)
    return panel_width((rows + 1) * outputs, lanes), partials_size(it)


@jit
def update_task(zero, epoch, number, workspace):
    """Task `number` of the step's second stage."""
    layer = 0
    while number >= layer_field(epoch, layer, BLOCKS):
        number -= layer_field(epoch, layer, BLOCKS)
        layer += 1
    inputs, outputs = layer_field(epoch, layer, INPUTS), layer_field(epoch, layer, OUTPUTS)
    panels, each = input_panels(epoch, layer, workspace), panels_each(lanes_of(epoch.itemsize))
    first, stop = task_rows(panels, number, each)
    with_bias = stop == inputs and layer_field(epoch, layer, BIAS) != 0
    start = layer_field(epoch, layer, START) + first * outputs
    size = (stop - first + int(with_bias)) * outputs
    if epoch.leaves_each:
        gradient = epoch.parts + start * epoch.itemsize
        join_parts(zero, epoch, start, size)
    else:
        gradient = scratch_of(epoch, workspace)
        x, x_row = layer_input(epoch, layer, epoch.first, 0)
        it = describe_gradient(
            epoch, layer, first, stop, epoch.rows, x, x_row, buffer_row(epoch, layer, GRAD, 0),
            epoch.one if with_bias else 0, gradient,
        )  # fmt: skip
        scratch = gradient + gradient_size(epoch, layer)[0] * epoch.itemsize
        run_task(zero, it, output_panels(epoch, layer, it.rows, workspace), 0, scratch, scratch)
    update_weights(zero, epoch, start, size, gradient)
    mine = panels[number * each : (number + 1) * each]
    pack_weights(zero, epoch, layer, mine, first, stop, workspace)


@jit
def pack_task(zero, epoch, number, workspace):
    """Make the packed copies of the rows of W that update_task `number` renews."""
    layer = 0
    while number >= layer_field(epoch, layer, BLOCKS):
        number -= layer_field(epoch, layer, BLOCKS)
        layer += 1
    panels, each = input_panels(epoch, layer, workspace), panels_each(lanes_of(epoch.itemsize))
    first, stop = task_rows(panels, number, each)
    mine = panels[number * each : (number + 1) * each]
    pack_weights(zero, epoch, layer, mine, first, stop, workspace)


@jit
def leaf_gradients(zero, epoch, leaf, first, stop, row, target, workspace):
    """Add one leaf of samples, in the buffers from `row` on, to all gradients of a run of leaves.

    The run's leaves first .. stop come one after the other; the last writes the gradients, one
    layer behind the other, to `target`. The partial tiles of all layers stay in the workspace,
    behind forward_backward's scratch.
    """
    scratch = scratch_of(epoch, workspace) + scratch_size(epoch, LEAF) * epoch.itemsize
    back = leaf * LEAF * epoch.itemsize  # the product counts the samples from the batch's first on
    for layer in range(epoch.count):
        inputs = layer_field(epoch, layer, INPUTS)
        x, x_row = layer_input(epoch, layer, epoch.first + leaf * LEAF, row)
        grad, stride = buffer_row(epoch, layer, GRAD, row), layer_field(epoch, layer, ROW)
        it = describe_gradient(
            epoch, layer, 0, inputs, epoch.rows, x - back * x_row, x_row, grad - back * stride,
            epoch.one if layer_field(epoch, layer, BIAS) else 0,
            target + layer_field(epoch, layer, START) * epoch.itemsize,
        )  # fmt: skip
        panels = output_panels(epoch, layer, it.rows, workspace)
        run_leaf(zero, it, panels, leaf, first, stop, 0, it.c, it.c_row, scratch)
        scratch += leaf_partials_size(epoch, layer) * epoch.itemsize


@jit
def leaf_partials_size(epoch, layer):
    """The elements of a layer's partial tiles over a run of leaves: a level for each bit."""
    levels = 0
    while (epoch.leaves_each - 1) >> levels:
        levels += 1
    lanes = lanes_of(epoch.itemsize)
    rows = layer_field(epoch, layer, INPUTS) + 1
    return levels * rows * panel_width(layer_field(epoch, layer, OUTPUTS), lanes)


@jit
def count_runs(epoch):
    """How many runs of leaves a batch is."""
    leaves = count_leaves(epoch.rows, 0)
    return (leaves + epoch.leaves_each - 1) // epoch.leaves_each


@jit
def join_parts(zero, epoch, start, size):
    """The first part's elements from `start` on = the tree over all parts' elements there."""
    count, distance = count_runs(epoch), 1
    while distance < count:
        for number in range(0, count - distance, 2 * distance):
            left = epoch.parts + (number * epoch.size + start) * epoch.itemsize
            right = left + distance * epoch.size * epoch.itemsize
            total, other = array_at(zero, left, size), array_at(zero, right, size)
            for i in range(size):
                total[i] = total[i] + other[i]
        distance *= 2


@jit
def update_weights(zero, epoch, start, size, gradient):
    """Update `size` elements from element `start` of the parameters on by those at `gradient`."""
    place = epoch.constants + epoch.step * CONSTANTS * 8
    constants = array_at(np.float64(0), place, CONSTANTS)
    W = array_at(zero, epoch.parameters + start * epoch.itemsize, size)
    g = array_at(zero, gradient, size)
    first_state = array_at(zero, epoch.states + start * epoch.itemsize, size)
    second_state = array_at(zero, epoch.states + (epoch.size + start) * epoch.itemsize, size)
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


@jit
def pack_weights(zero, epoch, layer, panels, first, stop, workspace):
    """Renew the packed copies of the rows first .. stop of W, which are `panels` of W^T."""
    W, outputs = layer_weights(epoch, layer), layer_field(epoch, layer, OUTPUTS)
    lanes, itemsize = lanes_of(epoch.itemsize), epoch.itemsize
    place = layer_field(epoch, layer, PACKED)
    if place:
        outer = output_panels(epoch, layer, LEAF, workspace)
        leaf_size = LEAF * panel_width(outputs, lanes) * itemsize
        row = first
        while row < stop:
            steps = min(stop, (row // LEAF + 1) * LEAF) - row
            pack_rows(
                zero, W + row * outputs * itemsize, outputs, 1, row % LEAF, steps, outer, lanes,
                itemsize, place + row // LEAF * leaf_size,
            )  # fmt: skip
            row += steps
    place = layer_field(epoch, layer, PACKED_TRANSPOSE)
    if place:
        leaf_size = LEAF * panel_width(layer_field(epoch, layer, INPUTS), lanes) * itemsize
        for leaf in range(count_leaves(outputs, 0)):
            k = leaf * LEAF
            pack_rows(
                zero, W + k * itemsize, 1, outputs, 0, min(LEAF, outputs - k), panels, lanes,
                itemsize, place + leaf * leaf_size,
            )  # fmt: skip

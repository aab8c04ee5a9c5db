"""An epoch of training in one call: for each batch forward, loss, backward, update.

A step has two stages, which threads share as tasks: blocks of samples (forward_backward.py), then
blocks of the weights (weight_update.py), whose gradients sum over all samples of the batch. A batch
of many leaves is cut the other way: a task takes a run of leaves of samples through both, so that x
is read from memory once, and the tree joins the runs' gradients.

Neither blocks nor tasks nor threads change a bit: the steps are those of the composition of the
operations, with grad = -(label / samples) given to LogSoftmax.
"""

from functools import cache

import numba
import numpy as np
from numba.core import types
from numba.np.unsafe.ndarray import to_fixed_tuple

from fastmlp_kernels.blocking import (
    LEAF,
    count_leaves,
    lanes_of,
    padded_row,
    panel_width,
    pays_to_pack,
    sample_rows,
    split_leaves,
)
from fastmlp_kernels.forward_backward import (
    BLOCKS,
    EPOCH_FIELDS,
    FIELDS,
    GRAD,
    HITS_APART,
    INPUTS,
    OUTPUTS,
    PACKED,
    PACKED_TRANSPOSE,
    ROW,
    START,
    Epoch,
    H,
    forward_backward,
    layer_field,
    scratch_size,
)
from fastmlp_kernels.jit import address_of, integer, jit, kernel, packed, result
from fastmlp_kernels.memory import address, aligned, array_at, keep_alive, next_task
from fastmlp_kernels.microkernel import micro_kernel
from fastmlp_kernels.parallel import run_stage
from fastmlp_kernels.weight_update import (
    CONSTANTS,
    count_blocks,
    count_runs,
    gradient_size,
    input_panels,
    leaf_partials_size,
    leaf_task,
    pack_weights,
    panels_each,
    task_rows,
    update_task,
)

GIVEN = START + 1  # numbers of a layer that the caller gives: inputs, outputs, bias, start
PACK, SAMPLES, LEAVES, WEIGHTS = (np.int64(stage) for stage in range(4))
GATHERED, WORKSPACE, WORKSPACE_SIZE, PARTS, STEP, FIRST, ROWS, LEAVES_EACH = map(
    Epoch._fields.index,
    ["gathered", "workspace", "workspace_size", "parts", "step", "first", "rows", "leaves_each"],
)

# A batch of so many leaves for each thread is cut by leaves: fewer don't balance.
LEAVES_PER_THREAD = 4


@jit
def workspace_of(epoch, thread):
    return epoch.workspace + thread * epoch.workspace_size * epoch.itemsize


@jit
def count_weight_tasks(epoch):
    tasks = 0
    for layer in range(epoch.count):
        tasks += layer_field(epoch, layer, BLOCKS)
    return tasks


@jit
def pack_all(zero, epoch):
    """Make the packed copies of all weights, which the first step reads."""
    number, before, each = next_task(epoch.counter), 0, panels_each(lanes_of(epoch.itemsize))
    for layer in range(epoch.count):
        panels, blocks = input_panels(epoch, layer), layer_field(epoch, layer, BLOCKS)
        while number < before + blocks:
            first, stop = task_rows(panels, number - before, each)
            mine = panels[(number - before) * each : (number - before + 1) * each]
            pack_weights(zero, epoch, layer, mine, first, stop)
            next_task(epoch.counter + 8)
            number = next_task(epoch.counter)
        before += blocks


@jit
def run_samples(zero, epoch, thread):
    """Take blocks of the batch's samples until there are none."""
    each = sample_rows(epoch.rows, epoch.num_threads)
    row = next_task(epoch.counter) * each
    while row < epoch.rows:
        rows = min(each, epoch.rows - row)
        scratch = workspace_of(epoch, thread)
        forward_backward(zero, epoch, epoch.first + row, row, rows, thread, scratch)
        next_task(epoch.counter + 8)
        row = next_task(epoch.counter) * each


@jit
def run_leaves(zero, epoch, thread, one):
    """Take runs of leaves of the batch's samples until there are none."""
    leaves, row, each = count_leaves(epoch.rows, 0), thread * LEAF, epoch.leaves_each
    scratch = workspace_of(epoch, thread)
    partials = scratch + scratch_size(zero, epoch, LEAF) * epoch.itemsize
    number = next_task(epoch.counter)
    while number * each < leaves:
        first, stop = number * each, min((number + 1) * each, leaves)
        target = epoch.parts + number * epoch.size * epoch.itemsize
        for leaf in range(first, stop):
            rows = min(LEAF, epoch.rows - leaf * LEAF)
            sample = epoch.first + leaf * LEAF
            forward_backward(zero, epoch, sample, row, rows, thread, scratch)
            leaf_task(zero, epoch, leaf, first, stop, row, one, target, partials)
        next_task(epoch.counter + 8)
        number = next_task(epoch.counter)


@jit
def run_weights(zero, epoch, thread, one):
    """Take blocks of the weights until there are none."""
    tasks, scratch = count_weight_tasks(epoch), workspace_of(epoch, thread)
    place = epoch.constants + epoch.step * CONSTANTS * 8
    constants = array_at(np.float64(0), place, CONSTANTS)
    number = next_task(epoch.counter)
    while number < tasks:
        update_task(zero, epoch, number, one, constants, scratch)
        next_task(epoch.counter + 8)
        number = next_task(epoch.counter)


def _worker(zero):
    def epoch_stage(data, stage, thread):
        epoch = Epoch(*to_fixed_tuple(numba.carray(data, EPOCH_FIELDS), EPOCH_FIELDS))
        ones = np.ones(1, losses_of(zero, epoch).dtype)
        if stage == PACK:
            pack_all(zero, epoch)
        elif stage == SAMPLES:
            run_samples(zero, epoch, thread)
        elif stage == LEAVES:
            run_leaves(zero, epoch, thread, address(ones))
        else:
            run_weights(zero, epoch, thread, address(ones))
        keep_alive(ones)

    return epoch_stage


@jit
def losses_of(zero, epoch):
    return array_at(zero, epoch.losses, 1)


@cache
def compiled(dtype):
    """The addresses, for a NumPy dtype, of the compiled parts that `train` calls: an array."""
    signature = (types.CPointer(types.int64), types.int64, types.int64)
    return np.array([address_of(_worker(dtype.type(0)), signature), micro_kernel(dtype)])


@jit
def lay_out(table, layers, place, rows, batch_size, itemsize):
    """Fill the table of the layers, their buffers from the address `place` on; return its end."""
    lanes = lanes_of(itemsize)
    for layer in range(layers.shape[0]):
        table[layer, :GIVEN] = layers[layer]
        inputs, outputs = layers[layer, INPUTS], layers[layer, OUTPUTS]
        row = padded_row(outputs, itemsize)
        table[layer, ROW] = row
        for field in (H, GRAD):
            table[layer, field] = place
            place += rows * row * itemsize
        table[layer, PACKED], table[layer, PACKED_TRANSPOSE] = 0, 0
        if pays_to_pack(batch_size, outputs, 1, lanes):
            table[layer, PACKED] = place
            place += count_leaves(inputs, 0) * LEAF * panel_width(outputs, lanes) * itemsize
        if layer > 0:
            table[layer, PACKED_TRANSPOSE] = place
            place += count_leaves(outputs, 0) * LEAF * panel_width(inputs, lanes) * itemsize
    return place


@jit
def workspace_elements(zero, epoch, batch_size):
    """The elements of a thread's workspace, enough for every batch of up to batch_size samples."""
    rows = sample_rows(batch_size, epoch.num_threads)
    size, partials = scratch_size(zero, epoch, max(rows, LEAF)), 0
    for layer in range(epoch.count):
        gradient, its_partials = gradient_size(epoch, layer)
        size = max(size, gradient + its_partials)
        partials += leaf_partials_size(epoch, layer) if epoch.leaves_each else 0
    if epoch.leaves_each:
        size = max(size, scratch_size(zero, epoch, LEAF) + partials)
    return (size + 15) // 16 * 16


@jit
def run_of_leaves(rows, num_threads):
    """The leaves of a task that takes runs of leaves; 0 if the batch is cut otherwise."""
    leaves = count_leaves(rows, 0)
    return split_leaves(leaves, num_threads) if leaves >= LEAVES_PER_THREAD * num_threads else 0


@kernel(
    lambda real: (
        packed(real, 2), packed(integer, 1), packed(integer, 1), packed(integer, 2),
        result(real, 1), result(real, 1), integer, packed(types.float64, 2), integer,
        result(real, 1), result(integer, 1), packed(integer, 1), integer,
    )
)  # fmt: skip
def train(
    x, order, labels, layers, parameters, states, optimizer, constants, batch_size, losses, done,
    code, num_threads,
):  # fmt: skip
    """One step for each row of `constants` on batches of x (N, inputs), the last may be shorter.

    order (N,): the samples in the order in which they come, or empty: as they lie. labels (N,): in
    that order, 0 .. classes - 1. layers (L, 4): inputs, outputs, bias, start of W in `parameters`.
    states (2 * size,): the optimizer's. constants (steps, CONSTANTS). losses (N,) is written, and
    done: how many samples had their label as first largest logit before their step, and the steps.
    """
    itemsize = x.itemsize
    zero = losses.dtype.type(0)
    rows = min(batch_size, LEAVES_PER_THREAD * num_threads * LEAF)
    table = np.zeros((layers.shape[0], FIELDS), np.int64)
    end = lay_out(table, layers, 0, rows, batch_size, itemsize)
    gathered_row = padded_row(x.shape[1], itemsize)
    hits = np.zeros(num_threads * HITS_APART, np.int64)
    counter = np.zeros(2, np.int64)
    leaves_each = run_of_leaves(batch_size, num_threads)
    epoch = Epoch(
        address(x), x.shape[1], address(order) if order.size else 0, address(labels),
        address(table), layers.shape[0], address(parameters), address(states), parameters.size,
        optimizer, address(constants), address(losses), address(hits), 0, gathered_row, 0, 0, 0,
        address(counter), code[1], itemsize, num_threads, 0, 0, batch_size, leaves_each,
    )  # fmt: skip
    workspace_size = workspace_elements(zero, epoch, batch_size)
    parts = count_runs(epoch) * parameters.size if leaves_each else 0
    gathered = rows * gathered_row if order.size else 0
    size = end + (gathered + num_threads * workspace_size + parts) * itemsize
    memory = np.zeros(size + 128, np.uint8)
    place = lay_out(table, layers, aligned(memory), rows, batch_size, itemsize)
    for layer in range(layers.shape[0]):
        table[layer, BLOCKS] = count_blocks(epoch, layer)
    data = np.array(epoch)
    data[GATHERED] = place
    place += gathered * itemsize
    data[WORKSPACE] = place
    data[WORKSPACE_SIZE] = workspace_size
    data[PARTS] = place + num_threads * workspace_size * itemsize
    weight_tasks = count_weight_tasks(epoch)
    run_stage(code[0], data, PACK, num_threads, counter, weight_tasks)
    for step in range(constants.shape[0]):
        first = step * batch_size
        rows = min(batch_size, x.shape[0] - first)
        leaves_each = run_of_leaves(rows, num_threads)
        data[STEP], data[FIRST], data[ROWS], data[LEAVES_EACH] = step, first, rows, leaves_each
        if leaves_each:
            tasks = (count_leaves(rows, 0) + leaves_each - 1) // leaves_each
            run_stage(code[0], data, LEAVES, num_threads, counter, tasks)
        else:
            each = sample_rows(rows, num_threads)
            run_stage(code[0], data, SAMPLES, num_threads, counter, (rows + each - 1) // each)
        run_stage(code[0], data, WEIGHTS, num_threads, counter, weight_tasks)
    done[0], done[1] = 0, constants.shape[0]
    for thread in range(num_threads):
        done[0] += hits[thread * HITS_APART]
    keep_alive(memory), keep_alive(table), keep_alive(hits), keep_alive(counter)

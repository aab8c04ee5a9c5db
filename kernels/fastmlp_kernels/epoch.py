"""An epoch of training in one call: for each batch forward, loss, backward, update.

A step has two stages, which threads share as tasks: blocks of samples (forward_backward.py), then
blocks of the weights (weight_update.py), whose gradients sum over all samples of the batch. Before
them, large layers have a stage each, by columns (columns.py), after one that gathers the samples
where these are shuffled. A batch of many leaves is cut the other way: a task takes a run of leaves
of samples through both, so that x is read from memory once, and the tree joins the runs' gradients.

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
    count_panels,
    count_runs,
    end_of_run,
    lanes_of,
    padded_row,
    panel_width,
    pays_to_pack,
    sample_rows,
    split_leaves,
)
from fastmlp_kernels.columns import (
    columns_size,
    count_by_columns,
    count_forward_tasks,
    forward_task,
)
from fastmlp_kernels.forward_backward import (
    COLUMNS,
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
    gather,
    scratch_size,
)
from fastmlp_kernels.jit import address_of, integer, jit, kernel, packed, result
from fastmlp_kernels.memory import address, aligned, keep_alive
from fastmlp_kernels.microkernel import micro_kernel
from fastmlp_kernels.parallel import run_team
from fastmlp_kernels.team import (
    await_stage,
    dismiss,
    finish_task,
    is_over,
    join_team,
    open_stage,
    take_task,
    team_bytes,
    wait,
)
from fastmlp_kernels.weight_blocks import BLOCK_FIELDS, count_blocks, read_block, set_blocks
from fastmlp_kernels.weight_copies import pack_task, unpack_task
from fastmlp_kernels.weight_update import (
    SGD,
    leaf_gradients,
    leaf_partials_size,
    round_rates,
    update_scratch_size,
    update_task,
)

GIVEN = START + 1  # numbers of a layer that the caller gives: inputs, outputs, bias, start
PACK, GATHER, BY_COLUMNS, SAMPLES, LEAVES, WEIGHTS, UNPACK = range(7)
RATES, GATHERED, WORKSPACE, WORKSPACE_BYTES, PARTS, TEAM = map(
    Epoch._fields.index, ["rates", "gathered", "workspace", "workspace_bytes", "parts", "team"]
)
STAGE, LAYER, STEP, FIRST, ROWS, LEAVES_EACH = range(EPOCH_FIELDS - 6, EPOCH_FIELDS)

# A batch of so many leaves for each thread is cut by leaves: fewer don't balance.
LEAVES_PER_THREAD = 4

GATHER_EACH = 16  # samples of a task that only gathers them


@jit
def count_tasks(epoch):
    """How many tasks the present stage is."""
    if epoch.stage == GATHER:
        return (epoch.rows + GATHER_EACH - 1) // GATHER_EACH
    if epoch.stage == BY_COLUMNS:
        return count_forward_tasks(epoch)
    if epoch.stage == SAMPLES:
        each = sample_rows(epoch.rows, epoch.num_threads)
        return (epoch.rows + each - 1) // each
    if epoch.stage == LEAVES:
        leaves = count_leaves(epoch.rows, 0)
        return count_runs(leaves, epoch.leaves_each, epoch.num_threads)
    return epoch.blocks_count


@jit
def run_task(zero, epoch, number, thread):
    """Task `number` of the present stage."""
    workspace = epoch.workspace + thread * epoch.workspace_bytes
    if epoch.stage == GATHER:
        row = number * GATHER_EACH
        gather(epoch, epoch.first + row, row, min(GATHER_EACH, epoch.rows - row))
    elif epoch.stage == BY_COLUMNS:
        forward_task(zero, epoch, number, workspace)
    elif epoch.stage == SAMPLES:
        each = sample_rows(epoch.rows, epoch.num_threads)
        row = number * each
        rows = min(each, epoch.rows - row)
        forward_backward(zero, epoch, epoch.first + row, row, rows, thread, workspace)
    elif epoch.stage == LEAVES:
        run_leaves(zero, epoch, number, thread, workspace)
    elif epoch.stage == WEIGHTS:
        update_task(zero, epoch, number, workspace)
    elif epoch.stage == PACK:
        pack_task(zero, epoch, number, workspace)
    else:
        unpack_task(epoch, number)


@jit
def run_leaves(zero, epoch, number, thread, workspace):
    """A run of leaves of the batch's samples: from the forward pass to their gradients."""
    leaves, row = count_leaves(epoch.rows, 0), thread * LEAF
    first, stop = 0, end_of_run(leaves, epoch.leaves_each, epoch.num_threads, 0)
    for _ in range(number):
        first, stop = stop, end_of_run(leaves, epoch.leaves_each, epoch.num_threads, stop)
    target = epoch.parts + number * epoch.size * epoch.itemsize
    for leaf in range(first, stop):
        rows, sample = min(LEAF, epoch.rows - leaf * LEAF), epoch.first + leaf * LEAF
        forward_backward(zero, epoch, sample, row, rows, thread, workspace)
        leaf_gradients(zero, epoch, leaf, first, stop, row, target, workspace)


@jit
def read_epoch(data):
    return Epoch(*to_fixed_tuple(numba.carray(data, EPOCH_FIELDS), EPOCH_FIELDS))


@jit
def help_team(zero, data, thread):
    """Take tasks of any stage until all is over."""
    epoch, spins = read_epoch(data), 0
    team, num_threads = epoch.team, epoch.num_threads
    while not is_over(team):
        number = take_task(team, thread, num_threads, spins)
        if number < 0:
            spins = wait(spins)
            continue
        spins = 0
        run_task(zero, read_epoch(data), number, thread)
        finish_task(team, thread)


@jit
def run_stage(zero, data, stage, layer):
    """Open a stage, take its tasks like the others, and wait for theirs."""
    fields = numba.carray(data, EPOCH_FIELDS)
    fields[STAGE], fields[LAYER] = stage, layer
    epoch = read_epoch(data)
    tasks = count_tasks(epoch)
    open_stage(epoch.team, tasks, epoch.num_threads)
    number = take_task(epoch.team, 0, epoch.num_threads, 0)
    while number >= 0:
        run_task(zero, epoch, number, 0)
        finish_task(epoch.team, 0)
        number = take_task(epoch.team, 0, epoch.num_threads, 0)
    await_stage(epoch.team, tasks, epoch.num_threads)


@jit
def drive(zero, data):
    """All steps of the epoch."""
    fields = numba.carray(data, EPOCH_FIELDS)
    fields[RATES] = round_rates(zero, read_epoch(data))
    epoch = read_epoch(data)
    run_stage(zero, data, PACK, 0)
    for step in range(epoch.steps):
        first = step * epoch.batch_size
        rows = min(epoch.batch_size, epoch.samples - first)
        leaves_each = run_of_leaves(rows, epoch.num_threads)
        fields[STEP], fields[FIRST], fields[ROWS], fields[LEAVES_EACH] = (
            step, first, rows, leaves_each
        )  # fmt: skip
        if epoch.by_columns and epoch.order:
            run_stage(zero, data, GATHER, 0)
        for layer in range(epoch.by_columns):
            run_stage(zero, data, BY_COLUMNS, layer)
        run_stage(zero, data, LEAVES if leaves_each else SAMPLES, 0)
        run_stage(zero, data, WEIGHTS, 0)
    if epoch.by_columns:
        run_stage(zero, data, UNPACK, 0)


def _worker(zero):
    def epoch_thread(data, _, __):
        team = read_epoch(data).team
        thread = join_team(team)
        if thread == 0:
            drive(zero, data)
            dismiss(team)
        else:
            help_team(zero, data, thread)

    return epoch_thread


@cache
def compiled(dtype):
    """The addresses, for a NumPy dtype, of the compiled parts that `train` calls: an array."""
    signature = (types.CPointer(types.int64), types.int64, types.int64)
    return np.array([address_of(_worker(dtype.type(0)), signature), micro_kernel(dtype)])


@jit
def lay_out(table, layers, place, rows, batch_size, by_columns, arrays, itemsize):
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
        table[layer, PACKED], table[layer, PACKED_TRANSPOSE], table[layer, COLUMNS] = 0, 0, 0
        if layer < by_columns:
            table[layer, COLUMNS] = place
            place += arrays * columns_size(inputs, outputs, lanes) * itemsize
        elif pays_to_pack(batch_size, outputs, 1, lanes):
            table[layer, PACKED] = place
            place += count_leaves(inputs, 0) * LEAF * panel_width(outputs, lanes) * itemsize
        if layer > 0:
            table[layer, PACKED_TRANSPOSE] = place
            place += count_leaves(outputs, 0) * LEAF * panel_width(inputs, lanes) * itemsize
    return place


@jit
def workspace_elements(epoch, batch_size):
    """The elements of a thread's scratch, enough for every batch of up to batch_size samples."""
    rows = sample_rows(batch_size, epoch.num_threads)
    size, partials = scratch_size(epoch, max(rows, LEAF)), 0
    for number in range(epoch.blocks_count):
        size = max(size, update_scratch_size(epoch, read_block(epoch, number)))
    for layer in range(epoch.count):
        partials += leaf_partials_size(epoch, layer) if epoch.leaves_each else 0
    return max(size, scratch_size(epoch, LEAF) + partials)


@jit
def panels_bytes(table, lanes):
    """The memory of a list of panels, of any layer's W or W^T."""
    panels = 0
    for layer in range(table.shape[0]):
        for field in (INPUTS, OUTPUTS):
            panels = max(panels, count_panels(LEAF, table[layer, field], lanes))
    return whole_lines(40 * panels)


@jit
def whole_lines(size):
    return (size + 63) // 64 * 64


@jit
def run_of_leaves(rows, num_threads):
    """The leaves of a task that takes runs of leaves; 0 if the batch is cut otherwise."""
    leaves = count_leaves(rows, 0)
    return split_leaves(leaves, num_threads) if leaves >= LEAVES_PER_THREAD * num_threads else 0


@jit
def runs_of_batch(rows, num_threads):
    """How many runs of leaves a batch of so many samples is; 0 if it is cut otherwise."""
    return count_runs(count_leaves(rows, 0), run_of_leaves(rows, num_threads), num_threads)


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
    itemsize, lanes, count = x.itemsize, lanes_of(x.itemsize), layers.shape[0]
    rows = min(batch_size, LEAVES_PER_THREAD * num_threads * LEAF)
    steps, leaves_each = constants.shape[0], run_of_leaves(batch_size, num_threads)
    by_columns = 0 if leaves_each else count_by_columns(layers, steps, num_threads, lanes)
    arrays = 1 + optimizer  # W, and its states: sgd has none, momentum one, Adam two
    table = np.zeros((count, FIELDS), np.int64)
    buffers = lay_out(table, layers, 0, rows, batch_size, by_columns, arrays, itemsize)
    blocks = np.empty(
        (count_blocks(table, by_columns, num_threads, itemsize), BLOCK_FIELDS), np.int64
    )
    set_blocks(blocks, table, by_columns, num_threads, itemsize)
    gathered_row = padded_row(x.shape[1], itemsize)
    hits = np.zeros(num_threads * HITS_APART, np.int64)
    one = np.ones(1, losses.dtype)
    rates = np.empty(steps if optimizer == SGD else 0, losses.dtype)
    in_order = address(order) if order.size else 0
    panels = panels_bytes(table, lanes)
    epoch = Epoch(
        x.shape[0], batch_size, steps,
        address(x), x.shape[1], in_order, address(labels),
        address(table), count, address(parameters), address(states), parameters.size,
        optimizer, arrays, address(constants), address(rates),
        address(losses), address(hits), 0, gathered_row,
        0, 0, panels, 0, address(one), 0, code[1], itemsize, num_threads,
        address(blocks), blocks.shape[0], by_columns, PACK, 0, 0, 0, batch_size, leaves_each,
    )  # fmt: skip
    workspace = whole_lines(panels + workspace_elements(epoch, batch_size) * itemsize)
    gathered = whole_lines(rows * gathered_row * itemsize if order.size else 0)
    last_batch = x.shape[0] - (steps - 1) * batch_size
    parts = max(runs_of_batch(batch_size, num_threads), runs_of_batch(last_batch, num_threads))
    parts *= parameters.size * itemsize
    size = team_bytes(num_threads) + gathered + num_threads * workspace + buffers + parts
    memory = np.zeros(size + 64, np.uint8)
    data = np.array(epoch)
    place = aligned(memory)
    data[TEAM], data[GATHERED] = place, place + team_bytes(num_threads)
    data[WORKSPACE], data[WORKSPACE_BYTES] = data[GATHERED] + gathered, workspace
    place = data[WORKSPACE] + num_threads * workspace
    data[PARTS] = lay_out(table, layers, place, rows, batch_size, by_columns, arrays, itemsize)
    run_team(code[0], data, num_threads)
    done[0], done[1] = 0, steps
    for thread in range(num_threads):
        done[0] += hits[thread * HITS_APART]
    keep_alive(memory), keep_alive(table), keep_alive(blocks)
    keep_alive(hits), keep_alive(one), keep_alive(rates)

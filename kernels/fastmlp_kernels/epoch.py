"""An epoch of training in one call: for each batch forward, loss, backward, update.

A step has two stages, which threads share as tasks: blocks of samples (forward_backward.py), then
blocks of the weights (weight_update.py), whose gradients sum over all samples of the batch. Before
them, large layers have a stage each, by columns (columns.py), after one that gathers the samples
where these are shuffled. A batch of many leaves is cut the other way: a task takes a run of leaves
of samples through both, so that x is read from memory once, and the tree joins the runs' gradients.

Where a layer's inputs are zero for the most part, its products pass over the zeros
(sparse_layer.py); a stage finds them first, or the task itself where the first layer's tasks are
leaves of its inputs (input_leaves.py). What a stage's tasks are stands in stages.py.

Neither blocks nor tasks nor threads change a bit: the steps are those of the composition of the
operations, with grad = -(label / samples) given to LogSoftmax.
"""

from functools import cache

import numba
import numpy as np
from numba.core import types

from fastmlp_kernels.blocking import LEAF, VECTOR_BITS, lanes_of, padded_row
from fastmlp_kernels.columns import columns_size, count_by_columns
from fastmlp_kernels.epoch_memory import (
    LEAVES_PER_THREAD,
    cut_weights,
    lay_out,
    panels_bytes,
    run_of_leaves,
    runs_of_batch,
    whole_lines,
    workspace_elements,
)
from fastmlp_kernels.epoch_table import (
    BIAS,
    BY_LEAVES,
    EPOCH_FIELDS,
    FIELDS,
    HITS_APART,
    INPUTS,
    OUTPUTS,
    SPARSE,
    START,
    Epoch,
    goes_by_leaves,
    is_sparse,
)
from fastmlp_kernels.input_leaves import count_groups, share_groups
from fastmlp_kernels.jit import address_of, integer, jit, kernel, packed, result
from fastmlp_kernels.memory import address, aligned, array_at, fields_at, keep_alive
from fastmlp_kernels.microkernel import micro_kernel
from fastmlp_kernels.nonzeros import count_words
from fastmlp_kernels.parallel import call, run_team
from fastmlp_kernels.sparse import sparse_kernel
from fastmlp_kernels.sparse_layer import pays_to_skip, set_sparse
from fastmlp_kernels.stages import (
    BY_COLUMNS,
    FIND,
    GATHER,
    LEAF_FORWARD,
    LEAVES,
    PACK,
    SAMPLES,
    SPARSE_FORWARD,
    UNPACK,
    WEIGHTS,
    count_tasks,
    run_task,
    share_end,
)
from fastmlp_kernels.team import (
    await_stage,
    dismiss,
    finish_task,
    give_tasks,
    is_over,
    join_team,
    open_stage,
    take_task,
    team_bytes,
    wait,
)
from fastmlp_kernels.watch import has_failed
from fastmlp_kernels.weight_blocks import BLOCK_FIELDS, count_blocks, set_blocks
from fastmlp_kernels.weight_update import SGD, round_rates

GIVEN = START + 1  # numbers of a layer that the caller gives: inputs, outputs, bias, start
RATES, GATHERED, WORKSPACE, WORKSPACE_BYTES, PARTS, TEAM = map(
    Epoch._fields.index, ["rates", "gathered", "workspace", "workspace_bytes", "parts", "team"]
)
STAGE, LAYER, STEP, FIRST, ROWS, LEAVES_EACH = range(EPOCH_FIELDS - 6, EPOCH_FIELDS)
FAILS, STEPS_DONE, HITS_DONE, REPORT = range(4)  # what the driver writes at epoch.fails


@jit
def read_epoch(data):
    return Epoch(*fields_at(data, EPOCH_FIELDS))


@jit
def help_team(data, thread):
    """Take tasks of any stage until all is over."""
    epoch, spins = read_epoch(data), 0
    team, num_threads = epoch.team, epoch.num_threads
    while not is_over(team):
        number = take_task(team, thread, num_threads, spins)
        if number < 0:
            spins = wait(spins)
            continue
        spins = 0
        call(epoch.task, data, number, thread)
        finish_task(team, thread)


@jit
def run_stage(data, stage, layer):
    """Open a stage, take its tasks like the others, and wait for theirs."""
    fields = numba.carray(data, EPOCH_FIELDS)
    fields[STAGE], fields[LAYER] = stage, layer
    epoch = read_epoch(data)
    tasks = count_tasks(epoch)
    open_stage(epoch.team, epoch.num_threads)
    start = 0
    for thread in range(epoch.num_threads):
        stop = share_end(epoch, tasks, thread)
        give_tasks(epoch.team, thread, start, stop)
        start = stop
    number = take_task(epoch.team, 0, epoch.num_threads, 0)
    while number >= 0:
        call(epoch.task, data, number, 0)
        finish_task(epoch.team, 0)
        number = take_task(epoch.team, 0, epoch.num_threads, 0)
    await_stage(epoch.team, tasks, epoch.num_threads)


@jit
def drive(zero, data):
    """All steps of the epoch, or those before the one that the first layer's zeros would change."""
    fields = numba.carray(data, EPOCH_FIELDS)
    fields[RATES] = round_rates(zero, read_epoch(data))
    epoch = read_epoch(data)
    report = array_at(np.int64(0), epoch.fails, REPORT)
    run_stage(data, PACK, 0)
    for step in range(epoch.steps):
        first = step * epoch.batch_size
        rows = min(epoch.batch_size, epoch.samples - first)
        fields[STEP], fields[FIRST], fields[ROWS], fields[LEAVES_EACH] = (
            step, first, rows, run_of_leaves(rows, epoch.num_threads)
        )  # fmt: skip
        if has_failed(epoch):
            break
        run_samples(data)
        if has_failed(epoch):
            break
        report[STEPS_DONE], report[HITS_DONE] = step + 1, count_hits(epoch)
        run_stage(data, WEIGHTS, 0)
    if epoch.by_columns:
        run_stage(data, UNPACK, 0)


@jit
def run_samples(data):
    """The stages of a step that take it from its samples to the gradients of their outputs."""
    epoch = read_epoch(data)
    if epoch.leaves_each:
        run_stage(data, LEAVES, 0)
        return
    for layer in range(epoch.by_columns):
        if goes_by_leaves(epoch, layer):
            run_stage(data, LEAF_FORWARD, layer)
            continue
        if is_sparse(epoch, layer):
            run_stage(data, FIND, layer)
            run_stage(data, SPARSE_FORWARD, layer)
            continue
        if layer == 0 and epoch.order:
            run_stage(data, GATHER, 0)
        run_stage(data, BY_COLUMNS, layer)
    run_stage(data, SAMPLES, 0)


@jit
def count_hits(epoch):
    """How many samples of the steps until now had their label as first largest logit."""
    hits = array_at(np.int64(0), epoch.hits, epoch.num_threads * HITS_APART)
    total = 0
    for thread in range(epoch.num_threads):
        total += hits[thread * HITS_APART]
    return total


def _worker(zero):
    def epoch_thread(data, _, __):
        team = read_epoch(data).team
        thread = join_team(team)
        if thread == 0:
            drive(zero, data)
            dismiss(team)
        else:
            help_team(data, thread)

    return epoch_thread


def _task(zero):
    def epoch_task(data, number, thread):
        run_task(zero, read_epoch(data), number, thread)

    return epoch_task


@cache
def compiled(dtype):
    """The addresses, for a NumPy dtype, of the compiled parts that `train` calls: an array."""
    signature = (types.CPointer(types.int64), types.int64, types.int64)
    parts = _worker(dtype.type(0)), _task(dtype.type(0))
    addresses = [address_of(part, signature) for part in parts]
    return np.array([*addresses, micro_kernel(dtype), sparse_kernel(dtype)])


@jit
def share_weights(x, table, by_columns, num_threads):
    """The blocks of the weights, the groups of the first layer's inputs, and where threads' end."""
    blocks = np.empty((count_blocks(table, num_threads, x.itemsize), BLOCK_FIELDS), np.int64)
    block_ends, group_ends = np.empty(num_threads, np.int64), np.empty(num_threads, np.int64)
    group_order = np.empty(count_groups(table[0, INPUTS], table[0, BIAS]), np.int64)
    if table[0, SPARSE] == BY_LEAVES:
        share_groups(x, group_order, group_ends)
    set_blocks(blocks, block_ends, table, by_columns, group_order, group_ends, x.itemsize)
    return blocks, block_ends, group_order, group_ends


@jit
def run_epoch(
    x, order, labels, layers, parameters, states, optimizer, constants, batch_size, losses, report,
    code, num_threads, skips, skips_x,
):  # fmt: skip
    """Steps of `train`, all that there are or, if products pass over zeros, up to one needing them.

    skips: whether hidden layers may do so; skips_x: whether the first layer shall.
    """
    itemsize, lanes, count = x.itemsize, lanes_of(x.itemsize), layers.shape[0]
    samples, steps = labels.size, constants.shape[0]
    rows = min(batch_size, LEAVES_PER_THREAD * num_threads * LEAF)
    leaves_each = run_of_leaves(batch_size, num_threads)
    by_columns = 0 if leaves_each else count_by_columns(layers, steps, num_threads, lanes)
    by_columns = max(by_columns, int(skips_x))
    arrays = 1 + optimizer  # W, and its states: sgd has none, momentum one, Adam two
    table = np.zeros((count, FIELDS), np.int64)
    table[:, :GIVEN] = layers
    set_sparse(table, skips_x, skips and leaves_each == 0, by_columns)
    cut_weights(table, batch_size, by_columns, num_threads, lanes)
    buffers = lay_out(table, 0, rows, batch_size, by_columns, arrays, itemsize)
    blocks, block_ends, group_order, group_ends = share_weights(x, table, by_columns, num_threads)
    gathered_row = padded_row(x.shape[1], itemsize)
    hits = np.zeros(num_threads * HITS_APART, np.int64)
    one = np.ones(1, losses.dtype)
    rates = np.empty(steps if optimizer == SGD else 0, losses.dtype)
    in_order = address(order) if order.size else 0
    panels = panels_bytes(table, lanes)
    part_size = parameters.size
    if skips_x:
        part_size += columns_size(layers[0, INPUTS], layers[0, OUTPUTS], lanes)
    epoch = Epoch(
        samples, batch_size, steps,
        address(x), x.shape[1], in_order, address(labels),
        address(table), count, address(parameters), address(states), parameters.size,
        optimizer, arrays, address(constants), address(rates),
        address(losses), address(hits), 0, gathered_row,
        int(table[:, SPARSE].any()), count_words(rows), address(report),
        0, 0, panels, 0, part_size, address(one), 0, code[1], code[2], code[3],
        itemsize, num_threads, address(blocks), blocks.shape[0], address(block_ends),
        address(group_order), address(group_ends), by_columns,
        PACK, 0, 0, 0, batch_size, leaves_each,
    )  # fmt: skip
    workspace = whole_lines(panels + workspace_elements(epoch, batch_size) * itemsize)
    gathered = whole_lines(rows * gathered_row * itemsize if order.size else 0)
    last_batch = samples - (steps - 1) * batch_size
    parts = max(runs_of_batch(batch_size, num_threads), runs_of_batch(last_batch, num_threads))
    parts *= part_size * itemsize
    size = team_bytes(num_threads) + gathered + num_threads * workspace + buffers + parts
    memory = np.zeros(size + 64, np.uint8)
    data = np.array(epoch)
    place = aligned(memory)
    data[TEAM], data[GATHERED] = place, place + team_bytes(num_threads)
    data[WORKSPACE], data[WORKSPACE_BYTES] = data[GATHERED] + gathered, workspace
    place = data[WORKSPACE] + num_threads * workspace
    data[PARTS] = lay_out(table, place, rows, batch_size, by_columns, arrays, itemsize)
    report[:] = 0
    run_team(code[0], data, num_threads)
    keep_alive(memory), keep_alive(table), keep_alive(blocks)
    keep_alive(hits), keep_alive(one), keep_alive(rates)
    keep_alive(block_ends), keep_alive(group_order), keep_alive(group_ends)


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
    report, first, steps = np.empty(REPORT, np.int64), 0, constants.shape[0]
    skips, skips_x = VECTOR_BITS != 0, pays_to_skip(x, layers)
    done[0], done[1] = 0, steps
    while first < steps:
        start = first * batch_size
        run_epoch(
            x if order.size else x[start:], order[start:], labels[start:], layers, parameters,
            states, optimizer, constants[first:], batch_size, losses[start:], report, code,
            num_threads, skips, skips_x,
        )  # fmt: skip
        done[0] += report[HITS_DONE]
        first, skips, skips_x = first + report[STEPS_DONE], False, False

"""The stages of an epoch: how many tasks each is, what a task does, whose it is.

Before the first step and after the last, weights move to where the products read them, and back. A
step is GATHER, FIND and the forward passes of the layers that have a stage of their own, SAMPLES
for the other layers and the way back, WEIGHTS; with a batch of many leaves it is LEAVES, WEIGHTS.
"""

import numpy as np

from fastmlp_kernels.blocking import (
    LEAF,
    count_leaves,
    count_runs,
    end_of_run,
    sample_rows,
)
from fastmlp_kernels.columns import count_forward_tasks, forward_task
from fastmlp_kernels.epoch_table import INPUTS, gather, goes_by_leaves, is_sparse, layer_field
from fastmlp_kernels.forward_backward import forward_backward
from fastmlp_kernels.input_leaves import (
    count_chunks,
    group_task,
    groups_of,
    join_groups,
)
from fastmlp_kernels.jit import jit, share
from fastmlp_kernels.memory import load
from fastmlp_kernels.sparse_layer import (
    count_find_tasks,
    count_sparse_tasks,
    find_task,
    sparse_forward_task,
    sparse_leaf_forward,
)
from fastmlp_kernels.watch import watch_gradients, watch_signs, watch_weights
from fastmlp_kernels.weight_blocks import read_block
from fastmlp_kernels.weight_copies import pack_task, unpack_task
from fastmlp_kernels.weight_update import leaf_gradients, update_task

PACK, FIND, GATHER, SPARSE_FORWARD, LEAF_FORWARD, BY_COLUMNS = range(6)
SAMPLES, LEAVES, WEIGHTS, UNPACK = range(6, 10)

GATHER_EACH = 16  # samples of a task that only gathers them


@jit
def count_tasks(epoch):
    """How many tasks the present stage is."""
    if epoch.stage == GATHER:
        return (epoch.rows + GATHER_EACH - 1) // GATHER_EACH
    if epoch.stage == FIND:
        return count_find_tasks(epoch)
    if epoch.stage == SPARSE_FORWARD:
        return count_sparse_tasks(epoch)
    if epoch.stage == LEAF_FORWARD:
        return groups_of(epoch) * count_chunks(epoch)
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
        rows, inputs = min(GATHER_EACH, epoch.rows - row), layer_field(epoch, 0, INPUTS)
        gather(epoch, epoch.first + row, row, rows, 0, inputs)
    elif epoch.stage == FIND:
        find_task(zero, epoch, number, workspace)
    elif epoch.stage == SPARSE_FORWARD:
        sparse_forward_task(zero, epoch, number, workspace)
    elif epoch.stage == LEAF_FORWARD:
        group_task(zero, epoch, number, workspace)
    elif epoch.stage == BY_COLUMNS:
        forward_task(zero, epoch, number, workspace)
    elif epoch.stage == SAMPLES:
        each = sample_rows(epoch.rows, epoch.num_threads)
        row = number * each
        rows = min(each, epoch.rows - row)
        if goes_by_leaves(epoch, 0):
            join_groups(zero, epoch, row, rows, workspace)
        forward_backward(zero, epoch, epoch.first + row, row, rows, thread, workspace)
        if epoch.sparse:
            watch_gradients(zero, epoch, row, rows)
    elif epoch.stage == LEAVES:
        run_leaves(zero, epoch, number, thread, workspace)
    elif epoch.stage == WEIGHTS:
        update_task(zero, epoch, number, workspace)
    elif epoch.stage == PACK:
        pack_task(zero, epoch, number, workspace)
        block = read_block(epoch, number)
        if epoch.sparse:
            watch_signs(zero, epoch, block)
        if is_sparse(epoch, block.layer):
            watch_weights(zero, epoch, block)
    else:
        unpack_task(epoch, number)


@jit
def run_leaves(zero, epoch, number, thread, workspace):
    """A run of leaves of the batch's samples: from the forward pass to their gradients."""
    leaves, row = count_leaves(epoch.rows, 0), thread * LEAF
    first, stop = 0, end_of_run(leaves, epoch.leaves_each, epoch.num_threads, 0)
    for _ in range(number):
        first, stop = stop, end_of_run(leaves, epoch.leaves_each, epoch.num_threads, stop)
    target = epoch.parts + number * epoch.part_size * epoch.itemsize
    sparse = is_sparse(epoch, 0)
    for leaf in range(first, stop):
        rows, sample = min(LEAF, epoch.rows - leaf * LEAF), epoch.first + leaf * LEAF
        if sparse:
            sparse_leaf_forward(zero, epoch, sample, row, rows, thread, workspace)
        forward_backward(zero, epoch, sample, row, rows, thread, workspace)
        if sparse:
            watch_gradients(zero, epoch, row, rows)
        leaf_gradients(zero, epoch, leaf, first, stop, row, thread, target, workspace)


@jit
def share_end(epoch, tasks, thread):
    """Where a thread's share of the present stage's tasks ends."""
    if epoch.stage == LEAF_FORWARD:
        return load(np.int64(0), epoch.group_ends, thread) * count_chunks(epoch)
    if epoch.stage == PACK or epoch.stage == WEIGHTS or epoch.stage == UNPACK:
        return load(np.int64(0), epoch.block_ends, thread)
    return share(tasks, thread, epoch.num_threads).stop

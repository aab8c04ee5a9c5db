"""A first layer whose rows belong to threads: leaves of its inputs are the forward pass's tasks.

    sums[leaf] = x @ W over the inputs of one leaf (and b with the last)
    h = relu(the tree over sums)

A layer that passes over zeros and fits one panel has no columns to give to every thread. Cut by
samples, its forward pass brings to each thread what of W the others updated. By leaves of its
inputs a thread reads only the rows of W, and the columns of x, that it has in the gradient, too;
what crosses from core to core is the smaller sums, which the next stage joins. That took 0.92 of
an epoch's time for 784-100-10 with 128 samples, 0.88 with 32. A leaf of few inputs is with its
sibling in one group, so that fewer sums cross: 0.975 with 32.

The kernel finds what is not zero in a row of x while it multiplies the row before: a stage for that
would bring x from memory first and from the level-2 cache again. Shuffled rows are gathered on the
way. That took 0.96 of an epoch's time with 128 samples, 0.9 of one that shuffles. Of row words, a
group has a table of its own.
"""

import numpy as np

from fastmlp_kernels.blocking import (
    LEAF,
    TASKS_PER_THREAD,
    count_leaves,
    lanes_of,
    panel_width,
)
from fastmlp_kernels.columns import columns_place
from fastmlp_kernels.epoch_table import (
    BIAS,
    INPUTS,
    OUTPUTS,
    ROW_WORDS,
    SPARSE,
    SUMS,
    H,
    buffer_row,
    gather,
    layer_field,
    layer_input,
    scratch_of,
)
from fastmlp_kernels.jit import jit, share
from fastmlp_kernels.memory import array_at, copy, load
from fastmlp_kernels.nonzeros import WORD, WORD_BYTES, count_words, find_columns, find_rows
from fastmlp_kernels.sparse import FETCH_ROWS, count_sparse_panels, multiply
from fastmlp_kernels.sparse_layer import LEAF_WORDS, sample_offsets, sparse_rows, store_relu

FEWEST_ROWS = 8  # of x in a task, which share the rows of W that come to the level-1 cache
JOIN_ROWS = 16  # of all sums at once: long loops, in the level-1 cache
LOOKS = 64  # samples by which leaves are given to threads


@jit
def pays_to_go_by_leaves(table, by_columns, lanes):
    """Whether the first layer shall."""
    if by_columns != 1 or not table[0, SPARSE] or table[0, INPUTS] <= LEAF:
        return False
    return count_sparse_panels(table[0, OUTPUTS], 1, 1, lanes) == 1


@jit
def count_groups(inputs, bias):
    """How many groups the inputs are: leaves, but a last one of few inputs is with its sibling."""
    leaves = count_leaves(inputs, bias)
    joins = leaves > 2 and leaves % 2 == 0 and inputs - (leaves - 1) * LEAF < WORD
    return leaves - int(joins)


@jit
def share_groups(x, order, ends):
    """Give each group of the inputs to a thread: the heaviest first, to whom has the least.

    order (groups,): those of thread 0, then of thread 1, ...; ends (threads,): where its own end.
    """
    weights, loads = np.ones(order.size, np.int64), np.zeros(ends.size, np.int64)
    for look in range(LOOKS):
        sample = x[x.shape[0] * look // LOOKS]
        for k in range(sample.size):
            weights[min(k // LEAF, order.size - 1)] += int(sample[k] != 0)
    by_weight, owner = np.empty(order.size, np.int64), np.empty(order.size, np.int64)
    for number in range(order.size):
        group, thread = np.argmax(weights), np.argmin(loads)
        by_weight[number], owner[group] = group, thread
        loads[thread] += weights[group]
        weights[group] = 0
    count = 0
    for thread in range(ends.size):
        for group in by_weight:
            if owner[group] == thread:
                order[count] = group
                count += 1
        ends[thread] = count


@jit
def groups_of(epoch):
    return count_groups(layer_field(epoch, 0, INPUTS), layer_field(epoch, 0, BIAS))


@jit
def count_chunks(epoch):
    """In how many chunks the samples of a group are cut: words of them, or more for the threads."""
    wanted = TASKS_PER_THREAD * epoch.num_threads // groups_of(epoch)
    return max(count_words(epoch.rows), min(wanted, epoch.rows // FEWEST_ROWS))


@jit
def panel_row(epoch):
    """The elements of a row of the only panel."""
    return panel_width(layer_field(epoch, 0, OUTPUTS), lanes_of(epoch.itemsize))


@jit
def inputs_of_group(epoch, group):
    """How many inputs a group has; none if it is a leaf of the bias alone."""
    inputs = layer_field(epoch, 0, INPUTS) - group * LEAF
    return inputs if group == groups_of(epoch) - 1 else LEAF


@jit
def group_words(epoch, group, row):
    """The address of the row words of a group for one row."""
    words = group * LEAF_WORDS * epoch.rows + row * count_words(inputs_of_group(epoch, group))
    return layer_field(epoch, 0, ROW_WORDS) + words * WORD_BYTES


@jit
def group_sums(epoch, group, row):
    """The address of the sums of a group for one row."""
    rows = group * epoch.rows + row
    return layer_field(epoch, 0, SUMS) + rows * panel_row(epoch) * epoch.itemsize


@jit
def group_task(zero, epoch, number, workspace):
    """The sums of a group of inputs, for a chunk of samples."""
    chunks = count_chunks(epoch)
    group = load(np.int64(0), epoch.group_order, number // chunks)
    mine = share(epoch.rows, number % chunks, chunks)
    sample, row, rows = epoch.first + mine.start, mine.start, mine.stop - mine.start
    first, inputs, itemsize = group * LEAF, inputs_of_group(epoch, group), epoch.itemsize
    x, x_row = layer_input(epoch, 0, sample, row)
    x += first * itemsize
    words, count, whole = group_words(epoch, group, row), count_words(inputs), inputs // WORD
    if whole < count:  # the kernel finds whole words only
        if epoch.order:
            gather(epoch, sample, row, rows, first + whole * WORD, first + inputs)
        find_rows(zero, x, x_row, itemsize, rows, inputs, slice(whole, count), words)
    width, bias = panel_row(epoch), 0
    W = columns_place(epoch, 0, 0, first, width)
    if layer_field(epoch, 0, BIAS) and group == groups_of(epoch) - 1:
        bias = W + inputs * width * itemsize
    sources = sample_offsets(epoch, sample, row, rows + FETCH_ROWS, 0, workspace)
    slots = scratch_of(epoch, workspace) + 2 * WORD * WORD_BYTES
    it = sparse_rows(
        epoch, rows, count, x_row, bias, width, group_sums(epoch, group, row), slots, 0,
        whole, sources,
    )  # fmt: skip
    multiply(zero, it, inputs, words, x, W)


@jit
def join_size(epoch):
    """The elements of scratch that join_groups needs."""
    return (groups_of(epoch) + 3) // 4 * JOIN_ROWS * panel_row(epoch)


@jit
def join_groups(zero, epoch, row, rows, workspace):
    """h of so many rows from `row` on."""
    width = panel_row(epoch)
    for first in range(row, row + rows, JOIN_ROWS):
        size, count = min(JOIN_ROWS, row + rows - first) * width, groups_of(epoch)
        source, apart = group_sums(epoch, 0, first), epoch.rows * width * epoch.itemsize
        scratch = scratch_of(epoch, workspace)
        while count > 1:
            for four in range((count + 3) // 4):
                target = scratch + four * size * epoch.itemsize
                add_four(zero, source + 4 * four * apart, apart, count - 4 * four, target, size)
            source, apart, count = scratch, size * epoch.itemsize, (count + 3) // 4
        for i in range(size // width):
            h = buffer_row(epoch, 0, H, first + i)
            store_relu(zero, source + i * width * epoch.itemsize, h, width)


@jit
def add_four(zero, source, apart, count, target, size):
    """Two levels of the tree over the next four of `count` arrays, which lie `apart` bytes apart.

    To an address, which may be that of the first. Nothing is written to the sums of the groups:
    other threads' caches have them.
    """
    a, b = array_at(zero, source, size), array_at(zero, source + apart, size)
    c, d = array_at(zero, source + 2 * apart, size), array_at(zero, source + 3 * apart, size)
    total = array_at(zero, target, size)
    if count >= 4:
        for j in range(size):
            total[j] = (a[j] + b[j]) + (c[j] + d[j])
    elif count == 3:
        for j in range(size):
            total[j] = (a[j] + b[j]) + c[j]
    elif count == 2:
        for j in range(size):
            total[j] = a[j] + b[j]
    else:
        copy(target, source, size * total.itemsize)


@jit
def leaf_columns_size(epoch):
    """The bytes of scratch for the column words of a block and the square they are made in."""
    return (WORD + (WORD + 1) * epoch.words_each) * WORD_BYTES


@jit
def leaf_columns(epoch, block, workspace):
    """The address of the column words of a block, of up to 64 inputs, made in the scratch."""
    group = min(block.first // LEAF, groups_of(epoch) - 1)
    inputs, first = inputs_of_group(epoch, group), block.first - group * LEAF
    square, word = scratch_of(epoch, workspace), first // WORD
    place = square + WORD * WORD_BYTES
    for row in range(0, epoch.rows, WORD):
        column_words = place + (row // WORD - first * epoch.words_each) * WORD_BYTES
        find_columns(
            min(WORD, epoch.rows - row), inputs, slice(word, word + 1),
            group_words(epoch, group, row), column_words, epoch.words_each, square,
        )  # fmt: skip
    return place

"""A first layer whose rows belong to threads: the forward pass's tasks are parts of its inputs.

    sums[part] = x @ W over the inputs of one part (and b with the last), a subtree of leaves
    h = relu(the rest of the tree, over sums)

A layer that passes over zeros and fits one panel has no columns to give to every thread. Cut by
samples, its forward pass brings to each thread what of W the others updated. By parts of its inputs
a thread reads only the rows of W, and the columns of x, that it has in the gradient, too; what
crosses from core to core is the smaller sums, which the next stage joins. That took 0.97 of an
epoch's time for 784-100-10, and 0.85 of it while the host kept the two cores far apart.

A task finds what is not zero in its part of x itself. Of row words, a part has a table of its own.
"""

import numpy as np

from fastmlp_kernels.blocking import (
    LEAF,
    TASKS_PER_THREAD,
    count_leaves,
    count_levels,
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
    column_panels,
    gather,
    layer_field,
    layer_input,
    scratch_of,
)
from fastmlp_kernels.jit import jit, share
from fastmlp_kernels.memory import array_at, load
from fastmlp_kernels.nonzeros import WORD, WORD_BYTES, count_words, find_columns, find_rows
from fastmlp_kernels.sparse import count_sparse_panels, multiply
from fastmlp_kernels.sparse_layer import look_ahead, sparse_rows, store_relu

LEAF_WORDS = LEAF // WORD
FEWEST_ROWS = 8  # of x in a task, which share the rows of W that come to the level-1 cache
JOIN_ROWS = 16  # of all sums at once: long loops, in the level-1 cache
LOOKS = 64  # samples by which inputs are shared
LARGEST_SHARE = 1.1  # of what a thread should have, that a part may be


@jit
def goes_by_parts(table, by_columns, lanes):
    """Whether the first layer does."""
    if by_columns != 1 or not table[0, SPARSE] or table[0, INPUTS] <= LEAF:
        return False
    return count_sparse_panels(table[0, OUTPUTS], 1, 1, lanes) == 1


@jit
def cut_inputs(weights, num_threads, sizes):
    """Cut the leaves, of such weights, into parts: sizes[leaf] is that of the part it starts, or 0.

    The heaviest subtree is cut in two as long as it is too much for one thread.
    """
    total = weights.sum()
    sizes[0] = weights.size
    while True:
        heaviest, most = 0, 0
        for leaf in range(weights.size):
            weight = weights[leaf : leaf + sizes[leaf]].sum()
            if sizes[leaf] > 1 and weight > most:
                heaviest, most = leaf, weight
        if most * num_threads <= LARGEST_SHARE * total:
            return
        half = 1 << (count_levels(sizes[heaviest]) - 1)
        sizes[heaviest + half] = sizes[heaviest] - half
        sizes[heaviest] = half


@jit
def share_inputs(x, sizes, order, ends):
    """Give the inputs to threads in parts: the heaviest first, to whom has the least.

    sizes (leaves,), zeros: see cut_inputs. order (leaves,): the first leaf of each part, those of
    thread 0, then those of thread 1, ...; ends (threads,): how many there are up to its own.
    """
    weights, loads = np.ones(sizes.size, np.int64), np.zeros(ends.size, np.int64)
    for look in range(LOOKS):
        sample = x[x.shape[0] * look // LOOKS]
        for k in range(sample.size):
            weights[k // LEAF] += int(sample[k] != 0)
    cut_inputs(weights, ends.size, sizes)
    owner = np.full(sizes.size, -1)
    for _ in range(sizes.size):
        heaviest, most = -1, 0
        for leaf in range(sizes.size):
            weight = weights[leaf : leaf + sizes[leaf]].sum()
            if owner[leaf] < 0 and weight > most:
                heaviest, most = leaf, weight
        if heaviest >= 0:
            owner[heaviest] = np.argmin(loads)
            loads[owner[heaviest]] += most
    count = 0
    for thread in range(ends.size):
        for leaf in range(sizes.size):
            if owner[leaf] == thread:
                order[count] = leaf
                count += 1
        ends[thread] = count


@jit
def count_parts(epoch):
    return load(np.int64(0), epoch.part_ends, epoch.num_threads - 1)


@jit
def count_chunks(epoch):
    """In how many chunks the samples of a part are cut: words of them, or more for the threads."""
    wanted = TASKS_PER_THREAD * epoch.num_threads // count_parts(epoch)
    if epoch.num_threads == 1:
        wanted = 1
    return max(count_words(epoch.rows), min(wanted, epoch.rows // FEWEST_ROWS))


@jit
def inputs_of_part(epoch, leaf):
    """How many inputs the part has that starts with a leaf; none if it is that of the bias."""
    stop = (leaf + load(np.int64(0), epoch.part_sizes, leaf)) * LEAF
    return max(0, min(stop, layer_field(epoch, 0, INPUTS)) - leaf * LEAF)


@jit
def part_words(epoch, leaf, row):
    """The address of the row words of a part for one row."""
    words = leaf * LEAF_WORDS * epoch.rows + row * count_words(inputs_of_part(epoch, leaf))
    return layer_field(epoch, 0, ROW_WORDS) + words * WORD_BYTES


@jit
def part_sums(epoch, leaf, row, width):
    """The address of the sums of a part for one row."""
    return layer_field(epoch, 0, SUMS) + (leaf * epoch.rows + row) * width * epoch.itemsize


@jit
def part_task(zero, epoch, number, workspace):
    """The sums of a part of the inputs, for a chunk of samples; h, if all inputs are one part."""
    chunks = count_chunks(epoch)
    leaf = load(np.int64(0), epoch.part_order, number // chunks)
    mine = share(epoch.rows, number % chunks, chunks)
    sample, row, rows = epoch.first + mine.start, mine.start, mine.stop - mine.start
    first, inputs, itemsize = leaf * LEAF, inputs_of_part(epoch, leaf), epoch.itemsize
    if epoch.order:
        gather(epoch, sample, row, rows, first, first + inputs)
    x, x_row = layer_input(epoch, 0, sample, row)
    x += first * itemsize
    words, count = part_words(epoch, leaf, row), count_words(inputs)
    find_rows(zero, x, x_row, itemsize, rows, inputs, slice(0, count), words)
    width = column_panels(epoch, 0, workspace)[0, 4]
    W, bias = columns_place(epoch, 0, 0, first, width), 0
    if layer_field(epoch, 0, BIAS) and first + inputs == layer_field(epoch, 0, INPUTS):
        bias = W + inputs * width * itemsize
    ahead = look_ahead(epoch, sample, row, rows, epoch.rows, workspace)
    total, slots = part_sums(epoch, leaf, row, width), scratch_of(epoch, workspace)
    slots += WORD * WORD_BYTES
    it = sparse_rows(epoch, rows, count, x_row, bias, width, total, slots, ahead)
    multiply(zero, it, inputs, words, x, W)


@jit
def count_input_leaves(epoch):
    return count_leaves(layer_field(epoch, 0, INPUTS), layer_field(epoch, 0, BIAS))


@jit
def join_size(epoch):
    """The elements of scratch that join_parts needs."""
    width = panel_width(layer_field(epoch, 0, OUTPUTS), lanes_of(epoch.itemsize))
    return (1 + count_levels(count_input_leaves(epoch))) * JOIN_ROWS * width


@jit
def join_parts(zero, epoch, row, rows, workspace):
    """h of so many rows from `row` on."""
    leaves, width = count_input_leaves(epoch), column_panels(epoch, 0, workspace)[0, 4]
    scratch = scratch_of(epoch, workspace)
    # Sums that wait for their neighbour: addresses, and how many leaves they are of.
    waiting = np.empty((64, 2), np.int64)
    for first in range(row, row + rows, JOIN_ROWS):
        size, count, leaf = min(JOIN_ROWS, row + rows - first) * width, 0, 0
        while leaf < leaves:
            waiting[count, 0] = part_sums(epoch, leaf, first, width)
            waiting[count, 1] = load(np.int64(0), epoch.part_sizes, leaf)
            leaf += waiting[count, 1]
            while count > 0 and (leaf == leaves or waiting[count - 1, 1] == waiting[count, 1]):
                target = scratch + (count - 1) * size * epoch.itemsize
                add_sums(zero, waiting[count - 1, 0], waiting[count, 0], target, size)
                waiting[count - 1, 0] = target
                waiting[count - 1, 1] += waiting[count, 1]
                count -= 1
            count += 1
        for i in range(size // width):
            h = buffer_row(epoch, 0, H, first + i)
            store_relu(zero, waiting[0, 0] + i * width * epoch.itemsize, h, width)


@jit
def add_sums(zero, left, right, target, size):
    """The sum of two arrays, from addresses to an address, which may be that of the first.

    Of the sums, which other threads have, nothing is written: their caches keep them.
    """
    first, second = array_at(zero, left, size), array_at(zero, right, size)
    total = array_at(zero, target, size)
    for j in range(size):
        total[j] = first[j] + second[j]


@jit
def block_columns_size(epoch):
    """The bytes of scratch for the column words of a block and the square they are made in."""
    return (WORD + (WORD + 1) * epoch.words_each) * WORD_BYTES


@jit
def block_columns(epoch, block, workspace):
    """The address of the column words of a block, a word of a part's inputs, made in scratch."""
    leaf = block.first // LEAF
    while load(np.int64(0), epoch.part_sizes, leaf) == 0:
        leaf -= 1
    first, place = block.first - leaf * LEAF, scratch_of(epoch, workspace)
    square, word = array_at(np.uint64(0), place, WORD), first // WORD
    place += WORD * WORD_BYTES
    for row in range(0, epoch.rows, WORD):
        column_words = place + (row // WORD - first * epoch.words_each) * WORD_BYTES
        find_columns(
            min(WORD, epoch.rows - row), inputs_of_part(epoch, leaf), slice(word, word + 1),
            part_words(epoch, leaf, row), column_words, epoch.words_each, square,
        )  # fmt: skip
    return place

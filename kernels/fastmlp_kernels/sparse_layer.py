"""Layers in training that pass over the zeros of their inputs.

The first layer does where half of the inputs or more are zero: images, one-hot features. Large
hidden layers always do, as relu makes zeros: with 40% of h zero, an epoch of 784-512-256-10 took
0.9 of its time so, and less with more. The products, x being the layer's input:

    h = x @ W + b, grad_W = x^T @ grad    over the x != 0
    grad_x = grad @ W^T                   over the grad != 0, which relu has gated, too

That leaves their bits as they are, or changes the sign of a zero (sparse.py), and no weight's bit
behind it, as long as

- W and grad are finite;
- the layer ends in a relu, which makes +0 of both zeros;
- no weight of the network is -0, the only one for which W - (+0) isn't W - (-0). An update makes
  none.

Where a task finds that one of these fails (watch.py), the epoch ends before the step that it would
matter for, and `train` in epoch.py multiplies the rest of it whole.
"""

import numpy as np

from fastmlp_kernels.blocking import LEAF, LINE, VECTOR_BITS, count_leaves, count_levels, lanes_of
from fastmlp_kernels.columns import SMALLEST_WEIGHTS, columns_place, columns_size
from fastmlp_kernels.epoch_table import (
    BIAS,
    COLUMN_WORDS,
    GRAD,
    INPUTS,
    OUTPUTS,
    PACKED_TRANSPOSE,
    PANELS,
    ROW,
    ROW_PANELS,
    ROW_WORDS,
    SKIPS,
    SPARSE,
    H,
    buffer_row,
    column_panels,
    gather,
    is_sparse,
    layer_field,
    layer_input,
    row_panels,
    scratch_of,
)
from fastmlp_kernels.jit import jit, share
from fastmlp_kernels.memory import array_at, fetch_to_write, load, store
from fastmlp_kernels.nonzeros import WORD, WORD_BYTES, count_words, find_columns, find_rows
from fastmlp_kernels.sparse import ROWS_EACH, Sparse, add_leaf, multiply
from fastmlp_kernels.weight_blocks import block_places, count_rows, has_bias

# An element that is not zero took 2.7 to 3.6 ns in here (100 columns, AVX2), where the limit of the
# FMAs of all elements, zero or not, was 2.0 ns each.
MOST_NONZERO = 0.5
LOOKS = 16  # samples of which the share of zeros is taken
FEWEST_SAMPLES = 64  # of an epoch: moving W to its panels and back costs as much as a few samples

LEAF_WORDS = LEAF // WORD
TASKS_TO_FIND = 2  # for each thread


@jit
def pays_to_skip(x, layers):
    """Whether the first layer shall pass over zeros, by some samples of x (N, inputs)."""
    if VECTOR_BITS == 0 or layers.shape[0] < 2 or x.shape[0] < FEWEST_SAMPLES:
        return False
    if layers[0, INPUTS] * layers[0, OUTPUTS] < SMALLEST_WEIGHTS:
        return False
    count = 0
    for look in range(LOOKS):
        for value in x[x.shape[0] * look // LOOKS]:
            count += int(value != 0)
    return count <= MOST_NONZERO * LOOKS * x.shape[1]


@jit
def set_sparse(table, in_x, in_h, by_columns):
    """Set which layers pass over zeros: the first if `in_x`, if `in_h` those that go by columns."""
    for layer in range(table.shape[0]):
        is_hidden = layer > 0 and layer < min(by_columns, table.shape[0] - 1)
        table[layer, SPARSE] = SKIPS if (in_x if layer == 0 else in_h and is_hidden) else 0


@jit
def parts_of_words(epoch):
    """How many tasks share the words of 64 samples."""
    blocks, words = count_words(epoch.rows), count_words(layer_field(epoch, epoch.layer, INPUTS))
    return min(words, (TASKS_TO_FIND * epoch.num_threads + blocks - 1) // blocks)


@jit
def count_find_tasks(epoch):
    return count_words(epoch.rows) * parts_of_words(epoch)


@jit
def find_task(zero, epoch, number, workspace):
    """Find what is not zero in some columns of the present layer's x, 64 samples of the batch."""
    layer, parts, block = epoch.layer, parts_of_words(epoch), number // parts_of_words(epoch)
    words = share(count_words(layer_field(epoch, layer, INPUTS)), number % parts, parts)
    row = block * WORD
    place = layer_field(epoch, layer, COLUMN_WORDS) + block * WORD_BYTES
    rows = min(WORD, epoch.rows - row)
    find(
        zero, epoch, layer, epoch.first + row, row, rows, words, place, epoch.words_each, workspace
    )  # fmt: skip


@jit
def find(zero, epoch, layer, sample, row, rows, words, column_words, stride, workspace):
    """Set words of up to 64 samples, which have the rows from `row` on in the buffers.

    Shuffled samples are gathered first, as far as these words go.
    """
    inputs = layer_field(epoch, layer, INPUTS)
    if epoch.order and layer == 0:
        gather(epoch, sample, row, rows, words.start * WORD, min(inputs, words.stop * WORD))
    x, x_row = layer_input(epoch, layer, sample, row)
    row_words = row_words_at(epoch, layer, row)
    find_rows(zero, x, x_row, epoch.itemsize, rows, inputs, words, row_words)
    square = scratch_of(epoch, workspace)
    find_columns(rows, inputs, words, row_words, column_words, stride, square)


@jit
def row_words_at(epoch, layer, row):
    """The address of the words of a row of the layer's x."""
    words = row * count_words(layer_field(epoch, layer, INPUTS))
    return layer_field(epoch, layer, ROW_WORDS) + words * WORD_BYTES


@jit
def count_sparse_tasks(epoch):
    """How many tasks the forward pass of the present layer is."""
    return layer_field(epoch, epoch.layer, PANELS) * count_words(epoch.rows)


@jit
def sparse_forward_task(zero, epoch, number, workspace):
    """relu(x @ W + b) of the present layer, for a panel of columns and up to 64 samples."""
    layer, chunks = epoch.layer, count_words(epoch.rows)
    panels = column_panels(epoch, layer, workspace)
    mine = share(epoch.rows, number % chunks, chunks)
    sample, rows, ahead = epoch.first + mine.start, mine.stop - mine.start, 0
    # Once for each thread, about: its cache is where they will be read.
    if layer == 0 and number // chunks % max(1, panels.shape[0] // epoch.num_threads) == 0:
        ahead = sample_offsets(epoch, sample, mine.start, rows, epoch.rows, workspace)
    panel = panels[number // chunks]
    sparse_forward(zero, epoch, layer, panel, sample, mine.start, rows, ahead, workspace)


@jit
def sample_offsets(epoch, sample, row, rows, distance, workspace):
    """For rows of the layer's x, how far away in memory the samples lie that come `distance` later.

    The address of these numbers, in bytes, or 0 where none come. Distance 0 tells where x itself
    lies. Fetching later samples while the first layer is computed took 5 to 7% less of an epoch of
    784-100-10, as finding what is not zero waits for memory otherwise.
    """
    if sample + distance >= epoch.samples:
        return 0
    place, (x, x_row) = scratch_of(epoch, workspace), layer_input(epoch, 0, sample, row)
    for i in range(rows):
        number = min(sample + distance + i, epoch.samples - 1)
        if epoch.order:
            number = load(np.int64(0), epoch.order, number)
        there, here = number * epoch.x_row, i * x_row
        store(epoch.x - x + (there - here) * epoch.itemsize, place, i)
    return place


@jit
def sparse_forward(zero, epoch, layer, panel, sample, row, rows, ahead, workspace):
    """relu(x @ W + b) for a panel and up to 64 samples, with the rows from `row` on."""
    inputs, itemsize = layer_field(epoch, layer, INPUTS), epoch.itemsize
    first, width = panel[0], panel[4]
    x, x_row = layer_input(epoch, layer, sample, row)
    W = columns_place(epoch, layer, first, 0, width)
    bias = W + inputs * width * itemsize if layer_field(epoch, layer, BIAS) else 0
    total = scratch_of(epoch, workspace) + WORD * WORD_BYTES
    slots = total + rows * width * itemsize
    it = sparse_rows(
        epoch, rows, count_words(inputs), x_row, bias, width, total, slots, ahead, 0, 0
    )  # fmt: skip
    fetch_rows(epoch, layer, H, row, rows, panel)
    multiply(zero, it, inputs, row_words_at(epoch, layer, row), x, W)
    for i in range(rows):
        h = buffer_row(epoch, layer, H, row + i) + first * itemsize
        store_relu(zero, it.total + i * width * itemsize, h, width)


@jit
def fetch_rows(epoch, layer, field, row, rows, panel):
    """Bring a panel's columns of H or GRAD near, which will be written: stores would wait."""
    for i in range(row, row + rows):
        place = buffer_row(epoch, layer, field, i) + panel[0] * epoch.itemsize
        for line in range(0, panel[1] * epoch.itemsize, LINE):
            fetch_to_write(place + line)


@jit
def store_relu(zero, source, target, size):
    """relu of a row, from one address to another: whole vectors, so of its padding, too."""
    values, h = array_at(zero, source, size), array_at(zero, target, size)
    for j in range(size):
        h[j] = values[j] if values[j] > zero else zero


@jit
def sparse_rows(epoch, rows, words, a_row, bias, width, total, slots, ahead, finds, sources):
    """The product of `rows` samples, of so many words, with a panel; C is at `total`."""
    return Sparse(
        rows, 0, words, a_row, 1, width, bias, width, lanes_of(epoch.itemsize), epoch.itemsize,
        total, slots, rows * width, 0, 0, epoch.fails, epoch.sparse_kernel, ahead,
        finds, sources, int(epoch.order != 0),
    )  # fmt: skip


@jit
def sparse_backward(zero, epoch, layer, row, rows, workspace):
    """(grad @ W^T) * (x > 0 ? 1 : 0) of a hidden layer, for samples with the rows from `row` on."""
    outputs, words = layer_field(epoch, layer, OUTPUTS), scratch_of(epoch, workspace)
    count = count_words(outputs)
    total = words + WORD * count * WORD_BYTES
    grad_row = layer_field(epoch, layer, ROW)
    for first in range(row, row + rows, WORD):
        chunk = min(WORD, row + rows - first)
        grad = buffer_row(epoch, layer, GRAD, first)
        find_rows(zero, grad, grad_row, epoch.itemsize, chunk, outputs, slice(0, count), words)
        for panel in row_panels(epoch, layer, workspace):
            W = layer_field(epoch, layer, PACKED_TRANSPOSE) + panel[0] * outputs * epoch.itemsize
            slots = total + chunk * panel[4] * epoch.itemsize
            it = sparse_rows(epoch, chunk, count, grad_row, 0, panel[4], total, slots, 0, 0, 0)
            fetch_rows(epoch, layer - 1, GRAD, first, chunk, panel)
            multiply(zero, it, outputs, words, grad, W)
            gate_rows(zero, epoch, layer - 1, panel, first, it)


@jit
def gate_rows(zero, epoch, layer, panel, row, it):
    """The gradient of a layer's outputs, for a panel of them: C, times 1 where they are above 0."""
    first, columns, width = panel[0] * epoch.itemsize, panel[1], panel[4]
    values = array_at(zero, it.total, it.rows * width)
    one = values.dtype.type(1)
    for i in range(it.rows):
        h = array_at(zero, buffer_row(epoch, layer, H, row + i) + first, columns)
        grad = array_at(zero, buffer_row(epoch, layer, GRAD, row + i) + first, columns)
        for j in range(columns):
            grad[j] = values[i * width + j] * (one if h[j] > zero else zero)


@jit
def sparse_scratch_size(epoch):
    """The elements of scratch that finding, the forward pass and the backward pass need."""
    size, itemsize = WORD * WORD_BYTES, epoch.itemsize
    for layer in range(epoch.by_columns):
        if not is_sparse(epoch, layer):
            continue
        inputs, outputs = layer_field(epoch, layer, INPUTS), layer_field(epoch, layer, OUTPUTS)
        leaves = count_leaves(inputs, layer_field(epoch, layer, BIAS))
        panels, numbers = layer_field(epoch, layer, PANELS), WORD * WORD_BYTES // itemsize
        size = max(size, numbers + chunk_size(leaves, outputs, panels, itemsize))
        words = count_words(outputs) * numbers
        leaves, panels = count_leaves(outputs, 0), layer_field(epoch, layer, ROW_PANELS)
        size = max(size, words + chunk_size(leaves, inputs, panels, itemsize))
    return size


@jit
def chunk_size(leaves, columns, panels, itemsize):
    """The elements of C for up to 64 samples and one of `panels`, with the slots of so many leaves.

    A panel is as wide as the others, or one vector wider.
    """
    width = (columns + panels - 1) // panels + 2 * lanes_of(itemsize)
    return (1 + count_levels(leaves)) * ROWS_EACH * width


@jit
def sparse_gradient(zero, epoch, block, words, total, slots, rate):
    """x^T @ grad for a block of W, and 1^T @ grad below it, to the address `total`.

    With the address of a rate, for a batch of one leaf, W falls by rate * gradient instead.
    """
    layer = block.layer
    x, x_row = layer_input(epoch, layer, epoch.first, 0)
    grad = buffer_row(epoch, layer, GRAD, 0) + block.column * epoch.itemsize
    it = Sparse(
        block.stop - block.first, epoch.one if has_bias(epoch, block) else 0,
        epoch.words_each, 1, x_row, layer_field(epoch, layer, ROW), 0,
        block.stride, lanes_of(epoch.itemsize), epoch.itemsize,
        total, slots, count_rows(epoch, block) * block.stride,
        block_places(epoch, block)[0], rate, epoch.fails, epoch.sparse_kernel, 0, 0, 0, 0,
    )  # fmt: skip
    multiply(zero, it, epoch.rows, words, x + block.first * epoch.itemsize, grad)


@jit
def block_columns(epoch, block):
    """The address of the column words of a block's rows, which a stage has found."""
    words = block.first * epoch.words_each * WORD_BYTES
    return layer_field(epoch, block.layer, COLUMN_WORDS) + words


# Batches of many leaves, in which only the first layer passes over zeros.


@jit
def leaf_columns(epoch, thread):
    """The address of the column words of one thread's leaf."""
    each = (layer_field(epoch, 0, INPUTS) + 1) * LEAF_WORDS
    return layer_field(epoch, 0, COLUMN_WORDS) + thread * each * WORD_BYTES


@jit
def sparse_leaf_forward(zero, epoch, sample, row, rows, thread, workspace):
    """Find what is not zero in a leaf of samples, and compute the layer for it."""
    words = slice(0, count_words(layer_field(epoch, 0, INPUTS)))
    for first in range(0, rows, WORD):
        count = min(WORD, rows - first)
        place = leaf_columns(epoch, thread) + first // WORD * WORD_BYTES
        find(
            zero, epoch, 0, sample + first, row + first, count, words, place, LEAF_WORDS, workspace
        )  # fmt: skip
        ahead = sample_offsets(epoch, sample + first, row + first, count, LEAF, workspace)
        for panel in column_panels(epoch, 0, workspace):
            sparse_forward(
                zero, epoch, 0, panel, sample + first, row + first, count, ahead, workspace
            )  # fmt: skip
            ahead = 0


@jit
def sparse_leaf_gradient(zero, epoch, leaf, first, stop, row, thread, target, slots, workspace):
    """Add one leaf of samples to the gradient of a run of leaves: see leaf_gradients."""
    inputs, outputs = layer_field(epoch, 0, INPUTS), layer_field(epoch, 0, OUTPUTS)
    lanes, itemsize = lanes_of(epoch.itemsize), epoch.itemsize
    x, x_row = layer_input(epoch, 0, epoch.first + leaf * LEAF, row)
    one = epoch.one if layer_field(epoch, 0, BIAS) else 0
    count = count_words(min(LEAF, epoch.rows - leaf * LEAF))
    for panel in column_panels(epoch, 0, workspace):
        start = panel[0] * (inputs + 1) * itemsize
        it = Sparse(
            inputs, one, LEAF_WORDS, 1, x_row, layer_field(epoch, 0, ROW), 0,
            panel[4], lanes, itemsize,
            target + start, slots + start, columns_size(inputs, outputs, lanes),
            0, 0, epoch.fails, epoch.sparse_kernel, 0, 0, 0, 0,
        )  # fmt: skip
        grad = buffer_row(epoch, 0, GRAD, row) + panel[0] * itemsize
        words = leaf_columns(epoch, thread)
        add_leaf(zero, it, leaf - first, leaf == stop - 1, count, words, x, grad)

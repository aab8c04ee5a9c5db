"""The first layer in training, where half of the inputs or more are zero: images, one-hot features.

Its two products, h = x @ W + b and grad_W = x^T @ grad, pass over the zeros of x (sparse.py). That
leaves their bits as they are, or changes the sign of a zero, and no bit behind it, as long as

- W and grad are finite;
- the layer ends in a relu, which makes +0 of both zeros;
- no element of W is -0, the only one for which W - (+0) isn't W - (-0). An update makes none.

Where a task finds that one of these fails, the epoch ends before the step that it would matter for,
and `train` in epoch.py multiplies the rest of it whole.
"""

import numpy as np

from fastmlp_kernels.blocking import LEAF, VECTOR_BITS, count_leaves, lanes_of
from fastmlp_kernels.columns import SMALLEST_WEIGHTS, column_panels, columns_place, columns_size
from fastmlp_kernels.forward_backward import (
    BIAS,
    GRAD,
    INPUTS,
    OUTPUTS,
    PANELS,
    ROW,
    H,
    buffer_row,
    layer_field,
    layer_input,
    scratch_of,
)
from fastmlp_kernels.jit import jit, share
from fastmlp_kernels.memory import array_at, copy, load, store
from fastmlp_kernels.nonzeros import WORD, WORD_BYTES, count_words, find_columns, find_rows
from fastmlp_kernels.sparse import ROWS_EACH, Sparse, add_leaf, count_slots, multiply
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
def parts_of_words(epoch):
    """How many tasks share the words of 64 samples."""
    blocks, words = count_words(epoch.rows), count_words(layer_field(epoch, 0, INPUTS))
    return min(words, (TASKS_TO_FIND * epoch.num_threads + blocks - 1) // blocks)


@jit
def count_find_tasks(epoch):
    return count_words(epoch.rows) * parts_of_words(epoch)


@jit
def find_task(zero, epoch, number, workspace):
    """Find what is not zero in some columns of 64 samples of the batch."""
    parts, block = parts_of_words(epoch), number // parts_of_words(epoch)
    words = share(count_words(layer_field(epoch, 0, INPUTS)), number % parts, parts)
    row = block * WORD
    place, stride = epoch.column_words + block * WORD_BYTES, epoch.words_each
    rows = min(WORD, epoch.rows - row)
    find(zero, epoch, epoch.first + row, row, rows, words, place, stride, workspace)


@jit
def find(zero, epoch, sample, row, rows, words, column_words, stride, workspace):
    """Set words of up to 64 samples, which have the rows from `row` on in the buffers.

    Shuffled samples are gathered first, as far as these words go.
    """
    inputs = layer_field(epoch, 0, INPUTS)
    if epoch.order:
        gather_columns(epoch, sample, row, rows, words.start * WORD, min(inputs, words.stop * WORD))
    x, x_row = layer_input(epoch, 0, sample, row)
    row_words = epoch.row_words + row * count_words(inputs) * WORD_BYTES
    find_rows(zero, x, x_row, epoch.itemsize, rows, inputs, words, row_words)
    square = array_at(np.uint64(0), scratch_of(epoch, workspace), WORD)
    find_columns(rows, inputs, words, row_words, column_words, stride, square)


@jit
def gather_columns(epoch, sample, row, rows, first, stop):
    """Copy columns first .. stop of x for the samples from number `sample` of the order on."""
    size, start = (stop - first) * epoch.itemsize, first * epoch.itemsize
    for i in range(rows):
        source = load(np.int64(0), epoch.order, sample + i) * epoch.x_row * epoch.itemsize
        target = (row + i) * epoch.gathered_row * epoch.itemsize
        copy(epoch.gathered + target + start, epoch.x + source + start, size)


@jit
def count_sparse_tasks(epoch):
    """How many tasks the forward pass of the layer is."""
    return layer_field(epoch, 0, PANELS) * count_words(epoch.rows)


@jit
def sparse_forward_task(zero, epoch, number, workspace):
    """relu(x @ W + b) for a panel of columns and a chunk of up to 64 samples of the batch."""
    chunks = count_words(epoch.rows)
    panel = column_panels(epoch, 0, workspace)[number // chunks]
    mine = share(epoch.rows, number % chunks, chunks)
    sample, rows = epoch.first + mine.start, mine.stop - mine.start
    sparse_forward(zero, epoch, panel, sample, mine.start, rows, workspace)


@jit
def sparse_forward(zero, epoch, panel, sample, row, rows, workspace):
    """relu(x @ W + b) for a panel and up to 64 samples, with the rows from `row` on."""
    inputs, itemsize = layer_field(epoch, 0, INPUTS), epoch.itemsize
    first, columns, width = panel[0], panel[1], panel[4]
    x, x_row = layer_input(epoch, 0, sample, row)
    W = columns_place(epoch, 0, first, 0, width)
    bias = W + inputs * width * itemsize if layer_field(epoch, 0, BIAS) else 0
    words, size, total = count_words(inputs), rows * width, scratch_of(epoch, workspace)
    it = Sparse(
        rows, 0, words, x_row, 1, width, bias, width, lanes_of(itemsize), itemsize,
        total, total + size * itemsize, size, 0, 0, epoch.fails, epoch.sparse_kernel,
    )  # fmt: skip
    multiply(zero, it, inputs, epoch.row_words + row * words * WORD_BYTES, x, W)
    for i in range(rows):
        place = buffer_row(epoch, 0, H, row + i) + first * itemsize
        h, values = array_at(zero, place, columns), array_at(zero, total, size)
        for j in range(columns):
            value = values[i * width + j]
            h[j] = value if value > zero else zero


@jit
def sparse_scratch_size(epoch):
    """The elements of scratch that `find` and sparse_forward need."""
    inputs, outputs = layer_field(epoch, 0, INPUTS), layer_field(epoch, 0, OUTPUTS)
    slots = 1 + count_slots(count_leaves(inputs, layer_field(epoch, 0, BIAS)))
    # A panel is as wide as the others, or one vector wider.
    lanes, panels = lanes_of(epoch.itemsize), layer_field(epoch, 0, PANELS)
    width = (outputs + panels - 1) // panels + 2 * lanes
    return max(WORD * WORD_BYTES, slots * ROWS_EACH * width)


@jit
def sparse_gradient(zero, epoch, block, total, slots, rate):
    """x^T @ grad for a block of W, and 1^T @ grad below it, to the address `total`.

    With the address of a rate, for a batch of one leaf, W falls by rate * gradient instead.
    """
    x, x_row = layer_input(epoch, 0, epoch.first, 0)
    grad = buffer_row(epoch, 0, GRAD, 0) + block.column * epoch.itemsize
    it = Sparse(
        block.stop - block.first, epoch.one if has_bias(epoch, block) else 0,
        epoch.words_each, 1, x_row, layer_field(epoch, 0, ROW), 0,
        block.stride, lanes_of(epoch.itemsize), epoch.itemsize,
        total, slots, count_rows(epoch, block) * block.stride,
        block_places(epoch, block)[0], rate, epoch.fails, epoch.sparse_kernel,
    )  # fmt: skip
    words = epoch.column_words + block.first * epoch.words_each * WORD_BYTES
    multiply(zero, it, epoch.rows, words, x + block.first * epoch.itemsize, grad)


@jit
def leaf_columns(epoch, thread):
    """The address of the column words of one thread's leaf."""
    each = (layer_field(epoch, 0, INPUTS) + 1) * LEAF_WORDS
    return epoch.column_words + thread * each * WORD_BYTES


@jit
def sparse_leaf_forward(zero, epoch, sample, row, rows, thread, workspace):
    """Find what is not zero in a leaf of samples, and compute the layer for it."""
    words = slice(0, count_words(layer_field(epoch, 0, INPUTS)))
    for first in range(0, rows, WORD):
        count = min(WORD, rows - first)
        place = leaf_columns(epoch, thread) + first // WORD * WORD_BYTES
        find(
            zero, epoch, sample + first, row + first, count, words, place, LEAF_WORDS, workspace
        )  # fmt: skip
        for panel in column_panels(epoch, 0, workspace):
            sparse_forward(zero, epoch, panel, sample + first, row + first, count, workspace)


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
            0, 0, epoch.fails, epoch.sparse_kernel,
        )  # fmt: skip
        grad = buffer_row(epoch, 0, GRAD, row) + panel[0] * itemsize
        words = leaf_columns(epoch, thread)
        add_leaf(zero, it, leaf - first, leaf == stop - 1, count, words, x, grad)


@jit
def watch_gradient(zero, epoch, row, rows):
    """Say so where a row of the layer's gradient is not finite."""
    stride = layer_field(epoch, 0, ROW)
    watch(epoch, array_at(zero, buffer_row(epoch, 0, GRAD, row), rows * stride))


@jit
def watch_weights(zero, epoch, block):
    """Say so where a block of W is not finite."""
    place = block_places(epoch, block)[0]
    watch(epoch, array_at(zero, place, count_rows(epoch, block) * block.stride))


@jit
def is_finite(value):
    """Whether it is; loading what Numba has for that, np.isfinite or np.finfo, takes 0.2 s."""
    return value - value == 0


@jit
def watch(epoch, values):
    others = False
    for i in range(values.size):
        others |= not is_finite(values[i])
    if others:
        store(np.int64(1), epoch.fails, 0)


@jit
def watch_signs(zero, epoch, block):
    """Say so where a block of W has a -0."""
    place = block_places(epoch, block)[0]
    W, negative = array_at(zero, place, count_rows(epoch, block) * block.stride), False
    for i in range(W.size):
        negative |= W[i] == 0 and 1 / W[i] < 0
    if negative:
        store(np.int64(1), epoch.fails, 0)


@jit
def has_failed(epoch):
    return load(np.int64(0), epoch.fails, 0) != 0

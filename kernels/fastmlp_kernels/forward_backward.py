"""The first half of a training step, for a block of samples: forward, loss, backward.

    h = relu(h @ W + b) for each layer but the last, logits = h @ W + b
    grad = scale * (softmax(logits) - one_hot(label)), scale = 1 / samples of the batch
    grad = (grad @ W^T) * (h > 0 ? 1 : 0) for each layer down to the second

Every sample is on its own here, so blocks need no order and no thread waits for another. The
weights, and their gradients, which sum over samples, are the second half: weight_update.py.
"""

from collections import namedtuple

import numpy as np

from fastmlp_kernels.blocking import LEAF, lanes_of
from fastmlp_kernels.jit import jit
from fastmlp_kernels.log_softmax import loss_gradient
from fastmlp_kernels.memory import array_at, copy, load
from fastmlp_kernels.packing import panels_at
from fastmlp_kernels.product import partials_size, run_task, serial_product

# All that a thread has to know of an epoch. Addresses (0: none), strides in elements, sizes.
Epoch = namedtuple(
    "Epoch",
    "samples batch_size steps"
    " x x_row order labels"  # samples, the order in which they come (0: as they lie), their labels
    " layers count"  # the table of the layers: FIELDS numbers each
    " parameters states size"  # all weights, the optimizer's state behind each other, their number
    " optimizer arrays"  # which, and how many arrays it has: W and its states
    " constants rates"  # float64, of each step; sgd's rates where they are all of an update, or 0
    " losses hits"  # of each sample in its order; how many were right, for each thread
    " gathered gathered_row"  # room for the rows of x in their order
    " sparse row_words column_words words_each fails"  # of the first layer: sparse_layer.py
    " workspace workspace_bytes panels_bytes"  # each thread's memory: a list of panels, scratch
    " parts part_size one"  # gradients of runs of leaves, the elements of each; a 1
    " team task tile sparse_kernel itemsize num_threads"  # see team.py; a task; the micro-kernels
    " blocks blocks_count"  # of the weights: weight_blocks.py
    " by_columns"  # so many of the first layers go by columns: columns.py
    " stage layer step first rows leaves_each",  # now: first sample, samples, leaves of a task or 0
)
EPOCH_FIELDS = len(Epoch._fields)

# A row of the table of layers: what the caller gives, then the addresses of its outputs and of
# their gradients with the elements from row to row, of packed copies of W and of W^T, and of W in
# panels of columns (0: none), and in how many blocks of columns W is updated: its panels, or 1.
INPUTS, OUTPUTS, BIAS, START, H, GRAD, ROW, PACKED, PACKED_TRANSPOSE, COLUMNS, PANELS = range(11)
FIELDS = 11

HITS_APART = 8  # int64 from one thread's count to the next: a cache line


@jit
def layer_field(epoch, layer, field):
    return load(np.int64(0), epoch.layers, FIELDS * layer + field)


@jit
def layer_weights(epoch, layer):
    """The address of W."""
    return epoch.parameters + layer_field(epoch, layer, START) * epoch.itemsize


@jit
def buffer_row(epoch, layer, field, row):
    """The address of a row of a layer's outputs (field H) or of their gradients (GRAD)."""
    place = row * layer_field(epoch, layer, ROW)
    return layer_field(epoch, layer, field) + place * epoch.itemsize


@jit
def layer_input(epoch, layer, sample, row):
    """The address of a layer's input and its row stride; `row` is the sample's in the buffers."""
    if layer > 0:
        return buffer_row(epoch, layer - 1, H, row), layer_field(epoch, layer - 1, ROW)
    if epoch.order:
        return epoch.gathered + row * epoch.gathered_row * epoch.itemsize, epoch.gathered_row
    return epoch.x + sample * epoch.x_row * epoch.itemsize, epoch.x_row


@jit
def describe_forward(epoch, layer, sample, row, rows):
    """h @ W + b for samples from `sample` on, which have the rows from `row` on in the buffers."""
    inputs, outputs = layer_field(epoch, layer, INPUTS), layer_field(epoch, layer, OUTPUTS)
    h, h_row = layer_input(epoch, layer, sample, row)
    W = layer_weights(epoch, layer)
    bias = W + inputs * outputs * epoch.itemsize if layer_field(epoch, layer, BIAS) else 0
    return serial_product(
        h, h_row, 1, rows, 0, W, outputs, layer_field(epoch, layer, PACKED),
        buffer_row(epoch, layer, H, row), layer_field(epoch, layer, ROW),
        bias, int(layer < epoch.count - 1), 0, 0, 0, inputs, outputs, epoch.itemsize, epoch.tile,
    )  # fmt: skip


@jit
def describe_backward(epoch, layer, row, rows):
    """grad @ W^T for a layer above the first, gated by its input, the output of a relu."""
    inputs, outputs = layer_field(epoch, layer, INPUTS), layer_field(epoch, layer, OUTPUTS)
    below = layer - 1
    return serial_product(
        buffer_row(epoch, layer, GRAD, row), layer_field(epoch, layer, ROW), 1, rows, 0,
        0, 0, layer_field(epoch, layer, PACKED_TRANSPOSE),
        buffer_row(epoch, below, GRAD, row), layer_field(epoch, below, ROW),
        0, 0, buffer_row(epoch, below, H, row), layer_field(epoch, below, ROW), 0,
        outputs, inputs, epoch.itemsize, epoch.tile,
    )  # fmt: skip


@jit
def run_product(zero, epoch, it, workspace, scratch):
    """Compute one product, its panels in the thread's workspace, its partial tiles in scratch."""
    # The panels of a packed B are the same however few the rows are.
    rows = LEAF if it.b_leaf > 0 else it.rows
    run_task(zero, it, panels_at(workspace, rows, it.columns, it.lanes), 0, scratch, scratch)


@jit
def scratch_of(epoch, workspace):
    return workspace + epoch.panels_bytes


@jit
def scratch_size(epoch, rows):
    """The elements that forward_backward needs for so many rows."""
    size = 2 * rows
    for layer in range(epoch.count):
        size = max(size, partials_size(describe_forward(epoch, layer, 0, 0, rows)))
        if layer > 0:
            size = max(size, partials_size(describe_backward(epoch, layer, 0, rows)))
    return size + lanes_of(epoch.itemsize)


@jit
def gather(epoch, sample, row, rows):
    """Copy the rows of x for the samples from number `sample` of the order on."""
    size, stride = layer_field(epoch, 0, INPUTS) * epoch.itemsize, epoch.itemsize
    for i in range(rows):
        source = load(np.int64(0), epoch.order, sample + i) * epoch.x_row * stride
        copy(epoch.gathered + (row + i) * epoch.gathered_row * stride, epoch.x + source, size)


@jit
def forward_backward(zero, epoch, sample, row, rows, thread, workspace):
    """Samples sample .. sample + rows, in the buffers from `row` on.

    Layers that go by columns have done their forward pass.
    """
    if epoch.order and not epoch.by_columns:
        gather(epoch, sample, row, rows)
    for layer in range(epoch.by_columns, epoch.count):
        it = describe_forward(epoch, layer, sample, row, rows)
        run_product(zero, epoch, it, workspace, scratch_of(epoch, workspace))
    last = epoch.count - 1
    stride = layer_field(epoch, last, ROW)
    losses = array_at(zero, epoch.losses + sample * epoch.itemsize, rows)
    hits = loss_gradient(
        array_at(zero, buffer_row(epoch, last, H, row), rows * stride),
        stride,
        layer_field(epoch, last, OUTPUTS),
        array_at(np.int64(0), epoch.labels + sample * 8, rows),
        losses.dtype.type(1 / epoch.rows),
        losses,
        array_at(zero, buffer_row(epoch, last, GRAD, row), rows * stride),
        array_at(zero, scratch_of(epoch, workspace), 2 * rows),
    )
    array_at(np.int64(0), epoch.hits, epoch.num_threads * HITS_APART)[thread * HITS_APART] += hits
    for layer in range(last, 0, -1):
        it = describe_backward(epoch, layer, row, rows)
        run_product(zero, epoch, it, workspace, scratch_of(epoch, workspace))

"""The first half of a training step, for a block of samples: forward, loss, backward.

    h = relu(h @ W + b) for each layer but the last, logits = h @ W + b
    grad = scale * (softmax(logits) - one_hot(label)), scale = 1 / samples of the batch
    grad = (grad @ W^T) * (h > 0 ? 1 : 0) for each layer down to the second

Every sample is on its own here, so blocks need no order and no thread waits for another. The
weights, and their gradients, which sum over samples, are the second half: weight_update.py.
"""

import numpy as np

from fastmlp_kernels.blocking import lanes_of
from fastmlp_kernels.epoch_table import (
    BIAS,
    GRAD,
    HITS_APART,
    INPUTS,
    OUTPUTS,
    PACKED,
    PACKED_TRANSPOSE,
    ROW,
    H,
    buffer_row,
    gather,
    is_sparse,
    layer_field,
    layer_input,
    layer_weights,
    row_panels,
    run_product,
    scratch_of,
)
from fastmlp_kernels.jit import jit
from fastmlp_kernels.log_softmax import loss_gradient
from fastmlp_kernels.memory import array_at
from fastmlp_kernels.product import partials_size, run_task, serial_product
from fastmlp_kernels.sparse_layer import sparse_backward


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
def scratch_size(epoch, rows):
    """The elements that forward_backward needs for so many rows."""
    size = 2 * rows
    for layer in range(epoch.count):
        size = max(size, partials_size(describe_forward(epoch, layer, 0, 0, rows)))
        if layer > 0:
            size = max(size, partials_size(describe_backward(epoch, layer, 0, rows)))
    return size + lanes_of(epoch.itemsize)


@jit
def forward_backward(zero, epoch, sample, row, rows, thread, workspace):
    """Samples sample .. sample + rows, in the buffers from `row` on.

    Layers that go by columns have done their forward pass.
    """
    if epoch.order and not epoch.by_columns:
        gather(epoch, sample, row, rows, 0, layer_field(epoch, 0, INPUTS))
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
        if is_sparse(epoch, layer):
            sparse_backward(zero, epoch, layer, row, rows, workspace)
        else:
            it, scratch = describe_backward(epoch, layer, row, rows), scratch_of(epoch, workspace)
            run_task(zero, it, row_panels(epoch, layer, workspace), 0, scratch, scratch)

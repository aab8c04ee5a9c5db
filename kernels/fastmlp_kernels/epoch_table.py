"""What the threads of an epoch share: its numbers, the table of its layers, where arrays lie."""

from collections import namedtuple

import numpy as np

from fastmlp_kernels.blocking import LEAF, lanes_of
from fastmlp_kernels.jit import jit
from fastmlp_kernels.memory import copy, load
from fastmlp_kernels.packing import panels_at, some_panels_at
from fastmlp_kernels.product import run_task

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
    " sparse words_each fails"  # of layers whose inputs are zero for the most part: sparse_layer.py
    " workspace workspace_bytes panels_bytes"  # each thread's memory: a list of panels, scratch
    " parts part_size one"  # gradients of runs of leaves, the elements of each; a 1
    " team task tile sparse_kernel itemsize num_threads"  # see team.py; a task; the micro-kernels
    " blocks blocks_count block_ends"  # of the weights, and where each thread's end
    " group_order group_ends"  # of the first layer's inputs, and how many groups threads have
    " by_columns"  # so many of the first layers go by columns: columns.py
    " stage layer step first rows leaves_each",  # now: first sample, samples, leaves of a task or 0
)
EPOCH_FIELDS = len(Epoch._fields)

# A row of the table of layers: what the caller gives, then the addresses of its outputs and of
# their gradients with the elements from row to row, of packed copies of W and of W^T, and of W in
# panels of columns (0: none); in how many blocks of columns W is updated, its panels or 1, and in
# how many of rows, the panels of W^T; whether its products pass over the zeros of its input (SKIPS,
# or BY_LEAVES where the leaves of its inputs are tasks, see input_leaves.py), and the words that
# tell which these are, by rows and by columns; and the sums of these leaves, in groups.
INPUTS, OUTPUTS, BIAS, START, H, GRAD, ROW, PACKED, PACKED_TRANSPOSE, COLUMNS = range(10)
PANELS, ROW_PANELS, SPARSE, ROW_WORDS, COLUMN_WORDS, SUMS = range(10, 16)
FIELDS = 16
SKIPS, BY_LEAVES = 1, 2

HITS_APART = 8  # int64 from one thread's count to the next: a cache line


@jit
def layer_field(epoch, layer, field):
    return load(np.int64(0), epoch.layers, FIELDS * layer + field)


@jit
def is_sparse(epoch, layer):
    """Whether the layer's products pass over the zeros of its input."""
    return layer_field(epoch, layer, SPARSE) != 0


@jit
def goes_by_leaves(epoch, layer):
    """Whether the leaves of the layer's inputs are tasks."""
    return layer_field(epoch, layer, SPARSE) == BY_LEAVES


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
def column_panels(epoch, layer, place):
    """The panels of W's columns, in memory at the address `place`, 40 bytes each."""
    count, outputs = layer_field(epoch, layer, PANELS), layer_field(epoch, layer, OUTPUTS)
    return some_panels_at(place, count, outputs, lanes_of(epoch.itemsize))


@jit
def row_panels(epoch, layer, place):
    """The panels of W's rows, which W^T is packed in."""
    count, inputs = layer_field(epoch, layer, ROW_PANELS), layer_field(epoch, layer, INPUTS)
    return some_panels_at(place, count, inputs, lanes_of(epoch.itemsize))


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
def gather(epoch, sample, row, rows, first, stop):
    """Copy columns first .. stop of x for the samples from number `sample` of the order on."""
    size, start = (stop - first) * epoch.itemsize, first * epoch.itemsize
    for i in range(rows):
        source = load(np.int64(0), epoch.order, sample + i) * epoch.x_row * epoch.itemsize
        target = (row + i) * epoch.gathered_row * epoch.itemsize
        copy(epoch.gathered + target + start, epoch.x + source + start, size)

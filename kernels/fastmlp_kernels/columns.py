"""Layers whose columns belong to threads: for an epoch their W lies in panels of columns.

Where threads update rows of W and then read all of it, half of W and more crosses from core to core
in each step. The first layers, which are large, go by columns instead: the forward pass of a panel
for all samples of the batch, its gradient and its update are tasks of the same thread, and what
crosses is the far smaller h. That took 0.83 of an epoch's time for 784-512-256-10 with 32 samples,
and 0.6 of it while the host kept the two cores far apart.

The panel that starts at column `first` starts at element first * (inputs + 1), has row k at k *
width, and the bias as its last row. The optimizer's states lie behind in the same form.
"""

from fastmlp_kernels.blocking import LEAF, count_panels, panel_width
from fastmlp_kernels.epoch_table import (
    BIAS,
    COLUMNS,
    INPUTS,
    OUTPUTS,
    PANELS,
    ROW,
    H,
    buffer_row,
    column_panels,
    layer_field,
    layer_input,
    run_product,
    scratch_of,
)
from fastmlp_kernels.jit import jit
from fastmlp_kernels.product import serial_product

# Smaller layers cost less by their way than by a stage of their own; in a shorter epoch, moving W
# to the panels and back costs more than it gains; and a layer of fewer panels than threads would
# leave some without a task.
SMALLEST_WEIGHTS = 16384  # elements of W
FEWEST_STEPS = 8
FEWEST_PANELS = 2

SAMPLES_EACH = 48  # the samples of a task of the forward pass: whole tiles of 6, 8 and 12 rows


@jit
def count_by_columns(layers, steps, num_threads, lanes):
    """How many of the first layers go by columns in an epoch of so many steps."""
    count, fewest = 0, max(FEWEST_PANELS, num_threads)
    while (
        steps >= FEWEST_STEPS
        and count < layers.shape[0]
        and layers[count, INPUTS] * layers[count, OUTPUTS] >= SMALLEST_WEIGHTS
        and count_panels(LEAF, layers[count, OUTPUTS], lanes) >= fewest
    ):
        count += 1
    return count


@jit
def columns_size(inputs, outputs, lanes):
    """The elements of all panels of W, or of one of its states."""
    return (inputs + 1) * panel_width(outputs, lanes)


@jit
def columns_place(epoch, layer, first, row, width):
    """The address of row `row` of the panel that starts at column `first`."""
    place = first * (layer_field(epoch, layer, INPUTS) + 1) + row * width
    return layer_field(epoch, layer, COLUMNS) + place * epoch.itemsize


@jit
def count_chunks(epoch):
    return (epoch.rows + SAMPLES_EACH - 1) // SAMPLES_EACH


@jit
def count_forward_tasks(epoch):
    """How many tasks the forward pass of the present layer is."""
    return layer_field(epoch, epoch.layer, PANELS) * count_chunks(epoch)


@jit
def forward_task(zero, epoch, number, workspace):
    """relu(h @ W + b) of the present layer, for a panel of its columns and a chunk of samples."""
    layer, chunks = epoch.layer, count_chunks(epoch)
    inputs = layer_field(epoch, layer, INPUTS)
    panel = column_panels(epoch, layer, workspace)[number // chunks]
    first, columns, width = panel[0], panel[1], panel[4]
    row = number % chunks * SAMPLES_EACH
    h, h_row = layer_input(epoch, layer, epoch.first + row, row)
    W = columns_place(epoch, layer, first, 0, width)
    bias = W + inputs * width * epoch.itemsize if layer_field(epoch, layer, BIAS) else 0
    it = serial_product(
        h, h_row, 1, min(SAMPLES_EACH, epoch.rows - row), 0, 0, 0, W,
        buffer_row(epoch, layer, H, row) + first * epoch.itemsize, layer_field(epoch, layer, ROW),
        bias, int(layer < epoch.count - 1), 0, 0, 0, inputs, columns, epoch.itemsize, epoch.tile,
    )  # fmt: skip
    run_product(zero, epoch, it, workspace, scratch_of(epoch, workspace))

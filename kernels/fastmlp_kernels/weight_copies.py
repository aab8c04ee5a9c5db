"""Where products read weights: packed copies of W and W^T, and W itself in panels of columns.

They are made before the first step of an epoch and renewed with each update, block by block; after
the last step, what lies in panels goes back to the parameters.
"""

from fastmlp_kernels.blocking import LEAF, lanes_of, panel_width
from fastmlp_kernels.epoch_table import (
    INPUTS,
    OUTPUTS,
    PACKED,
    PACKED_TRANSPOSE,
    is_sparse,
    layer_field,
    row_panels,
)
from fastmlp_kernels.jit import jit
from fastmlp_kernels.memory import copy
from fastmlp_kernels.packing import pack_rows, panels_at
from fastmlp_kernels.weight_blocks import block_places, count_rows, given_places, read_block


@jit
def pack_task(zero, epoch, number, workspace):
    """Bring block `number` to where the epoch's products read it."""
    block = read_block(epoch, number)
    if block.layer < epoch.by_columns:
        move_columns(epoch, block, False)
    renew_copies(zero, epoch, block, workspace)


@jit
def unpack_task(epoch, number):
    """Bring block `number` back to the parameters, and its states to theirs."""
    block = read_block(epoch, number)
    if block.layer < epoch.by_columns:
        move_columns(epoch, block, True)


@jit
def move_columns(epoch, block, back):
    """Copy W and the optimizer's states to the panels, or back."""
    panels, given = block_places(epoch, block), given_places(epoch, block)
    row = layer_field(epoch, block.layer, OUTPUTS) * epoch.itemsize
    size, width = block.columns * epoch.itemsize, block.stride * epoch.itemsize
    for array in range(epoch.arrays):
        for i in range(count_rows(epoch, block)):
            if back:
                copy(given[array] + i * row, panels[array] + i * width, size)
            else:
                copy(panels[array] + i * width, given[array] + i * row, size)


@jit
def renew_copies(zero, epoch, block, workspace):
    """Renew what the packed copies of W and of W^T have of a block."""
    W = block_places(epoch, block)[0]
    if layer_field(epoch, block.layer, PACKED):
        pack_block(zero, epoch, block, W, workspace)
    if layer_field(epoch, block.layer, PACKED_TRANSPOSE):
        pack_transpose(zero, epoch, block, W, workspace)


@jit
def pack_block(zero, epoch, block, W, workspace):
    """Pack rows of W, which lie from the address W on, leaf by leaf."""
    lanes, itemsize = lanes_of(epoch.itemsize), epoch.itemsize
    outputs, place = block.columns, layer_field(epoch, block.layer, PACKED)
    panels = panels_at(workspace, LEAF, outputs, lanes)
    leaf_size = LEAF * panel_width(outputs, lanes) * itemsize
    row = block.first
    while row < block.stop:
        steps = min(block.stop, (row // LEAF + 1) * LEAF) - row
        pack_rows(
            zero, W + (row - block.first) * block.stride * itemsize, block.stride, 1,
            row % LEAF, steps, LEAF, panels, lanes, itemsize, place + row // LEAF * leaf_size,
        )  # fmt: skip
        row += steps


@jit
def pack_transpose(zero, epoch, block, W, workspace):
    """Pack the block of W^T, whose index k counts the columns of W.

    Leaf by leaf, but for a product that passes over zeros each panel whole.
    """
    layer, lanes, itemsize = block.layer, lanes_of(epoch.itemsize), epoch.itemsize
    inputs, depth = layer_field(epoch, layer, INPUTS), LEAF
    if is_sparse(epoch, layer):
        depth = layer_field(epoch, layer, OUTPUTS)
    place = layer_field(epoch, layer, PACKED_TRANSPOSE)
    panels = row_panels(epoch, layer, workspace)[block.first_panel : block.stop_panel]
    leaf_size = depth * panel_width(inputs, lanes) * itemsize
    W -= block.first * block.stride * itemsize  # the panels count from the first row on
    k, stop = block.column, block.column + block.columns
    while k < stop:
        steps = min(stop, (k // depth + 1) * depth) - k
        pack_rows(
            zero, W + (k - block.column) * itemsize, 1, block.stride,
            k % depth, steps, depth, panels, lanes, itemsize, place + k // depth * leaf_size,
        )  # fmt: skip
        k += steps

"""How the weights are cut into blocks, the tasks that update them: runs of rows of a layer's W.

A layer that goes by columns (columns.py) has such runs for each of its panels; one that goes by
leaves of its inputs (input_leaves.py) has words of them. The blocks come in the order of the
threads, each with its share of every layer: from step to step a thread has the same panels, or the
rows of its leaves.
"""

from collections import namedtuple

import numpy as np

from fastmlp_kernels.blocking import LEAF, TASKS_PER_THREAD, lanes_of, panel_width
from fastmlp_kernels.columns import columns_place, columns_size
from fastmlp_kernels.epoch_table import (
    BIAS,
    BY_LEAVES,
    INPUTS,
    OUTPUTS,
    PANELS,
    ROW_PANELS,
    SPARSE,
    START,
    layer_field,
)
from fastmlp_kernels.jit import jit, share
from fastmlp_kernels.memory import fields_at
from fastmlp_kernels.nonzeros import WORD, count_words
from fastmlp_kernels.packing import some_panels

# Rows first .. stop, which are the panels first_panel .. stop_panel of W^T; columns from `column`
# on, which lie in memory `stride` elements from row to row.
Block = namedtuple("Block", "layer first_panel stop_panel first stop column columns stride")
BLOCK_FIELDS = len(Block._fields)

# The bytes of the largest gradient of a block, which shall stay in the level-2 cache: 256 rows of a
# dense panel. Half of that took 5% longer for 784-512-256-10 with 32 samples.
MOST_BYTES = 65536


@jit
def count_runs_of_rows(table, layer, num_threads, itemsize):
    """In how many runs the rows of a layer are cut: each thread shall have a few blocks."""
    inner, outer = table[layer, ROW_PANELS], table[layer, PANELS]
    rows = (table[layer, INPUTS] + inner - 1) // inner
    panel_bytes = rows * ((table[layer, OUTPUTS] + outer - 1) // outer) * itemsize
    most = min(MOST_BYTES // panel_bytes, inner * outer // (TASKS_PER_THREAD * num_threads))
    each = max(1, most)
    return (inner + each - 1) // each


@jit
def count_blocks(table, num_threads, itemsize):
    """How many blocks all layers have."""
    count = 0
    for layer in range(table.shape[0]):
        if table[layer, SPARSE] == BY_LEAVES:
            count += count_words(table[layer, INPUTS])
            continue
        runs = count_runs_of_rows(table, layer, num_threads, itemsize)
        count += runs * table[layer, PANELS]
    return count


@jit
def set_blocks(blocks, ends, table, by_columns, group_order, group_ends, itemsize):
    """Fill the table of the blocks, (blocks, BLOCK_FIELDS), and `ends`: where each thread's end."""
    number, lanes = 0, lanes_of(itemsize)
    num_threads = ends.size
    for thread in range(num_threads):
        for layer in range(table.shape[0]):
            if table[layer, SPARSE] == BY_LEAVES:
                number = set_group_blocks(
                    blocks, number, table, thread, group_order, group_ends, itemsize
                )
                continue
            outputs = table[layer, OUTPUTS]
            inner = some_panels(table[layer, ROW_PANELS], table[layer, INPUTS], lanes)
            outer = some_panels(table[layer, PANELS], outputs, lanes)
            runs = count_runs_of_rows(table, layer, num_threads, itemsize)
            count = runs * table[layer, PANELS]
            mine = share(count, thread, num_threads)
            for block in range(mine.start, mine.stop):
                rows = share(inner.shape[0], block % runs, runs)
                first, last = inner[rows.start], inner[rows.stop - 1]
                column, columns, stride = 0, outputs, outputs
                if layer < by_columns:
                    panel = outer[block // runs]
                    column, columns, stride = panel[0], panel[1], panel[4]
                it = Block(
                    layer, rows.start, rows.stop, first[0], last[0] + last[1],
                    column, columns, stride,
                )  # fmt: skip
                blocks[number] = np.array(it)
                number += 1
        ends[thread] = number


@jit
def set_group_blocks(blocks, number, table, thread, order, ends, itemsize):
    """The blocks of a thread's groups of the first layer's inputs: a word of them each."""
    inputs, outputs = table[0, INPUTS], table[0, OUTPUTS]
    stride = panel_width(outputs, lanes_of(itemsize))
    for group in order[ends[thread - 1] if thread else 0 : ends[thread]]:
        stop = (group + 1) * LEAF if group < order.size - 1 else inputs
        for first in range(group * LEAF, stop, WORD):
            it = Block(0, 0, 0, first, min(first + WORD, stop), 0, outputs, stride)
            blocks[number] = np.array(it)
            number += 1
    return number


@jit
def read_block(epoch, number):
    place = epoch.blocks + number * BLOCK_FIELDS * 8
    return Block(*fields_at(place, BLOCK_FIELDS))


@jit
def has_bias(epoch, block):
    """Whether the bias lies below the block's rows, and belongs to it."""
    layer = block.layer
    return block.stop == layer_field(epoch, layer, INPUTS) and layer_field(epoch, layer, BIAS) != 0


@jit
def count_rows(epoch, block):
    """The block's rows, with that of the bias."""
    return block.stop - block.first + int(has_bias(epoch, block))


@jit
def block_start(epoch, block):
    """Where the block starts among the parameters: the number of an element."""
    row = block.first * layer_field(epoch, block.layer, OUTPUTS)
    return layer_field(epoch, block.layer, START) + row + block.column


@jit
def part_start(epoch, block):
    """Where the block starts in the gradient of a run of leaves.

    There, the layer that goes by columns lies behind all parameters.
    """
    if block.layer >= epoch.by_columns:
        return block_start(epoch, block)
    inputs = layer_field(epoch, block.layer, INPUTS)
    return epoch.size + block.column * (inputs + 1) + block.first * block.stride


@jit
def given_places(epoch, block):
    """The addresses of the block, and of its states, where the caller has them."""
    start = block_start(epoch, block) * epoch.itemsize
    state = epoch.states + start
    return epoch.parameters + start, state, state + epoch.size * epoch.itemsize


@jit
def block_places(epoch, block):
    """The addresses of the block, and of its states, for as long as the epoch lasts."""
    layer = block.layer
    if layer >= epoch.by_columns:
        return given_places(epoch, block)
    W = columns_place(epoch, layer, block.column, block.first, block.stride)
    inputs, outputs = layer_field(epoch, layer, INPUTS), layer_field(epoch, layer, OUTPUTS)
    size = columns_size(inputs, outputs, lanes_of(epoch.itemsize)) * epoch.itemsize
    return W, W + size, W + 2 * size

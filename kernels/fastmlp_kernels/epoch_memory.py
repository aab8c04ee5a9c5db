"""The memory of an epoch: how batches and layers are cut, where buffers lie, what scratch takes."""

from fastmlp_kernels.blocking import (
    LEAF,
    LINE,
    SHORT_INNER,
    count_leaves,
    count_panels,
    count_runs,
    lanes_of,
    padded_row,
    panel_width,
    pays_to_pack,
    sample_rows,
    split_leaves,
)
from fastmlp_kernels.columns import columns_size
from fastmlp_kernels.epoch_table import (
    BIAS,
    BY_LEAVES,
    COLUMN_WORDS,
    COLUMNS,
    GRAD,
    INPUTS,
    OUTPUTS,
    PACKED,
    PACKED_TRANSPOSE,
    PANELS,
    ROW,
    ROW_PANELS,
    ROW_WORDS,
    SKIPS,
    SPARSE,
    SUMS,
    H,
    goes_by_leaves,
)
from fastmlp_kernels.forward_backward import scratch_size
from fastmlp_kernels.input_leaves import count_groups, join_size, pays_to_go_by_leaves
from fastmlp_kernels.jit import jit
from fastmlp_kernels.nonzeros import WORD, WORD_BYTES, count_words
from fastmlp_kernels.sparse import count_sparse_panels
from fastmlp_kernels.sparse_layer import LEAF_WORDS, sparse_scratch_size
from fastmlp_kernels.weight_blocks import read_block
from fastmlp_kernels.weight_update import (
    leaf_partials_size,
    leaf_scratch_size,
    update_scratch_size,
)

# A batch of so many leaves for each thread is cut by leaves: fewer don't balance.
LEAVES_PER_THREAD = 4


@jit
def cut_weights(table, rows, by_columns, num_threads, lanes):
    """Set in how many panels of columns each layer is updated, and in how many panels W^T lies."""
    for layer in range(table.shape[0]):
        inputs, outputs, panels = table[layer, INPUTS], table[layer, OUTPUTS], 1
        if table[layer, SPARSE]:
            panels = count_sparse_panels(outputs, rows, num_threads, lanes)
            if pays_to_go_by_leaves(table, by_columns, lanes) and not run_of_leaves(
                rows, num_threads
            ):
                panels, table[0, SPARSE] = 1, BY_LEAVES
        elif layer < by_columns:
            panels = count_panels(LEAF, outputs, lanes)
        table[layer, PANELS] = panels
        table[layer, ROW_PANELS] = count_row_panels(inputs, outputs, num_threads, lanes)
        if layer > 0 and table[layer, SPARSE]:  # of samples, a thread multiplies those it has
            table[layer, ROW_PANELS] = count_sparse_panels(inputs, WORD, 1, lanes)


@jit
def count_row_panels(inputs, outputs, num_threads, lanes):
    """In how many panels W^T lies: wide ones, if the threads have one each, where k is short."""
    panels = count_panels(LEAF, inputs, lanes)
    if outputs > SHORT_INNER:
        return panels
    return min(panels, max(num_threads, count_panels(1, inputs, lanes)))


@jit
def lay_out(table, place, rows, batch_size, by_columns, arrays, itemsize):
    """Give the layers their buffers, from the address `place` on; return the end."""
    lanes = lanes_of(itemsize)
    for layer in range(table.shape[0]):
        inputs, outputs = table[layer, INPUTS], table[layer, OUTPUTS]
        row = padded_row(outputs, itemsize)
        table[layer, ROW] = row
        for field in (H, GRAD):
            table[layer, field] = place
            place += rows * row * itemsize
        table[layer, PACKED], table[layer, PACKED_TRANSPOSE], table[layer, COLUMNS] = 0, 0, 0
        if layer < by_columns:
            table[layer, COLUMNS] = place
            place += arrays * columns_size(inputs, outputs, lanes) * itemsize
        elif pays_to_pack(batch_size, outputs, 1, lanes):
            table[layer, PACKED] = place
            place += count_leaves(inputs, 0) * LEAF * panel_width(outputs, lanes) * itemsize
        if layer > 0:
            table[layer, PACKED_TRANSPOSE] = place
            place += count_leaves(outputs, 0) * LEAF * panel_width(inputs, lanes) * itemsize
        if table[layer, SPARSE]:
            table[layer, ROW_WORDS] = place
            words = count_leaves(inputs, 0) * LEAF_WORDS
            place += whole_lines(rows * words * WORD_BYTES)
        if table[layer, SPARSE] == SKIPS:
            table[layer, COLUMN_WORDS] = place
            place += whole_lines((inputs + 1) * count_words(rows) * WORD_BYTES)
        if table[layer, SPARSE] == BY_LEAVES:
            table[layer, SUMS] = place
            groups = count_groups(inputs, table[layer, BIAS])
            place += whole_lines(groups * rows * panel_width(outputs, lanes) * itemsize)
    return place


@jit
def workspace_elements(epoch, batch_size):
    """The elements of a thread's scratch, enough for every batch of up to batch_size samples."""
    rows = sample_rows(batch_size, epoch.num_threads)
    size, partials = scratch_size(epoch, max(rows, LEAF)), 0
    if epoch.sparse:
        size = max(size, sparse_scratch_size(epoch))
    if goes_by_leaves(epoch, 0):
        size = max(size, join_size(epoch))
    for number in range(epoch.blocks_count):
        size = max(size, update_scratch_size(epoch, read_block(epoch, number)))
    for layer in range(epoch.count):
        partials += leaf_partials_size(epoch, layer) if epoch.leaves_each else 0
    return max(size, leaf_scratch_size(epoch) + partials)


@jit
def panels_bytes(table, lanes):
    """The memory of a list of panels, of any layer's W or W^T."""
    panels = 0
    for layer in range(table.shape[0]):
        for field in (INPUTS, OUTPUTS):
            panels = max(panels, count_panels(LEAF, table[layer, field], lanes))
    return whole_lines(40 * panels)


@jit
def whole_lines(size):
    return (size + LINE - 1) // LINE * LINE


@jit
def run_of_leaves(rows, num_threads):
    """The leaves of a task that takes runs of leaves; 0 if the batch is cut otherwise."""
    leaves = count_leaves(rows, 0)
    return split_leaves(leaves, num_threads) if leaves >= LEAVES_PER_THREAD * num_threads else 0


@jit
def runs_of_batch(rows, num_threads):
    """How many runs of leaves a batch of so many samples is; 0 if it is cut otherwise."""
    return count_runs(count_leaves(rows, 0), run_of_leaves(rows, num_threads), num_threads)

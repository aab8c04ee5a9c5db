"""How the weights are cut into blocks, the tasks that update them: runs of rows of a layer's W.

A layer that goes by columns has such runs for each of its panels; one whose groups of inputs are
tasks has words of them. The blocks come in the order of the threads, each with its share of every
layer: from step to step a thread has the same panels, or the rows of its groups.
"""

from typing import NamedTuple

from fastmlp_kernels.plans.record import LEAF, PARAMETERS, STATES, WORD

from .blocking import TASKS_PER_THREAD, Machine, panel_width, share
from .table import at
from .ways import Layer, Training

# The bytes of the largest gradient of a block, which shall stay in the level-2 cache: 256 rows of a
# dense panel. Half of that took 5% longer for 784-512-256-10 with 32 samples.
MOST_BYTES = 65536


class Block(NamedTuple):
    """Rows first .. stop of W, and some columns, which lie `stride` elements from row to row.

    The rows are the panels first_panel .. stop_panel of W^T; there are `columns` from `column` on.
    """

    layer: Layer
    first_panel: int
    stop_panel: int
    first: int
    stop: int
    column: int
    columns: int
    stride: int

    @property
    def has_bias(self) -> bool:
        """Whether the bias lies below the block's rows, and belongs to it."""
        return self.layer.bias and self.stop == self.layer.inputs

    @property
    def rows(self) -> int:
        """How many rows, with that of the bias."""
        return self.stop - self.first + self.has_bias

    @property
    def size(self) -> int:
        """The elements of the block, and of its gradient."""
        return self.rows * self.stride


def cut(layers: list[Layer], training: Training, machine: Machine) -> tuple[list[Block], list[int]]:
    """Return the blocks of the weights, and where those of each thread end."""
    blocks: list[Block] = []
    ends = []
    for thread in range(training.threads):
        for layer in layers:
            if layer.by_groups:
                blocks += _of_groups(layer, training, thread, machine)
            else:
                blocks += _of_panels(layer, training, thread, machine)
        ends.append(len(blocks))
    return blocks, ends


def _of_panels(layer: Layer, training: Training, thread: int, machine: Machine) -> list[Block]:
    lanes = machine.lanes(training.itemsize)
    inner = machine.panels(layer.row_panels, layer.inputs, lanes)
    outer = machine.panels(layer.panels, layer.outputs, lanes)
    runs = _runs_of_rows(layer, training)
    blocks = []
    for number in share(runs * layer.panels, thread, training.threads):
        rows = share(layer.row_panels, number % runs, runs)
        first, last = inner[rows.start], inner[rows.stop - 1]
        column, columns, stride = 0, layer.outputs, layer.outputs
        if layer.by_columns:
            panel = outer[number // runs]
            column, columns, stride = panel.first, panel.columns, panel.width
        blocks.append(
            Block(
                layer, rows.start, rows.stop, first.first, last.first + last.columns,
                column, columns, stride,
            )
        )  # fmt: skip
    return blocks


def _runs_of_rows(layer: Layer, training: Training) -> int:
    """In how many runs the rows are cut: each thread shall have a few blocks."""
    rows = -(-layer.inputs // layer.row_panels)
    panel_bytes = rows * -(-layer.outputs // layer.panels) * training.itemsize
    count = layer.row_panels * layer.panels
    most = min(MOST_BYTES // panel_bytes, count // (TASKS_PER_THREAD * training.threads))
    return -(-layer.row_panels // max(1, most))


def _of_groups(layer: Layer, training: Training, thread: int, machine: Machine) -> list[Block]:
    """The blocks of a thread's groups of the first layer's inputs: a word of them each."""
    stride = panel_width(layer.outputs, machine.lanes(training.itemsize))
    last = sum(map(len, training.groups)) - 1
    return [
        Block(layer, 0, 0, first, min(first + WORD, stop), 0, layer.outputs, stride)
        for group in training.groups[thread]
        for stop in [(group + 1) * LEAF if group < last else layer.inputs]
        for first in range(group * LEAF, stop, WORD)
    ]


def given_start(block: Block) -> int:
    """Return where the block starts in the parameters, in elements."""
    return block.layer.start + block.first * block.layer.outputs + block.column


def given_places(block: Block, itemsize: int, size: int) -> tuple[int, int, int]:
    """Return where the caller has the block and its states; size: the elements of all weights."""
    start = given_start(block) * itemsize
    return at(PARAMETERS, start), at(STATES, start), at(STATES, start + size * itemsize)


def places(block: Block, itemsize: int, size: int) -> tuple[int, int, int]:
    """Return where the block and its states lie for as long as the epoch lasts."""
    layer = block.layer
    if not layer.by_columns:
        return given_places(block, itemsize, size)
    place = layer.columns + column_start(layer, block.column, block.first, block.stride) * itemsize
    array = layer.columns_size * itemsize
    return place, place + array, place + 2 * array


def column_start(layer: Layer, column: int, row: int, width: int) -> int:
    """Return where row `row` of the panel that starts at a column is, in elements."""
    return column * (layer.inputs + 1) + row * width

"""Layers that pass over the zeros of their inputs: what of docs/training.md becomes operations.

    h = f(x @ W + b), grad_W = x^T @ grad    over the x != 0
    grad_x = grad @ W^T                      over the grad != 0, which relu has gated, too

Words of bits tell what isn't zero. A narrow first layer's inputs are groups of leaves, each a task:

    sums[group] = x @ W over the inputs of one group (and b with the last)
    h = f(the tree over sums)
"""

from fastmlp_kernels.plans.record import LEAF, RATE, WORD, X

from .blocking import (
    TASKS_PER_THREAD,
    Panel,
    count_leaves,
    count_levels,
    panel_width,
    share,
    whole_lines,
)
from .blocks import Block, column_start, places
from .state import LEAF_WORDS, WORD_BYTES, State, count_words
from .table import EVERY_ROW, at
from .ways import Layer, count_groups

TASKS_TO_FIND = 2  # for each thread
FEWEST_ROWS = 8  # of x in a task, which share the rows of W that come to the level-1 cache
JOIN_ROWS = 16  # of all sums at once
FETCH_ROWS = 8  # later are the rows that are fetched while a row's bits are found
OFFSETS = (WORD + FETCH_ROWS) * WORD_BYTES  # bytes of scratch for where samples lie
NOWHERE = -1


def find(state: State, layer: Layer) -> None:
    """The stage that finds what isn't zero in a layer's inputs; shuffled samples are gathered."""
    builder, rows, threads = state.builder, state.batch, state.training.threads
    blocks, words, start = count_words(rows), count_words(layer.inputs), len(builder.tasks)
    parts = min(words, -(-TASKS_TO_FIND * threads // blocks))
    operations = []
    for part in range(parts):
        first = builder.mark()
        mine = share(words, part, parts)
        find_words(state, layer, mine)
        operations.append(range(first, builder.mark()))
    for row in range(0, rows, WORD):
        for part in range(parts):
            builder.task(operations[part], row, min(WORD, rows - row), rows)
    builder.stage(start)


def find_words(
    state: State, layer: Layer, words: range, chunk: int = 0, most: int = EVERY_ROW
) -> None:
    """Find some words of up to 64 samples of a task, by rows and by columns."""
    inputs, (x, x_row) = layer.inputs, state.layer_input(layer)
    if layer.number == 0 and state.training.ordered:
        state.gather(words.start * WORD, min(inputs, words.stop * WORD), chunk, most)
    words_row = count_words(inputs)
    state.builder.operation(
        "find", chunk, most, x=x + chunk * x_row * state.itemsize, x_row=x_row, inputs=inputs,
        first=words.start, stop=words.stop,
        words=state.now.row_words[layer.number] + chunk * words_row * WORD_BYTES,
        words_row=words_row,
        column_words=state.now.column_words[layer.number] + chunk // WORD * WORD_BYTES,
        stride=count_words(state.now.rows), square=state.builder.scratch(0, WORD * WORD_BYTES),
    )  # fmt: skip


def forward(state: State, layer: Layer) -> None:
    """The stage of f(x @ W + b): a panel of columns and up to 64 samples a task."""
    builder, rows, start = state.builder, state.batch, len(state.builder.tasks)
    panels = builder.machine.panels(layer.panels, layer.outputs, builder.lanes)
    chunks = count_words(rows)
    for number, panel in enumerate(panels):
        # Once for each thread, about: its cache is where they will be read.
        fetches = number % max(1, len(panels) // state.training.threads) == 0
        first = builder.mark()
        panel_forward(state, layer, panel, rows if fetches and layer.number == 0 else NOWHERE)
        for chunk in range(chunks):
            mine = share(rows, chunk, chunks)
            builder.task(range(first, builder.mark()), mine.start, len(mine), rows)
    builder.stage(start)


def panel_forward(
    state: State,
    layer: Layer,
    panel: Panel,
    distance: int,
    chunk: int = 0,
    most: int = EVERY_ROW,
) -> None:
    """f(x @ W + b) for a panel and up to 64 samples of a task.

    distance: how much later the samples come that are fetched meanwhile.
    """
    itemsize, (x, x_row) = state.itemsize, state.layer_input(layer)
    words_row, width = count_words(layer.inputs), panel.width
    W = layer.columns + column_start(layer, panel.first, 0, width) * itemsize
    _product(
        state, WORD, width, layer.leaves, chunk=chunk, most=most,
        a=x + chunk * x_row * itemsize, a_row=x_row, a_step=1, inner=layer.inputs,
        words=state.now.row_words[layer.number] + chunk * words_row * WORD_BYTES,
        words_row=words_row, b=W, b_step=width,
        bias=W + layer.inputs * width * itemsize if layer.bias else 0, distance=distance,
        c=state.now.h[layer.number] + (chunk * layer.row + panel.first) * itemsize,
        c_row=layer.row, columns=panel.columns, relu=int(layer.activation == "relu"),
    )  # fmt: skip
    state.activate(layer, panel.first, panel.columns, chunk, most)


def _product(
    state: State, rows: int, width: int, leaves: int, before: int = 0, total: int = 0, **fields: int
) -> None:
    """A product that passes over zeros, for up to so many rows; before: bytes of scratch in use.

    total: where C is, if not in scratch.
    """
    builder, itemsize = state.builder, state.itemsize
    place, size = before + whole_lines(OFFSETS), rows * width * itemsize
    slots = builder.scratch(place + size, count_levels(leaves) * size)
    builder.sparse(
        width=width, total=total or builder.scratch(place, size), slots=slots,
        slot_size=rows * width, offsets=builder.scratch(before, OFFSETS), x=at(X),
        x_row=state.layers[0].inputs * itemsize, **fields,
    )  # fmt: skip


def backward(state: State, layer: Layer, rows: int, panels: tuple[Panel, ...]) -> None:
    """(grad @ W^T) * (x > 0 ? 1 : 0) for some panels of W^T, 64 samples after the other."""
    builder, itemsize, outputs = state.builder, state.itemsize, layer.outputs
    below, count = state.layers[layer.number - 1], count_words(outputs)
    size = whole_lines(WORD * count * WORD_BYTES)
    words = builder.scratch(0, size)
    for chunk in range(0, rows, WORD):
        grad = state.now.grad[layer.number] + chunk * layer.row * itemsize
        builder.operation(
            "find", chunk, WORD, x=grad, x_row=layer.row, inputs=outputs, first=0, stop=count,
            words=words, words_row=count,
        )  # fmt: skip
        for panel in panels:
            place = (chunk * below.row + panel.first) * itemsize
            _product(
                state, WORD, panel.width, count_leaves(outputs, 0), size, chunk=chunk, most=WORD,
                a=grad, a_row=layer.row, a_step=1, inner=outputs, words=words, words_row=count,
                b=layer.packed_transpose + panel.first * outputs * itemsize, b_step=panel.width,
                distance=NOWHERE, c=state.now.grad[below.number] + place, c_row=below.row,
                columns=panel.columns, gate=state.now.h[below.number] + place,
            )  # fmt: skip


def gradient(state: State, block: Block, rides: bool) -> int:
    """x^T @ grad for a block of W, or with `rides` its update; return where the gradient is."""
    builder, layer, itemsize = state.builder, block.layer, state.itemsize
    (x, x_row), stride, before = state.layer_input(layer), count_words(state.now.rows), 0
    words = state.now.column_words[layer.number] + block.first * stride * WORD_BYTES
    if layer.by_groups:
        before = whole_lines((WORD + (WORD + 1) * stride) * WORD_BYTES)
        words = _group_columns(state, block, stride)
    size = whole_lines(block.size * itemsize)
    total = builder.scratch(before, size)
    slots = builder.scratch(
        before + size, count_levels(count_leaves(state.batch, 0)) * block.size * itemsize
    )
    builder.sparse(
        rows=block.stop - block.first, ones=state.one if block.has_bias else 0,
        a=x + block.first * itemsize, a_row=1, a_step=x_row, inner=state.batch, words=words,
        words_row=stride, b=state.now.grad[layer.number] + block.column * itemsize,
        b_step=layer.row, width=block.stride, total=total, slots=slots, slot_size=block.size,
        target=places(block, itemsize, state.size)[0], rate=at(RATE) if rides else 0,
        distance=NOWHERE,
    )  # fmt: skip
    return total


# The first layer by groups of its inputs.


def inputs_of_group(layer: Layer, group: int) -> int:
    """Return how many inputs a group has; none if it is a leaf of the bias alone."""
    rest = layer.inputs - group * LEAF
    return rest if group == count_groups(layer.inputs, int(layer.bias)) - 1 else LEAF


def group_words(state: State, group: int) -> int:
    """Return where the row words of a group lie."""
    return state.now.row_words[0] + group * LEAF_WORDS * state.batch * WORD_BYTES


def by_groups(state: State, layer: Layer) -> None:
    """The stage of the sums of groups, for a chunk of samples each."""
    builder, rows, threads = state.builder, state.batch, state.training.threads
    start, ends = len(builder.tasks), []
    wanted = TASKS_PER_THREAD * threads // count_groups(layer.inputs, int(layer.bias))
    chunks = max(count_words(rows), min(wanted, rows // FEWEST_ROWS))
    for groups in state.training.groups:
        for group in groups:
            first = builder.mark()
            _group_forward(state, layer, group)
            for chunk in range(chunks):
                mine = share(rows, chunk, chunks)
                builder.task(range(first, builder.mark()), mine.start, len(mine), rows)
        ends.append(len(builder.tasks) - start)
    builder.stage(start, ends)


def _group_forward(state: State, layer: Layer, group: int) -> None:
    """The sums of a group; the kernel finds what isn't zero itself, but for a part of a word."""
    builder, itemsize, (x, x_row) = state.builder, state.itemsize, state.layer_input(layer)
    inputs, first = inputs_of_group(layer, group), group * LEAF
    x += first * itemsize
    words, count, whole = group_words(state, group), count_words(inputs), inputs // WORD
    if whole < count:
        if state.training.ordered:
            state.gather(first + whole * WORD, first + inputs)
        builder.operation(
            "find", x=x, x_row=x_row, inputs=inputs, first=whole, stop=count, words=words,
            words_row=count,
        )  # fmt: skip
    width, bias = panel_width(layer.outputs, builder.lanes), 0
    W = layer.columns + column_start(layer, 0, first, width) * itemsize
    if layer.bias and group == count_groups(layer.inputs, 1) - 1:
        bias = W + inputs * width * itemsize
    offsets, size = whole_lines(OFFSETS), WORD * width * itemsize
    levels = count_levels(count_leaves(inputs, int(bias != 0)))
    builder.sparse(
        a=x, a_row=x_row, a_step=1, inner=inputs, words=words, words_row=count, b=W,
        b_step=width, bias=bias, width=width,
        total=state.now.sums + group * state.batch * width * itemsize,
        slots=builder.scratch(offsets, levels * size), slot_size=WORD * width,
        offsets=builder.scratch(0, OFFSETS), finds=whole, x=at(X, first * itemsize),
        x_row=layer.inputs * itemsize,
    )  # fmt: skip


def join(state: State, layer: Layer) -> None:
    """h of a task's samples, of the sums of groups."""
    builder, itemsize = state.builder, state.itemsize
    width, count = (
        panel_width(layer.outputs, builder.lanes),
        count_groups(layer.inputs, int(layer.bias)),
    )
    size = -(-count // 4) * JOIN_ROWS * width * itemsize
    builder.operation(
        "join", sums=state.now.sums, apart=state.batch * width * itemsize, count=count, width=width,
        scratch=builder.scratch(0, size), c=state.now.h[0], c_row=layer.row, itemsize=itemsize,
        relu=int(layer.activation == "relu"),
    )  # fmt: skip
    state.activate(layer, 0, layer.outputs)


def _group_columns(state: State, block: Block, stride: int) -> int:
    """Make the column words of a block of up to 64 inputs, in scratch; return where they are."""
    builder, layer = state.builder, block.layer
    groups = count_groups(layer.inputs, int(layer.bias))
    group = min(block.first // LEAF, groups - 1)
    first, inputs = block.first - group * LEAF, inputs_of_group(layer, group)
    place = builder.scratch(WORD * WORD_BYTES, (WORD + 1) * stride * WORD_BYTES)
    builder.operation(
        "find", inputs=inputs, first=first // WORD, stop=first // WORD + 1,
        words=group_words(state, group), words_row=count_words(inputs),
        column_words=place, stride=stride, skipped=first,
        square=builder.scratch(0, WORD * WORD_BYTES),
    )  # fmt: skip
    return place

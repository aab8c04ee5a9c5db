"""Batches of many leaves: a task takes a run of leaves of samples from forward to gradients.

x is read from memory once. A run is a whole subtree, half as long where the shares of two threads
meet; the tree joins the runs' gradients, the parts, before the update. Of the layers only the first
may pass over zeros. Each thread has the outputs of one leaf of samples.
"""

from itertools import accumulate, chain

import numpy as np
from fastmlp_kernels.plans.record import LEAF, WORD

from . import samples, sparse
from .blocking import count_leaves, count_levels, panel_width, runs_of_leaves
from .blocks import Block, column_start, given_start
from .product import default_panels, product
from .state import LEAF_WORDS, State, count_words
from .ways import Layer, run_of_leaves


def place(state: State, most_runs: int) -> None:
    """Give the parts of up to so many runs their places, and each thread the partial tiles."""
    builder, itemsize = state.builder, state.itemsize
    first = state.layers[0]
    state.own = state.place(LEAF, is_own=True)
    state.part_size = state.size + (first.columns_size if first.skips else 0)
    state.parts = builder.buffer(most_runs * state.part_size * itemsize)
    levels = count_levels(run_of_leaves(state.training.batch, state.training.threads))
    for layer in state.layers:
        size = (layer.inputs + 1) * panel_width(layer.outputs, builder.lanes)
        state.partials.append(builder.own_buffer(levels * size * itemsize))


def runs(state: State, rows: int) -> list[list[range]]:
    """Return each thread's runs of leaves of a batch of so many samples."""
    threads = state.training.threads
    return runs_of_leaves(count_leaves(rows, 0), run_of_leaves(rows, threads), threads)


def run(state: State) -> None:
    """The stage of all samples: what is done for a leaf of them."""
    builder, rows, start = state.builder, state.batch, len(state.builder.tasks)
    first, layer = builder.mark(), state.layers[0]
    if layer.skips:
        _sparse_forward(state, layer)
    elif state.training.ordered:
        state.gather(0, layer.inputs)
    samples.forward_and_backward(state, samples.heights_of(rows, LEAF))
    _gradients(state)
    shares = runs(state, rows)
    for number, leaves in enumerate(chain(*shares)):
        row, stop = leaves.start * LEAF, min(leaves.stop * LEAF, rows)
        operations = range(first, builder.mark())
        builder.task(operations, row, stop - row, rows, leaves=len(leaves), part=number)
    builder.stage(start, list(accumulate(map(len, shares))))


def _sparse_forward(state: State, layer: Layer) -> None:
    """Find what isn't zero in a leaf of samples, and compute the first layer for it."""
    panels = state.builder.machine.panels(layer.panels, layer.outputs, state.builder.lanes)
    for chunk in range(0, LEAF, WORD):
        sparse.find_words(state, layer, range(count_words(layer.inputs)), chunk, WORD)
        for panel in panels:
            distance = LEAF if panel.first == 0 else sparse.NOWHERE
            sparse.panel_forward(state, layer, panel, distance, chunk, WORD)


def _gradients(state: State) -> None:
    """Add a leaf of samples to all gradients of its run."""
    builder, itemsize = state.builder, state.itemsize
    most = run_of_leaves(state.batch, state.training.threads)
    part = state.part_size * itemsize
    for layer, partials in zip(state.layers, state.partials, strict=True):
        if layer.skips:
            _sparse_gradient(state, layer, partials)
            continue
        x, x_row = state.layer_input(layer)
        product(
            builder, default_panels(builder, layer.inputs, layer.outputs), {layer.inputs},
            layer.outputs, run=most, scratch=partials, rows=layer.inputs, a=x, a_row=1,
            a_step=x_row, ones=state.one if layer.bias else 0, b=state.now.grad[layer.number],
            b_row=layer.row, c=state.parts + layer.start * itemsize, c_row=layer.outputs, part=part,
        )  # fmt: skip


def _sparse_gradient(state: State, layer: Layer, partials: int) -> None:
    builder, itemsize, (x, x_row) = state.builder, state.itemsize, state.layer_input(layer)
    for panel in builder.machine.panels(layer.panels, layer.outputs, builder.lanes):
        place = column_start(layer, panel.first, 0, panel.width) * itemsize
        builder.sparse(
            rows=layer.inputs, ones=state.one if layer.bias else 0, a=x,
            a_row=1, a_step=x_row, words=state.now.column_words[0], words_row=LEAF_WORDS,
            b=state.now.grad[0] + panel.first * itemsize, b_step=layer.row, width=panel.width,
            total=state.parts + state.size * itemsize + place, slots=partials + place,
            slot_size=layer.columns_size, by_leaf=1, part=state.part_size * itemsize,
            distance=sparse.NOWHERE,
        )  # fmt: skip


def pairs(state: State) -> tuple[int, int]:
    """Return which parts the tree adds, a pair after the other: an operand, and their number."""
    added: list[tuple[int, int]] = []
    waiting: list[tuple[int, int]] = []  # parts, and their leaves: less for each, a power of two
    every = list(chain(*runs(state, state.batch)))
    for number, leaves in enumerate(every):
        waiting.append((number, len(leaves)))
        is_last = number == len(every) - 1
        while len(waiting) > 1 and (is_last or waiting[-2][1] == waiting[-1][1]):
            right, _ = waiting.pop()
            left, size = waiting.pop()
            added.append((left, right))
            waiting.append((left, size * 2))
    return state.builder.constant(np.array(added, np.int64).reshape(-1)), len(added)


def join(state: State, block: Block, pairs: int, count: int) -> int:
    """Add the parts of a block's gradient; return where the sum is."""
    itemsize, layer = state.itemsize, block.layer
    start = given_start(block)
    if layer.by_columns:  # behind all parameters
        start = state.size + column_start(layer, block.column, block.first, block.stride)
    state.builder.operation(
        "add", parts=state.parts + start * itemsize, apart=state.part_size * itemsize,
        size=block.size, pairs=pairs, count=count,
    )  # fmt: skip
    return state.parts + start * itemsize

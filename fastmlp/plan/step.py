"""A training step as stages of tasks: forward, loss, backward, then gradients and updates.

A step has two stages, which threads share as tasks: blocks of samples, then blocks of the weights,
whose gradients sum over all samples of the batch. Before them, large layers have a stage each, by
columns, after one that gathers the samples where these are shuffled, or finds their zeros. A batch
of many leaves is cut the other way: a task takes a run of leaves of samples through both, and the
tree joins the runs' gradients. A limit for the gradients' norm makes three stages of the second.
"""

from functools import lru_cache

from fastmlp_kernels.plans.record import LEAF

from . import clipping, leaves, samples, sparse, weights
from .blocking import Machine, count_leaves, padded_row, panel_width
from .blocks import cut
from .state import State, bits_of
from .table import Builder, Plan
from .ways import STATES, Layer, Training, choose, run_of_leaves

MOST_PLANS = 256


@lru_cache(MOST_PLANS)
def plan_training(training: Training, machine: Machine) -> Plan:
    """Return the plan of an epoch: before the steps, a whole batch, the last one, after them."""
    builder = Builder(machine, training.itemsize, training.threads)
    layers = choose(training, machine)
    size = sum((layer.inputs + layer.bias) * layer.outputs for layer in layers)
    state = State(training, builder, layers, *cut(layers, training, machine), size)
    batches = [training.batch, training.last] if training.last else [training.batch]
    _place(state, batches)
    state.now = state.shared or state.now
    weights.before(state)
    builder.program(0)
    for rows in batches:
        start = len(builder.stages)
        _step(state, rows)
        builder.program(start)
    if len(batches) == 1:
        builder.program(len(builder.stages))
    start = len(builder.stages)
    weights.after(state)
    builder.program(start)
    return builder.plan()


def _step(state: State, rows: int) -> None:
    """The stages of one step on a batch of so many samples."""
    state.batch = rows
    if run_of_leaves(rows, state.training.threads):
        assert state.own is not None
        state.now = state.own
        leaves.run(state)
    else:
        assert state.shared is not None
        state.now = state.shared
        for layer in state.layers:
            if layer.by_groups:
                sparse.by_groups(state, layer)
            elif layer.skips:
                sparse.find(state, layer)
                sparse.forward(state, layer)
            elif layer.by_columns:
                samples.by_columns(state, layer)
        samples.run(state)
        for layer in reversed(state.layers):
            if layer.back_by_columns:
                samples.back_by_columns(state, layer)
    if state.training.clips:
        clipping.update(state)
    else:
        weights.update(state)


def _place(state: State, batches: list[int]) -> None:
    """Give the weights' copies and the samples' numbers their places, enough for every batch."""
    training, builder = state.training, state.builder
    state.one = builder.constant(bits_of(builder.itemsize, 1))
    for layer in state.layers:
        layer.row = padded_row(layer.outputs, builder.itemsize)
        _place_weights(builder, layer, training)
    # Of a leaf of samples each thread has the outputs, of other batches all threads have them.
    others = [rows for rows in batches if not run_of_leaves(rows, training.threads)]
    if others:
        state.shared = state.place(max(others), is_own=False)
    if training.clips:
        clipping.place(state, bool(others))
    if len(others) < len(batches):
        cut_so = [leaves.runs(state, rows) for rows in batches if rows not in others]
        most = max(sum(map(len, runs)) for runs in cut_so)
        leaves.place(state, most)


def _place_weights(builder: Builder, layer: Layer, training: Training) -> None:
    lanes, itemsize = builder.lanes, builder.itemsize
    width = panel_width(layer.outputs, lanes)
    if layer.by_columns:
        layer.columns_size = (layer.inputs + 1) * width
        arrays = 1 + STATES[training.optimizer]
        layer.columns = builder.buffer(arrays * layer.columns_size * itemsize)
    elif builder.machine.pays_to_pack(training.batch, layer.outputs, lanes):
        size = count_leaves(layer.inputs, 0) * LEAF * width
        layer.packed = builder.buffer(size * itemsize)
    if layer.number > 0:
        size = count_leaves(layer.outputs, 0) * LEAF * panel_width(layer.inputs, lanes)
        layer.packed_transpose = builder.buffer(size * itemsize)

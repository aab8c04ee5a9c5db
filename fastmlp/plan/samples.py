"""The first half of a step, for blocks of samples: forward, loss, backward.

    h = f(h @ W + b) for each layer but the last, logits = h @ W + b
    grad = scale * (softmax(logits) - one_hot(label)), scale = 1 / samples of the batch; or what
        another loss makes of logits and targets
    grad = (grad @ W^T) * slope for each layer down to the second

The slope f' of relu is h > 0 ? 1 : 0; that of another activation is noted on the way forward.
Large layers have done their forward pass by columns: a panel of W for all samples is a task of the
thread that updates it. Where threads are many, these go back by columns of W^T, a stage each: by
samples, every thread would read all of W^T.
"""

from fastmlp_kernels.plans.record import BY_SLOPE, PARAMETERS, WORD

from . import sparse
from .blocking import Panel, column_rows, sample_rows
from .blocks import column_start
from .losses import loss
from .product import default_panels, product
from .state import State
from .table import Builder, at
from .ways import Layer

GATHER_EACH = 16  # samples of a task that only gathers them


def heights_of(rows: int, each: int) -> set[int]:
    """Return the rows that tasks of so many samples of a batch have."""
    return {min(each, rows), rows % each or min(each, rows)}


def by_columns(state: State, layer: Layer) -> None:
    """The stage of a layer's forward pass by columns, and before the first, shuffled samples'."""
    builder, rows, threads = state.builder, state.batch, state.training.threads
    if layer.number == 0 and state.training.ordered:
        start, first = len(builder.tasks), builder.mark()
        state.gather(0, layer.inputs)
        _add_tasks(builder, first, rows, min(GATHER_EACH, column_rows(rows, 1, threads)))
        builder.stage(start)
    start = len(builder.tasks)
    panels = builder.machine.panels(layer.panels, layer.outputs, builder.lanes)
    each = column_rows(rows, len(panels), threads)
    heights = heights_of(rows, each)
    for panel in panels:
        first = builder.mark()
        _panel_forward(state, layer, panel, heights)
        _add_tasks(builder, first, rows, each)
    builder.stage(start)


def back_by_columns(state: State, layer: Layer) -> None:
    """The stage of a layer's way back by columns of W^T."""
    builder, rows, start = state.builder, state.batch, len(state.builder.tasks)
    below, panels, each = state.layers[layer.number - 1], _panels_of_rows(state, layer), WORD
    if not layer.skips:
        each = column_rows(rows, len(panels), state.training.threads)
    for panel in panels:
        first = builder.mark()
        _backward(state, layer, heights_of(rows, each), (panel,))
        if below.skips:
            place = state.now.grad[below.number] + panel.first * state.itemsize
            builder.operation("watch", values=place, row_size=below.row, columns=panel.columns)
        _add_tasks(builder, first, rows, each)
    builder.stage(start)


def _add_tasks(builder: Builder, first: int, rows: int, each: int) -> None:
    """Add tasks of the operations from `first` on, for so many samples of the batch each."""
    for row in range(0, rows, each):
        builder.task(range(first, builder.mark()), row, min(each, rows - row), rows)


def _panel_forward(state: State, layer: Layer, panel: Panel, heights: set[int]) -> None:
    itemsize, (h, h_row) = state.itemsize, state.layer_input(layer)
    W = layer.columns + column_start(layer, panel.first, 0, panel.width) * itemsize
    own = default_panels(state.builder, 0, panel.columns, is_packed=True)
    product(
        state.builder, own, heights, panel.columns, packed=W,
        a=h, a_row=h_row, a_step=1, inner=layer.inputs,
        c=state.now.h[layer.number] + panel.first * itemsize, c_row=layer.row,
        bias=W + layer.inputs * panel.width * itemsize if layer.bias else 0,
        relu=int(layer.activation == "relu"),
    )  # fmt: skip
    state.activate(layer, panel.first, panel.columns)


def run(state: State) -> None:
    """The stage of the other layers, the loss, and the way back."""
    builder, rows = state.builder, state.batch
    each = sample_rows(rows, state.training.threads)
    start, first = len(builder.tasks), builder.mark()
    if state.layers[0].by_groups:
        sparse.join(state, state.layers[0])
    if state.training.ordered and not state.layers[0].by_columns:
        state.gather(0, state.layers[0].inputs)
    forward_and_backward(state, heights_of(rows, each))
    _add_tasks(builder, first, rows, each)
    builder.stage(start)


def forward_and_backward(state: State, heights: set[int]) -> None:
    """The operations on a block of samples, from the first layer that has no stage of its own."""
    for layer in state.layers:
        if not layer.by_columns:
            _forward(state, layer, heights)
    _loss(state, max(heights))
    mine = [layer for layer in state.layers[1:] if not layer.back_by_columns]
    for layer in reversed(mine):
        _backward(state, layer, heights, _panels_of_rows(state, layer))
    for layer in state.layers[-1 - len(mine) :]:  # of those whose gradients are there now
        if layer.skips:
            state.builder.operation(
                "watch", values=state.now.grad[layer.number], row_size=layer.row
            )


def _forward(state: State, layer: Layer, heights: set[int]) -> None:
    itemsize, (h, h_row) = state.itemsize, state.layer_input(layer)
    W = at(PARAMETERS, layer.start * itemsize)
    panels = default_panels(state.builder, max(heights), layer.outputs, layer.packed != 0)
    product(
        state.builder, panels, heights, layer.outputs, packed=layer.packed, b=W,
        b_row=layer.outputs, a=h, a_row=h_row, a_step=1, inner=layer.inputs,
        c=state.now.h[layer.number], c_row=layer.row,
        bias=W + layer.inputs * layer.outputs * itemsize if layer.bias else 0,
        relu=int(layer.activation == "relu"),
    )  # fmt: skip
    state.activate(layer, 0, layer.outputs)


def _loss(state: State, rows: int) -> None:
    last, training = state.layers[-1], state.training
    loss(
        state.builder, training.loss, training.delta, last.outputs, rows, z=state.now.h[-1],
        row_size=last.row, grad=state.now.grad[-1], weighted=training.weighted,
    )  # fmt: skip


def _panels_of_rows(state: State, layer: Layer) -> tuple[Panel, ...]:
    """The panels of W^T."""
    return state.builder.machine.panels(layer.row_panels, layer.inputs, state.builder.lanes)


def _backward(state: State, layer: Layer, heights: set[int], panels: tuple[Panel, ...]) -> None:
    """(grad @ W^T) * slope, of the layer's input that of a relu, or what was noted; some panels."""
    if layer.skips:
        sparse.backward(state, layer, max(heights), panels)
        return
    below = state.layers[layer.number - 1]
    is_relu = below.activation == "relu"
    gate = (state.now.h if is_relu else state.now.slope)[below.number]
    product(
        state.builder, panels, heights, layer.inputs, packed=layer.packed_transpose,
        a=state.now.grad[layer.number], a_row=layer.row, a_step=1, inner=layer.outputs,
        c=state.now.grad[below.number], c_row=below.row,
        gate=gate, gate_row=below.row, relu=0 if is_relu else BY_SLOPE,
    )  # fmt: skip

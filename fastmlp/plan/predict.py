"""Predictions as tables: all layers for a block of rows, a task each; rows come with the task.

A block's activations never leave the level-2 cache. Many rows share packed copies of W, made in a
stage before; of others W is read in place, one or two rows in panels nearly as wide as its rows.
Of a wide network the packed copies are kept with the model: up to WIDE_ROWS rows go through one
layer after the other, a stage each, and a task is a panel of W for all of them, so that each thread
reads its part of W, and once.
"""

from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from fastmlp_kernels.plans.record import (
    BLOCK_ROWS,
    CLASSES,
    HEADS,
    KEPT,
    LEAF,
    LOSSES,
    PARAMETERS,
    X,
)

from .blocking import Machine, Panel, count_leaves, padded_row, panel_width, whole_lines
from .losses import loss
from .product import default_panels, product
from .table import Builder, Plan, at

FEW, SOME, MANY, WIDE, MANY_KEPT = range(5)  # of rows; the last two where packed copies are kept
WIDE_ROWS = 256
# From so many elements of a W on, copies are kept; a smaller layer costs less than its own stage.
KEPT_WEIGHTS = 1 << 18
SMALLEST_STAGE = 1 << 16
MOST_PLANS = 256


class Prediction(NamedTuple):
    """What a plan depends on; the key under which it is kept.

    goal: classes, logits, losses, softmax, log_softmax or one of record.HEADS. activation: each
    hidden layer's, or nothing if all are relu. loss, delta: of the goal losses.
    """

    sizes: tuple[int, ...]
    bias: tuple[bool, ...]
    itemsize: int
    rows: int
    goal: str
    activation: tuple[str, ...] = ()
    loss: str = ""
    delta: float = 0.0


class Layer(NamedTuple):
    """A layer: its number, its shape, its activation, where W, the bias and W packed lie."""

    number: int
    inputs: int
    outputs: int
    activation: str
    W: int
    bias: int
    packed: int


class Matrix(NamedTuple):
    """Rows that a layer reads or writes: the operand, and the elements from row to row."""

    place: int
    row: int


@lru_cache(MOST_PLANS)
def plan_prediction(prediction: Prediction, machine: Machine) -> Plan:
    """Return a plan: a task for each packed leaf of W, then the task of any block of rows.

    Of a wide network there are stages between them, whose tasks are columns.
    """
    builder = Builder(machine, prediction.itemsize, 1)
    layers = _layers(builder, prediction)
    builder.stage(0)
    h = Matrix(at(X), prediction.sizes[0])
    if prediction.rows == WIDE:
        layers, h = _by_columns(builder, layers, h)
    first = len(builder.tasks)
    builder.task(_block(builder, prediction, layers, h))
    builder.stage(first)
    builder.program(0)
    return builder.plan()


def keeps(sizes: tuple[int, ...]) -> bool:
    """Return whether packed copies of a network's weights are kept."""
    return any(rows * columns >= KEPT_WEIGHTS for rows, columns in pairwise(sizes))


def kept_bytes(sizes: tuple[int, ...], itemsize: int, machine: Machine) -> int:
    """Return the memory of the packed copies of a network's weights."""
    builder = Builder(machine, itemsize, 1)
    return sum(_packed_size(builder, *shape) for shape in pairwise(sizes))


def _layers(builder: Builder, prediction: Prediction) -> list[Layer]:
    """Return the layers; add the tasks that pack W, a leaf each, where copies are read."""
    itemsize, sizes, start, kept = prediction.itemsize, prediction.sizes, 0, at(KEPT)
    hidden = prediction.activation or ("relu",) * (len(sizes) - 2)
    layers = []
    for number, name in enumerate((*hidden, "identity")):
        inputs, outputs = sizes[number : number + 2]
        W, size = at(PARAMETERS, start * itemsize), _packed_size(builder, inputs, outputs)
        packed, bias = 0, W + inputs * outputs * itemsize if prediction.bias[number] else 0
        if prediction.rows == MANY:
            packed = builder.buffer(size)
        elif prediction.rows in (WIDE, MANY_KEPT):
            packed, kept = kept, kept + size
        if packed:
            _pack(builder, W, inputs, outputs, packed)
        layers.append(Layer(number, inputs, outputs, name, W, bias, packed))
        start += (inputs + prediction.bias[number]) * outputs
    return layers


def _packed_size(builder: Builder, inputs: int, outputs: int) -> int:
    width = panel_width(outputs, builder.lanes)
    return whole_lines(count_leaves(inputs, 0) * LEAF * width * builder.itemsize)


def _pack(builder: Builder, W: int, inputs: int, outputs: int, target: int) -> None:
    """Pack W, a leaf a task: where that pays, or it can't be read in place."""
    itemsize, width = builder.itemsize, panel_width(outputs, builder.lanes)
    panels = default_panels(builder, 0, outputs, is_packed=True)
    for k in range(0, inputs, LEAF):
        mark = builder.mark()
        builder.operation(
            "pack", source=W + k * outputs * itemsize, row_step=outputs, column_step=1, first_k=0,
            steps=min(LEAF, inputs - k), depth=LEAF, panels=builder.panels(panels),
            panel_count=len(panels), target=target + k * width * itemsize,
        )  # fmt: skip
        builder.task(range(mark, builder.mark()))


def _by_columns(
    builder: Builder, layers: list[Layer], h: Matrix
) -> tuple[list[Layer], Matrix]:
    """Add stages of the layers up to a large one; return the rest, the last among them, and h."""
    sizes = [layer.inputs * layer.outputs for layer in layers[:-1]]
    count = max((n + 1 for n, size in enumerate(sizes) if size >= SMALLEST_STAGE), default=0)
    for layer in layers[:count]:
        start, row = len(builder.tasks), padded_row(layer.outputs, builder.itemsize)
        y = Matrix(builder.buffer(WIDE_ROWS * row * builder.itemsize), row)
        panels = default_panels(builder, 0, layer.outputs, is_packed=True)
        for panel in range(len(panels)):
            mark = builder.mark()
            if layer.number == 0 and panel == 0:
                builder.operation("watch", values=h.place, row_size=h.row)
            _layer(builder, layer, h, y, WIDE_ROWS, panels[panel : panel + 1])
            builder.task(range(mark, builder.mark()))
        builder.stage(start)
        h = y
    return layers[count:], h


def _layer(
    builder: Builder, layer: Layer, x: Matrix, y: Matrix, most: int, panels: tuple[Panel, ...]
) -> None:
    """Some panels of a layer, for up to so many rows."""
    by = panels[0].first * builder.itemsize
    product(
        builder, panels, set(range(1, most + 1)), layer.outputs, packed=layer.packed, b=layer.W,
        b_row=layer.outputs, a=x.place, a_row=x.row, a_step=1, inner=layer.inputs, c=y.place,
        c_row=y.row, relu=int(layer.activation == "relu"), bias=layer.bias,
    )  # fmt: skip
    if layer.activation not in ("relu", "identity"):
        builder.operation(
            layer.activation, z=y.place + by, row_size=y.row,
            columns=panels[-1].first + panels[-1].columns - panels[0].first,
        )  # fmt: skip


def _block(builder: Builder, prediction: Prediction, layers: list[Layer], h: Matrix) -> range:
    """The operations on a block of rows."""
    itemsize, goal = prediction.itemsize, prediction.goal
    most = builder.machine.wide_rows if prediction.rows == FEW else BLOCK_ROWS
    results = [
        Matrix(builder.own_buffer(most * row * itemsize), row)
        for layer in layers
        for row in [padded_row(layer.outputs, itemsize)]
    ]
    if goal == "logits":
        results[-1] = Matrix(at(LOSSES), prediction.sizes[-1])
    beside = 0  # memory as large as the logits'
    if goal in ("losses", "softmax", "log_softmax"):
        beside = builder.own_buffer(most * results[-1].row * itemsize)
    mark = builder.mark()
    if layers[0].number == 0:
        builder.operation("watch", values=h.place, row_size=h.row)
    for layer, y in zip(layers, results, strict=True):
        panels = default_panels(builder, most, layer.outputs, layer.packed != 0)
        _layer(builder, layer, h, y, most, panels)
        h = y
    _head(builder, prediction, most, z=h.place, row_size=h.row, beside=beside)
    return range(mark, builder.mark())


def _head(
    builder: Builder, prediction: Prediction, rows: int, *, z: int, row_size: int, beside: int
) -> None:
    """Add what a goal makes of up to so many rows of logits."""
    goal, outputs, itemsize = prediction.goal, prediction.sizes[-1], prediction.itemsize
    if goal == "classes":
        builder.operation(
            "argmax", logits=z, row_size=row_size, columns=outputs, classes=at(CLASSES)
        )
    elif goal == "losses":
        loss(
            builder, prediction.loss, prediction.delta, outputs, rows, z=z, row_size=row_size,
            grad=beside, weighted=False,
        )  # fmt: skip
    elif goal in ("softmax", "log_softmax"):
        builder.operation(
            "softmax", z=z, row_size=row_size, classes=outputs, is_log=int(goal == "log_softmax"),
            result=at(LOSSES), e=beside, scratch=builder.scratch(0, 2 * rows * itemsize),
        )  # fmt: skip
    elif goal in HEADS:
        # Of one output, probabilities are those of both classes.
        columns = outputs if goal in ("counts", "binary_classes") else max(2, outputs)
        builder.operation(
            goal, z=z, row_size=row_size, outputs=outputs, columns=columns,
            result=at(CLASSES if goal == "binary_classes" else LOSSES),
            scratch=builder.scratch(0, rows * columns * itemsize),
        )  # fmt: skip

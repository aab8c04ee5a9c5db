"""Predictions as tables: all layers for a block of rows, a task each; rows come with the task.

A block's activations never leave the level-2 cache. Many rows share packed copies of W, made in a
stage before; of others W is read in place, one or two rows in panels nearly as wide as its rows.
"""

from functools import lru_cache
from typing import NamedTuple

from fastmlp_kernels.record import BLOCK_ROWS, CLASSES, HEADS, LEAF, LOSSES, PARAMETERS, X

from .blocking import Machine, count_leaves, padded_row, panel_width
from .losses import loss
from .product import default_panels, product
from .table import Builder, Plan, at

FEW, SOME, MANY = range(3)  # of rows
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


@lru_cache(MOST_PLANS)
def plan_prediction(prediction: Prediction, machine: Machine) -> Plan:
    """Return a plan: a task for each packed leaf of W, then the task of any block of rows."""
    builder = Builder(machine, prediction.itemsize, 1)
    sizes, itemsize, start = prediction.sizes, prediction.itemsize, 0
    places = []
    for inputs, outputs, bias in zip(sizes, sizes[1:], prediction.bias, strict=False):
        packed = 0
        if prediction.rows == MANY:
            packed = _pack(builder, at(PARAMETERS, start * itemsize), inputs, outputs)
        places.append((start, packed))
        start += (inputs + bias) * outputs
    builder.stage(0)
    first = len(builder.tasks)
    builder.task(_block(builder, prediction, places))
    builder.stage(first)
    return builder.plan()


def _pack(builder: Builder, W: int, inputs: int, outputs: int) -> int:
    """Pack W, a leaf a task, where that pays or it can't be read in place; return where it lies."""
    itemsize, width = builder.itemsize, panel_width(outputs, builder.lanes)
    panels = default_panels(builder, 0, outputs, is_packed=True)
    target = builder.buffer(count_leaves(inputs, 0) * LEAF * width * itemsize)
    for k in range(0, inputs, LEAF):
        mark = builder.mark()
        builder.operation(
            "pack", source=W + k * outputs * itemsize, row_step=outputs, column_step=1, first_k=0,
            steps=min(LEAF, inputs - k), depth=LEAF, panels=builder.panels(panels),
            panel_count=len(panels), target=target + k * width * itemsize,
        )  # fmt: skip
        builder.task(range(mark, builder.mark()))
    return target


def _block(builder: Builder, prediction: Prediction, places: list[tuple[int, int]]) -> range:
    """The operations on a block of rows."""
    itemsize, sizes = prediction.itemsize, prediction.sizes
    most = builder.machine.wide_rows if prediction.rows == FEW else BLOCK_ROWS
    last = len(places) - 1
    rows = [padded_row(outputs, itemsize) for outputs in sizes[1:]]
    h_places = [builder.own_buffer(most * row * itemsize) for row in rows]
    if prediction.goal == "logits":
        h_places[last], rows[last] = at(LOSSES), sizes[-1]
    beside = 0  # memory as large as the logits'
    if prediction.goal in ("losses", "softmax", "log_softmax"):
        beside = builder.own_buffer(most * rows[last] * itemsize)
    mark = builder.mark()
    builder.operation("watch", values=at(X), row_size=sizes[0])
    h, h_row = at(X), sizes[0]
    activation = (*(prediction.activation or ("relu",) * last), "identity")
    for layer, (start, packed) in enumerate(places):
        inputs, outputs = sizes[layer : layer + 2]
        W = at(PARAMETERS, start * itemsize)
        product(
            builder, default_panels(builder, most, outputs, packed != 0),
            set(range(1, most + 1)), outputs, packed=packed, b=W, b_row=outputs, a=h, a_row=h_row,
            a_step=1, inner=inputs, c=h_places[layer], c_row=rows[layer],
            relu=int(activation[layer] == "relu"),
            bias=W + inputs * outputs * itemsize if prediction.bias[layer] else 0,
        )  # fmt: skip
        if activation[layer] not in ("relu", "identity"):
            builder.operation(
                activation[layer], z=h_places[layer], row_size=rows[layer], columns=outputs
            )
        h, h_row = h_places[layer], rows[layer]
    _head(builder, prediction, most, z=h, row_size=h_row, beside=beside)
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

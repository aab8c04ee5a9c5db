"""Single products as plans: C = gate(relu(A @ B + bias)) of A (M, K) and B (K, N).

Tasks are blocks of rows, or subtrees of leaves whose results the tree joins at the end. A is read
where it lies, whatever its strides; B where it lies if it has few uses, else packed in panels, in a
stage before. Neither blocks nor tasks nor threads change a bit: one element is one chain after
another in any case, and only whole subtrees of leaves are added elsewhere.
"""

from typing import NamedTuple

import numpy as np
from fastmlp_kernels.plans.record import ARRAYS, FEW_THREADS, LEAF, LINE

from .blocking import (
    TASKS_PER_THREAD,
    Machine,
    Panel,
    count_leaves,
    count_levels,
    is_tall,
    panel_width,
    share,
    split_leaves,
    split_rows,
)
from .product import default_panels, product
from .state import bits_of
from .table import Builder, Plan, at

Pair = tuple[int, int]

# Bytes of B that all rows go through before the next columns: a part of the level-3 cache. 2048 x
# 4096 x 4096 took 0.94 of the time of all columns at once, with one thread (Zen 4).
MOST_NEAR = 1 << 22


class Layout(NamedTuple):
    """What a plan depends on; the key under which it is kept. Strides are in bytes.

    `of` forward: x (M, K), W (K, N), y (M, N). Of backward: x, W, grad_y (M, N); grad_x and grad_W
    are contiguous, and with `relu` all of the size of y. `with_bias`: forward's, or a last row of
    grad_W, 1^T @ grad_y.
    """

    x_shape: Pair
    x_strides: Pair
    W_shape: Pair
    W_strides: Pair
    y_strides: Pair
    itemsize: int
    threads: int
    with_bias: bool = False
    relu: bool = False
    gate: bool = False

    def is_in_elements(self) -> bool:
        """Return whether strides are whole elements, those of axes that are gone through."""
        M, N = self.x_shape[0], self.W_shape[1]
        every = zip(
            (*self.x_shape, *self.W_shape, M, N),
            (*self.x_strides, *self.W_strides, *self.y_strides),
            strict=True,
        )
        some = min(*self.x_shape, N) > 0
        return not any(some and size > 1 and stride % self.itemsize for size, stride in every)


    def arrays(self) -> list["Argument"]:
        """Return x, W and y, or grad_y."""
        M, N = self.x_shape[0], self.W_shape[1]
        shapes = self.x_shape, self.W_shape, (M, N)
        every = self.x_strides, self.W_strides, self.y_strides
        return [
            Argument(2, *shape, strides == packed_strides(shape, self.itemsize), *strides)
            for shape, strides in zip(shapes, every, strict=True)
        ]


def packed_strides(shape: Pair, itemsize: int) -> Pair:
    """Return the strides of a C-contiguous matrix; NumPy may have others for axes of one place."""
    return shape[1] * itemsize, itemsize


class Argument(NamedTuple):
    """What an array of a call must be; axes: 0 where none is read. Strides are in bytes."""

    axes: int = 0
    rows: int = 0
    columns: int = 0
    is_packed: bool = True
    row_stride: int = 0
    column_stride: int = 0
    is_result: bool = False


class Matrix(NamedTuple):
    """An operand, and its strides in elements."""

    place: int
    row: int
    column: int

    def transposed(self) -> "Matrix":
        """Return it with its axes exchanged."""
        return self._replace(row=self.column, column=self.row)


class Product(NamedTuple):
    """One product; ones: A has one more row, of ones, that lies nowhere."""

    rows: int
    inner: int
    columns: int
    a: Matrix
    b: Matrix
    c: Matrix
    bias: int = 0
    relu: int = 0
    gate: int = 0
    ones: int = 0


def plan_forward(layout: Layout, machine: Machine) -> Plan:
    """Return the plan of y; the arrays are x, W, y, b and gate."""
    builder = Builder(machine, layout.itemsize, layout.threads)
    (M, K), N = layout.x_shape, layout.W_shape[1]
    x, W, y = _matrices(layout)
    bias = at(ARRAYS + 3) if layout.with_bias else 0
    gate = at(ARRAYS + 4) if layout.gate else 0
    return _plan(builder, [Product(M, K, N, x, W, y, bias, int(layout.relu), gate)])


def forward_arrays(layout: Layout) -> list[Argument]:
    """Return what x, W, y, b and gate must be, and none."""
    x, W, y = layout.arrays()
    b = Argument(1, y.columns, 1) if layout.with_bias else Argument()
    gate = Argument(2, y.rows, y.columns) if layout.gate else Argument()
    return [x, W, y._replace(is_result=True), b, gate, Argument()]


def plan_backward(layout: Layout, machine: Machine) -> Plan:
    """Return the plan of grad_x and grad_W; the arrays are x, W, grad_y, grad_x, grad_W and y."""
    builder = Builder(machine, layout.itemsize, layout.threads)
    (M, K), N = layout.x_shape, layout.W_shape[1]
    x, W, grad_y = _matrices(layout)
    grad_x, grad_W = Matrix(at(ARRAYS + 3), K, 1), Matrix(at(ARRAYS + 4), N, 1)
    if layout.relu:
        grad_y = _gated(builder, grad_y, M * N)
    ones = builder.constant(bits_of(layout.itemsize, 1)) if layout.with_bias else 0
    products = [
        Product(M, N, K, grad_y, W.transposed(), grad_x),
        Product(K, M, N, x.transposed(), grad_y, grad_W, ones=ones),
    ]
    return _plan(builder, products)


def backward_arrays(layout: Layout) -> list[Argument]:
    """Return what x, W, grad_y, grad_x, grad_W and y must be."""
    x, W, grad_y = layout.arrays()
    grad_x = Argument(2, x.rows, x.columns, is_result=True)
    grad_W = Argument(2, W.rows + layout.with_bias, W.columns, is_result=True)
    y = Argument(2, grad_y.rows, grad_y.columns) if layout.relu else Argument()
    return [x, W, grad_y, grad_x, grad_W, y]


def _matrices(layout: Layout) -> list[Matrix]:
    every = layout.x_strides, layout.W_strides, layout.y_strides
    return [
        Matrix(at(ARRAYS + number), *(stride // layout.itemsize for stride in strides))
        for number, strides in enumerate(every)
    ]


def _plan(builder: Builder, products: list[Product]) -> Plan:
    """Return the stages of products, one after the other; they share their buffers."""
    start = most = builder.buffers
    for it in products:
        builder.buffers = start
        if (it.rows or it.ones) and it.columns:
            leaves = count_leaves(it.inner, int(it.bias != 0))
            add = _by_leaves if is_tall(leaves, it.rows) else _by_rows
            add(builder, it, leaves)
        most = max(most, builder.buffers)
    builder.buffers = most
    for start in (0, *[len(builder.stages)] * 3):  # all before a first step
        builder.program(start)
    return builder.plan()


def _gated(builder: Builder, grad_y: Matrix, size: int) -> Matrix:
    """Add the stage of grad_y through the relu that made y; return where it is."""
    result = grad_y._replace(place=builder.buffer(size * builder.itemsize))
    each = -(-size // (TASKS_PER_THREAD * builder.threads * LINE)) * LINE
    start, mark = len(builder.tasks), builder.mark()
    builder.operation("gate", values=grad_y.place, gates=at(ARRAYS + 5), result=result.place)
    for first in range(0, size, each or 1):
        builder.task(range(mark, mark + 1), first, min(each, size - first))
    builder.stage(start)
    return result


def _pack(builder: Builder, it: Product, panels: tuple[Panel, ...], target: int) -> None:
    """Copy the leaf of B at which a task is."""
    builder.operation(
        "pack", source=it.b.place, row_step=it.b.row, column_step=it.b.column, steps=it.inner,
        depth=LEAF, panels=builder.panels(panels), panel_count=len(panels), target=target,
        width=panel_width(it.columns, builder.lanes),
    )  # fmt: skip


def _pays_to_pack(builder: Builder, it: Product) -> bool:
    return it.b.column != 1 or builder.machine.pays_to_pack(it.rows, it.columns, builder.lanes)


def _product(
    builder: Builder,
    it: Product,
    panels: tuple[Panel, ...],
    heights: set[int],
    c: Matrix,
    **fields: int,
) -> None:
    product(
        builder, panels, heights, it.columns, inner=it.inner, a=it.a.place, a_row=it.a.row,
        a_step=it.a.column, b=it.b.place, b_row=it.b.row, c=c.place, c_row=c.row, bias=it.bias,
        relu=it.relu, gate=it.gate, gate_row=it.columns, **fields,
    )  # fmt: skip


def _by_rows(builder: Builder, it: Product, leaves: int) -> None:
    """Add a stage whose tasks are blocks of rows, and where they are few, groups of panels."""
    panels, packed = default_panels(builder, it.rows, it.columns), 0
    if _pays_to_pack(builder, it):
        start, leaf_size = len(builder.tasks), LEAF * panel_width(it.columns, builder.lanes)
        count = count_leaves(it.inner, 0)
        packed = builder.buffer(count * leaf_size * builder.itemsize)
        parts = 1
        if builder.threads > FEW_THREADS:
            parts = min(len(panels), -(-builder.threads // count))
        for part in range(parts):
            mine, mark = share(len(panels), part, parts), builder.mark()
            _pack(builder, it, panels[mine.start : mine.stop], packed)
            for k in range(0, max(1, it.inner), LEAF):
                builder.task(range(mark, mark + 1), k, LEAF)
        builder.stage(start)
    each, groups = split_rows(it.rows, len(panels), builder.threads)
    near = -(-it.inner * it.columns * builder.itemsize // MOST_NEAR)
    groups = min(len(panels), max(groups, near))
    starts = range(0, max(1, it.rows), each)
    heights = {min(each, it.rows), it.rows - starts[-1]}
    fields = {} if it.rows else {"rows": 0}  # a task has one at least
    mark = builder.mark()
    for ones in (0, it.ones) if it.ones else (0,):
        for group in range(groups):
            mine = share(len(panels), group, groups)
            some = panels if groups == 1 else panels[mine.start : mine.stop]
            _product(builder, it, some, heights, it.c, packed=packed, ones=ones, **fields)
    first = len(builder.tasks)
    for group in range(groups):
        for start in starts:
            is_last_of_ones = it.ones and start == starts[-1]
            operation = mark + group + (groups if is_last_of_ones else 0)
            rows = max(1, min(each, it.rows - start))
            builder.task(range(operation, operation + 1), start, rows)
    builder.stage(first)


def _by_leaves(builder: Builder, it: Product, leaves: int) -> None:
    """Add a stage whose tasks are runs of leaves, whole subtrees; then a stage that joins them."""
    itemsize, width = builder.itemsize, panel_width(it.columns, builder.lanes)
    panels, packed, room = default_panels(builder, it.rows, it.columns), 0, 0
    each = leaves if it.relu or it.gate else split_leaves(leaves, builder.threads)
    rows = it.rows + (it.ones != 0)
    count, part = -(-leaves // each), rows * it.columns * itemsize
    c = it.c if count == 1 else Matrix(builder.buffer(count * part), it.columns, 1)
    if _pays_to_pack(builder, it):
        room = LEAF * width * itemsize
        packed = builder.scratch(0, room)
    partials = builder.scratch(room, count_levels(each) * (it.rows + 1) * width * itemsize)
    start = len(builder.tasks)
    for number, first in enumerate(range(0, leaves, each)):
        k, mine, is_last = first * LEAF, min(each, leaves - first), number == count - 1
        if number == 0 or (is_last and it.bias):  # of the runs only the last one has the bias
            mark = builder.mark()
            if packed:
                _pack(builder, it, panels, packed)
            _product(
                builder, it._replace(bias=it.bias if is_last else 0), panels, {it.rows}, c,
                packed=packed, scratch=partials, run=each, rows=it.rows, ones=it.ones, part=part,
            )  # fmt: skip
        steps = min(mine * LEAF, it.inner + (is_last and it.bias != 0) - k)
        builder.task(range(mark, builder.mark()), k, steps, leaves=mine, part=number)
    builder.stage(start)
    if count > 1:
        _join(builder, it, c.place, rows, count)


def _join(builder: Builder, it: Product, parts: int, rows: int, count: int) -> None:
    """Add the stage of the tree over all parts; each thread has a share of the rows."""
    itemsize, pairs, distance = builder.itemsize, [], 1
    while distance < count:
        pairs += [(left, left + distance) for left in range(0, count - distance, 2 * distance)]
        distance *= 2
    table = builder.constant(np.array(pairs, np.int64))
    row, start = it.columns * itemsize, len(builder.tasks)
    for thread in range(builder.threads):
        mine, mark = share(rows, thread, builder.threads), builder.mark()
        place = parts + mine.start * row
        builder.operation(
            "add", parts=place, apart=rows * row, size=len(mine) * it.columns, pairs=table,
            count=len(pairs),
        )  # fmt: skip
        builder.operation(
            "move", source=parts, source_row=row, target=it.c.place,
            target_row=it.c.row * itemsize, count=len(mine), size=row,
        )  # fmt: skip
        builder.task(range(mark, builder.mark()), mine.start)
    builder.stage(start)

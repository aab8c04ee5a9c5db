"""The second half of a step, for blocks of weights: gradient, update, packed copies.

    grad_W = x^T @ grad, and 1^T @ grad below it where there is a bias; g = grad_W + decay * W;
    W = what sgd, momentum or Adam makes of W and g

A block's gradient stays in the cache between its product and the update. For sgd without decay it
is never stored: the product's own end is W - rate * grad, which made an epoch of 784-512-256-10 4%
(7% with 32 samples) faster. The same task then renews the packed copies of its block, which the
next step reads.
"""

from fastmlp_kernels.plans.record import LEAF, PANEL_WORDS, RATE

from . import leaves, sparse
from .blocking import panel_width, whole_lines
from .blocks import Block, given_places, given_start, places
from .product import default_panels, product
from .state import State
from .table import at
from .ways import STATES, run_of_leaves


def before(state: State) -> None:
    """The stage before the first step: bring the blocks to where products read them; watch them."""
    builder, start = state.builder, len(state.builder.tasks)
    for number, block in enumerate(state.blocks):
        first = builder.mark()
        if number == 0 and state.training.rides:
            builder.operation("rates", rates=at(RATE))
        if block.layer.by_columns:
            _move(state, block, back=False)
        _renew_copies(state, block)
        if state.any_skips:
            _watch(state, block, signs=1)
        if block.layer.skips:
            _watch(state, block, signs=0)
        builder.task(range(first, builder.mark()))
    builder.stage(start, state.ends)


def after(state: State) -> None:
    """The stage after the last step: bring what lies in panels back."""
    builder, start = state.builder, len(state.builder.tasks)
    if not any(block.layer.by_columns for block in state.blocks):
        return
    for block in state.blocks:
        first = builder.mark()
        if block.layer.by_columns:
            _move(state, block, back=True)
        builder.task(range(first, builder.mark()))
    builder.stage(start, state.ends)


def update(state: State) -> None:
    """The stage of the weights' blocks."""
    builder, start, pairs = state.builder, len(state.builder.tasks), pairs_of_parts(state)
    for block in state.blocks:
        first = builder.mark()
        finish(state, block, gradient(state, block, pairs))
        builder.task(range(first, builder.mark()), 0, state.batch, state.batch)
    builder.stage(start, state.ends)


def pairs_of_parts(state: State) -> tuple[int, int] | None:
    """Return the pairs of parts that the tree adds, where the batch is cut by leaves."""
    by_leaves = run_of_leaves(state.batch, state.training.threads) > 0
    return leaves.pairs(state) if by_leaves else None


def gradient(state: State, block: Block, pairs: tuple[int, int] | None) -> int:
    """The block's gradient; return where it is, or 0 if its product has made the update."""
    if pairs is not None:
        return leaves.join(state, block, *pairs)
    layer, rides = block.layer, state.training.rides
    rides = rides and (not layer.skips or state.batch <= LEAF)
    place = (sparse.gradient if layer.skips else _gradient)(state, block, rides)
    return 0 if rides else place


def finish(state: State, block: Block, gradient: int) -> None:
    """Update a block by its gradient, if there is one, watch it, and renew the copies of it."""
    if gradient:
        _update(state, block, gradient)
        if block.layer.skips:
            _watch(state, block, signs=0)
    _renew_copies(state, block)


def _gradient(state: State, block: Block, rides: bool) -> int:
    """The product that is the block's gradient, or at once its update; return where it is."""
    builder, layer, itemsize = state.builder, block.layer, state.itemsize
    (x, x_row), size, row = state.layer_input(layer), 0, block.stride
    rows, target = block.stop - block.first, places(block, itemsize, state.size)[0]
    if state.training.clips:  # among all gradients, in their order
        target, row = state.gradients + given_start(block) * itemsize, layer.outputs
    elif not rides:
        size = whole_lines(block.size * itemsize)
        target = builder.scratch(0, size)
    x, grad = x + block.first * itemsize, state.now.grad[layer.number] + block.column * itemsize
    operands = dict(a=x, a_row=1, a_step=x_row, b=grad, b_row=layer.row)
    ends = dict(inner=state.batch, rate=at(RATE) if rides else 0, scratch=size)
    ones = state.one if block.has_bias else 0
    if layer.outputs > 1:
        panels = default_panels(builder, rows, block.columns)
        product(
            builder, panels, {rows}, block.columns,
            rows=rows, ones=ones, **operands, c=target, c_row=row, **ends,
        )  # fmt: skip
        return target
    # Of one column, x is the operand that fills vectors: a step of 10-16-1 takes 0.9 of its time.
    turned = dict(a=grad, a_row=1, a_step=layer.row, b=x, b_row=x_row)
    panels = default_panels(builder, 1, rows)
    product(builder, panels, {1}, rows, rows=1, **turned, c=target, c_row=rows, **ends)
    if ones:
        panels = default_panels(builder, 0, 1)
        c = target + rows * itemsize
        product(builder, panels, {0}, 1, rows=0, ones=ones, **operands, c=c, c_row=1, **ends)
    return target


def _update(state: State, block: Block, gradient: int) -> None:
    training, decayed = state.training, block.size
    if block.has_bias and not training.decay_bias:
        decayed -= block.stride
    count = 1 + STATES[training.optimizer]
    arrays = (*places(block, state.itemsize, state.size)[:count], 0, 0)
    for start, stop in (0, decayed), (decayed, block.size):
        by = start * state.itemsize
        W, first_state, second_state = (place + by if place else 0 for place in arrays[:3])
        if start < stop:
            state.builder.operation(
                training.optimizer, w=W, gradient=gradient + by, size=stop - start,
                first_state=first_state, second_state=second_state, without_decay=int(start > 0),
            )  # fmt: skip


def _watch(state: State, block: Block, signs: int) -> None:
    W = places(block, state.itemsize, state.size)[0]
    state.builder.operation("watch", values=W, size=block.size, signs=signs)


def _move(state: State, block: Block, back: bool) -> None:
    """Copy W and the optimizer's states to the panels, or back."""
    itemsize = state.itemsize
    row, width = block.layer.outputs * itemsize, block.stride * itemsize
    panels, given = (find(block, itemsize, state.size) for find in (places, given_places))
    for array in range(1 + STATES[state.training.optimizer]):
        ends = (given[array], row), (panels[array], width)
        (source, source_row), (target, target_row) = reversed(ends) if back else ends
        state.builder.operation(
            "move", source=source, source_row=source_row, target=target, target_row=target_row,
            count=block.rows, size=block.columns * itemsize,
        )  # fmt: skip


def _renew_copies(state: State, block: Block) -> None:
    """Renew what the packed copies of W and of W^T have of a block."""
    builder, layer, itemsize = state.builder, block.layer, state.itemsize
    W, lanes = places(block, itemsize, state.size)[0], builder.lanes
    if layer.packed:
        panels = default_panels(builder, 0, block.columns, is_packed=True)
        leaf_size = LEAF * panel_width(block.columns, lanes) * itemsize
        for row, steps in _pieces(block.first, block.stop, LEAF):
            builder.operation(
                "pack", source=W + (row - block.first) * block.stride * itemsize,
                row_step=block.stride, column_step=1, first_k=row % LEAF, steps=steps, depth=LEAF,
                panels=builder.panels(panels), panel_count=len(panels),
                target=layer.packed + row // LEAF * leaf_size,
            )  # fmt: skip
    if layer.packed_transpose:
        # Leaf by leaf, but for a product that passes over zeros each panel whole.
        depth = layer.outputs if layer.skips else LEAF
        panels = builder.machine.panels(layer.row_panels, layer.inputs, lanes)
        first_panel = builder.panels(panels) + block.first_panel * PANEL_WORDS * 8
        leaf_size = depth * panel_width(layer.inputs, lanes) * itemsize
        W -= block.first * block.stride * itemsize  # the panels count from the first row on
        for k, steps in _pieces(block.column, block.column + block.columns, depth):
            builder.operation(
                "pack", source=W + (k - block.column) * itemsize, row_step=1,
                column_step=block.stride, first_k=k % depth, steps=steps, depth=depth,
                panels=first_panel, panel_count=block.stop_panel - block.first_panel,
                target=layer.packed_transpose + k // depth * leaf_size,
            )  # fmt: skip


def _pieces(first: int, stop: int, depth: int) -> list[tuple[int, int]]:
    """Cut first .. stop where leaves end: the start and the length of each piece."""
    pieces = []
    while first < stop:
        steps = min(stop, (first // depth + 1) * depth) - first
        pieces.append((first, steps))
        first += steps
    return pieces

"""The second half of a step where the gradients' norm has a limit: three stages in place of one.

    norm = sqrt(sum of g * g) over all gradients, in their order, by leaves and tree
    W = what the optimizer makes of W and g * (max_norm / norm), where the norm is larger

The first writes each block's gradient among all gradients, in the order of the parameters, whose
leaves end anywhere in blocks. The second sums the squares of runs of leaves, whole subtrees. In the
third a task joins these few, copies its block's gradient clipped, and goes on as without a limit.
"""

from fastmlp_kernels.plans.record import LEAF

from . import weights
from .blocking import count_leaves, split_leaves, whole_lines
from .blocks import given_start
from .state import State
from .ways import run_of_leaves

FLOAT64 = 8  # bytes


def place(state: State, has_samples: bool) -> None:
    """Give the gradients their place, if not all batches are cut by leaves, and the squares."""
    if has_samples:
        state.gradients = state.builder.buffer(state.size * state.itemsize)
    state.squares = state.builder.buffer(count_leaves(state.size, 0) * FLOAT64)


def update(state: State) -> None:
    """The stages of the gradients, of their squares, and of the weights' blocks."""
    # Of a batch that is cut by leaves, they are the first part, to which all others are added.
    by_leaves = run_of_leaves(state.batch, state.training.threads) > 0
    gradients = state.parts if by_leaves else state.gradients
    count = count_leaves(state.size, 0)
    each = split_leaves(count, state.training.threads)
    _gradients(state, gradients)
    _squares(state, gradients, each)
    _clipped(state, gradients, each, -(-count // each))


def _gradients(state: State, gradients: int) -> None:
    builder, start, itemsize = state.builder, len(state.builder.tasks), state.itemsize
    pairs = weights.pairs_of_parts(state)
    for block in state.blocks:
        first = builder.mark()
        gradient = weights.gradient(state, block, pairs)
        if block.layer.skips:  # it lies as the block does
            builder.operation(
                "move", source=gradient, source_row=block.stride * itemsize,
                target=gradients + given_start(block) * itemsize,
                target_row=block.layer.outputs * itemsize, count=block.rows,
                size=block.columns * itemsize,
            )  # fmt: skip
        builder.task(range(first, builder.mark()), 0, state.batch, state.batch)
    builder.stage(start, state.ends)


def _squares(state: State, gradients: int, each: int) -> None:
    """each: the leaves of a task."""
    builder, start = state.builder, len(state.builder.tasks)
    for element in range(0, state.size, each * LEAF):
        first = builder.mark()
        builder.operation(
            "squares", values=gradients + element * state.itemsize,
            size=min(each * LEAF, state.size - element),
            sums=state.squares + element // LEAF * FLOAT64,
        )  # fmt: skip
        builder.task(range(first, builder.mark()))
    builder.stage(start)


def _clipped(state: State, gradients: int, each: int, count: int) -> None:
    """each, count: the leaves of the tasks before, and their number."""
    builder, start, itemsize = state.builder, len(state.builder.tasks), state.itemsize
    for block in state.blocks:
        first, row = builder.mark(), block.layer.outputs
        rows, columns, width = block.rows, block.columns, block.stride
        if width == row:
            rows, columns, width = 1, block.size, block.size
        size = whole_lines(block.size * itemsize)
        target = builder.scratch(0, size)
        builder.operation(
            "clip", gradient=gradients + given_start(block) * itemsize, row=row, target=target,
            rows=rows, columns=columns, width=width, sums=state.squares, each=each, count=count,
            scratch=builder.scratch(size, count * FLOAT64),
        )  # fmt: skip
        weights.finish(state, block, target)
        builder.task(range(first, builder.mark()), 0, state.batch, state.batch)
    builder.stage(start, state.ends)

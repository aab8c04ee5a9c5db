"""One product as an operation: what its walk needs, its scratch, its tiles."""

from fastmlp_kernels.plans.record import BLOCK_ROWS, LEAF

from .blocking import FAR_ROWS, FEW_LEAVES, Panel, count_leaves, count_levels, panel_width
from .table import Builder

FEW_ROWS = 8
TASKS_ROWS = -1  # in place of an operation's own rows


def default_panels(
    builder: Builder, rows: int, columns: int, is_packed: bool = False
) -> tuple[Panel, ...]:
    """Return the panels of a result of so many rows; those of a packed B are always the same."""
    count = builder.machine.count_panels(LEAF if is_packed else rows, columns, builder.lanes)
    return builder.machine.panels(count, columns, builder.lanes)


def product(
    builder: Builder,
    panels: tuple[Panel, ...],
    heights: set[int],
    columns: int,
    *,
    packed: int = 0,
    scratch: int = 0,
    run: int = 0,
    **fields: int,
) -> None:
    """Add a product. heights: the rows that its tasks have, all that it may meet.

    packed: B in leaves of panels, in place of b and b_row. scratch: bytes of scratch before its own
    partial tiles, or with a run of so many leaves, of which it is one, the operand of these.
    """
    lanes, itemsize, bias = builder.lanes, builder.itemsize, fields.get("bias", 0)
    width, most = panel_width(columns, lanes), max(heights)
    if packed:
        fields["b"], fields["b_leaf"], fields["b_row"] = packed, LEAF * width, 0
    at_once, inner = -1, fields.get("inner", 0)
    leaves = count_leaves(inner, int(bias != 0))
    if not run and leaves <= FEW_LEAVES and fields["a_row"] != 1:
        near = bool(packed) or fields["b_row"] * itemsize < FAR_ROWS
        at_once = 1 << 30 if near else FEW_ROWS
    if run:
        place = scratch
    else:
        rows = min(most, BLOCK_ROWS) + 1
        size = builder.machine.largest_tile if at_once > 0 else 0
        if most > at_once:
            size = max(size, rows * width)
        place = builder.scratch(scratch, count_levels(leaves) * size * itemsize)
    has_ones = fields.get("ones", 0) != 0
    builder.shapes |= builder.machine.named(panels, frozenset(heights), has_ones)
    fields.setdefault("rows", TASKS_ROWS)
    builder.operation(
        "product", width=width, at_once=at_once, level=builder.machine.largest_tile,
        panels=builder.panels(panels), panel_count=len(panels), scratch=place, itemsize=itemsize,
        by_leaf=int(run > 0), **fields,
    )  # fmt: skip

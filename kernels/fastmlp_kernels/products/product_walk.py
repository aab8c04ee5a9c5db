"""A product of a plan: the walk over blocks of rows, leaves, panels and tiles.

    C = gate(relu(A @ B + bias)), or C - rate * (A @ B); gate(c) is c * (gate > 0 ? 1 : 0), or
    c * gate, where that is the slope of another activation

A is a[i * a_row + k * a_step] (and a row of ones below, if `ones` is the address of a 1), B lies in
place or packed by leaves; strides count elements. The micro-kernels are called by address, so the
walk has no dtype. Where tasks are leaves of k (`by_leaf`), it is one leaf of a run, whose partial
tiles stay in the scratch, and the last writes C to the run's part. Of A is fetched meanwhile, where
k runs along the memory, the next block's rows, a share of each for each panel; where k runs across
it, one cache line for each k, from the next block on.
"""

from functools import cache

from fastmlp_kernels.compiling.jit import address_of
from fastmlp_kernels.plans.operands import (
    KERNEL,
    moved,
    operation_at,
    own_at,
    panel_at,
    place,
    tile_at,
    word,
)
from fastmlp_kernels.plans.parallel import call
from fastmlp_kernels.plans.record import BLOCK_ROWS, LEAF, LINE, PANEL_WORDS, TILE_WORDS, TILES

_at = operation_at["product"]


def _product(row, shared, own):
    it, me = _at(row), own_at(own)
    size, by_leaf, a_row, a_step, c_row = it.itemsize, it.by_leaf, it.a_row, it.a_step, it.c_row
    rows, inner = me.rows if it.rows < 0 else it.rows, it.inner
    bias, rate = place(it.bias, shared, own), place(it.rate, shared, own)
    i_bytes, k_bytes, number, last = me.row * size, 0, 0, True  # from the start, with a stride of 1
    if by_leaf:
        i_bytes, k_bytes, number, last = 0, i_bytes, me.leaf, me.leaf == me.leaves - 1
        bias = bias if last else 0
        inner = me.rows - int(bias != 0)
    leaves = max(1, (inner + int(bias != 0) + LEAF - 1) // LEAF)
    a = moved(it.a, i_bytes * a_row + k_bytes * a_step, shared, own)
    b = moved(it.b, k_bytes * it.b_row, shared, own)
    c = moved(it.c, i_bytes * c_row + me.part * it.part, shared, own)
    gate = moved(it.gate, i_bytes * it.gate_row, shared, own)
    ones, panels = place(it.ones, shared, own), place(it.panels, shared, own)
    scratch, spread = place(it.scratch, shared, own), rows > it.at_once
    each = 1 if spread else leaves  # spread: a tile has partial tiles of its own
    for block in range(0, max(rows, 1), BLOCK_ROWS):
        stop = min(block + BLOCK_ROWS, rows)
        origin, height = (0, rows + 1) if by_leaf else (block, stop - block + 1)
        level_size = height * it.width if spread else it.level
        for leaf in range(0, leaves, each):
            final, start = leaf + each - 1, leaf * LEAF
            for p in range(it.panel_count):
                panel, i = panel_at(panels + p * 8 * PANEL_WORDS), block
                first, b_step, b_next = panel.first, it.b_row, LEAF * it.b_row
                b_place = b + (start * b_step + first) * size
                if it.b_leaf:
                    b_step, b_next = panel.width, it.b_leaf
                    b_place = b + (leaf * b_next + first * LEAF) * size
                while i < stop or (i == rows and ones != 0):
                    tile = tile_at(panels + panel.tiles + (stop - i) * 8 * TILE_WORDS)
                    # Fetched meanwhile: see the end of the docstring.
                    i_next, k_next, ahead_step = i + BLOCK_ROWS, start, a_step
                    if a_row != 1:
                        ahead_step = max(1, tile.rows // it.panel_count)
                        ahead = i_next * a_row + (p * inner + start) * ahead_step
                        ahead_tile = tile.rows * a_row
                    else:
                        if i_next >= rows:
                            i_next, k_next = 0, start + LEAF
                        line = LINE // size
                        ahead = k_next * a_step + i_next + p * line
                        ahead_tile = it.panel_count * line
                    tile_size = tile.rows * panel.width if spread else 0
                    partial = height * first + (i - origin) * panel.width if spread else 0
                    call(
                        word(shared, TILES + tile.number), tile.count,
                        ones if i == rows else a + (i * a_row + start * a_step) * size,
                        0 if i == rows else a_row, 0 if i == rows else a_step,
                        b_place, b_step, b_next, number + leaf, each,
                        min(LEAF, inner - final * LEAF), int(last and final == leaves - 1),
                        scratch + partial * size, level_size, tile_size,
                        c + (i * c_row + first) * size, c_row, panel.columns,
                        bias + first * size if bias and final == leaves - 1 else 0,
                        it.relu, gate + (i * it.gate_row + first) * size if gate else 0,
                        it.gate_row, rate, a + ahead * size, ahead_step, ahead_tile,
                    )  # fmt: skip
                    i += tile.count * tile.rows


@cache
def product_kernel():
    """The address of the compiled walk."""
    return address_of(_product, KERNEL)

"""Packing: copies of B in panels, each a run of columns that a tile reads row after row.

A packed leaf holds up to 256 rows k of B, panel after panel; the panel that starts at column
`first` starts at element first * 256, and its row k at k * width, padded with zeros to whole
vectors.
"""

import numpy as np

from fastmlp_kernels.blocking import count_panels, set_panels
from fastmlp_kernels.jit import jit
from fastmlp_kernels.memory import load, store, transpose_block


@jit
def make_panels(rows, columns, lanes):
    """The panels (set_panels) of a result that is computed so many rows at a time."""
    return some_panels(count_panels(rows, columns, lanes), columns, lanes)


@jit
def some_panels(count, columns, lanes):
    """The same, so many."""
    panels = np.empty((count, 5), np.int64)
    set_panels(columns, lanes, panels)
    return panels


@jit
def pack_rows(
    zero, source, b_row, b_column, first_k, steps, depth, panels, lanes, itemsize, target
):
    """Copy `steps` rows of B, from row first_k of a leaf on, to the packed leaf at `target`.

    source: the address of B's row first_k; strides in elements. depth: the rows that a panel has
    room for, LEAF where B is packed by leaves.
    """
    for p in range(panels.shape[0]):
        first, columns, width = panels[p, 0], panels[p, 1], panels[p, 4]
        read = source + first * b_column * itemsize
        place = target + (first * depth + first_k * width) * itemsize
        squares = 0
        if b_row == 1 and lanes > 1:
            squares = transpose_squares(
                zero, read, b_column, steps, columns, lanes, itemsize, place, width
            )
        for k in range(steps):
            done = squares if k < steps // lanes * lanes else 0
            if b_column == 1:
                for j in range(columns):
                    store(load(zero, read, k * b_row + j), place, k * width + j)
            else:
                for j in range(done, columns):
                    store(load(zero, read, k * b_row + j * b_column), place, k * width + j)
            for j in range(columns, width):
                store(zero, place, k * width + j)


@jit
def transpose_squares(zero, source, b_column, steps, columns, lanes, itemsize, place, width):
    """Pack what fits in squares of a vector's lanes; return how many columns that was."""
    squares = columns // lanes * lanes
    for j in range(0, squares, lanes):
        for k in range(0, steps // lanes * lanes, lanes):
            transpose_block(
                zero,
                source + (j * b_column + k) * itemsize,
                b_column,
                place + (k * width + j) * itemsize,
                width,
            )
    return squares

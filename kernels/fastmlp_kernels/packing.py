"""Packing: copies of B in panels, each a run of columns that a tile reads row after row.

A packed leaf holds up to 256 rows k of B, panel after panel; the panel that starts at column
`first` starts at element first * 256, and its row k at k * width, padded with zeros to whole
vectors.
"""

from fastmlp_kernels.jit import jit
from fastmlp_kernels.memory import transpose_block


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

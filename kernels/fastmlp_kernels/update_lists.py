"""The table of an update, of lists of usual arrays: read, checked and noted in one call.

Each array is C-contiguous, aligned, of NumPy's own class and of two axes at most; all have one
dtype, and those of a parameter its shape.
"""

import numpy as np

from fastmlp_kernels.compiling.jit import integer, jit, kernel
from fastmlp_kernels.given import (
    ALIGNED,
    FLOAT32,
    FLOAT64,
    WRITEABLE,
    given,
    have_one_shape,
    is_packed,
    itemsize_of,
    list_item,
)
from fastmlp_kernels.plans.operands import set_word
from fastmlp_kernels.update import ROW_SIZE


@jit
def _fits(array, like, kind, flags):
    fits = is_packed(array, kind) and array.flags & flags == flags
    return fits and have_one_shape(array, like)


@kernel(lambda _: (given, integer, given, given, given, given), holds_gil=True)
def place_all(table, count, params, grads, first_states, second_states):
    """Fill the table's rows, see update.py; return the dtype's number, or -1, and the elements.

    count: of the rows, and of the arrays in each of the lists, which nobody else has.
    """
    kind, elements = list_item(params, np.int64(0)).kind, 0
    if kind != FLOAT32 and kind != FLOAT64:
        return -1, 0
    written = ALIGNED | WRITEABLE
    for row in range(count):
        p, g = list_item(params, row), list_item(grads, row)
        first, second = list_item(first_states, row), list_item(second_states, row)
        fits = _fits(p, p, kind, written) and _fits(g, p, kind, ALIGNED)
        if not (fits and _fits(first, p, kind, written) and _fits(second, p, kind, written)):
            return -1, 0
        place = table.place + row * ROW_SIZE
        set_word(place, 0, p.rows * p.columns * itemsize_of(kind))
        set_word(place, 1, p.place)
        set_word(place, 2, g.place)
        set_word(place, 3, first.place)
        set_word(place, 4, second.place)
        elements += p.rows * p.columns
    return kind, elements

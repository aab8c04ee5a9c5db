"""Operations on rows: each thread takes a share of the rows of up to three arrays.

    function(zero)(data, stage, thread): what one thread does, a C function; see `my_rows`

One compiled call for each dtype hands the arrays over to whatever operation: a loop over threads of
its own would cost each operation a second of compiling.
"""

from collections import namedtuple

import numpy as np
from numba.core import types

from fastmlp_kernels.jit import integer, jit, kernel, packed, share
from fastmlp_kernels.memory import add_one, address, fields_at, keep_alive, matrix_at
from fastmlp_kernels.parallel import SharedKernel, on_threads

# How many threads have finished; addresses of arrays (rows, width); a float64 as its bits.
Rows = namedtuple("Rows", "finished first second third rows width itemsize threads scalar")
FIELDS = len(Rows._fields)


@kernel(
    lambda real: (
        integer, packed(real, 2), packed(real, 2), packed(real, 2), types.float64, integer
    )
)  # fmt: skip
def run(code, first, second, third, scalar, num_threads):
    """Call the C function at `code` on each thread."""
    fields = Rows(
        0, address(first), address(second), address(third), first.shape[0], first.shape[1],
        first.itemsize, num_threads, np.float64(scalar).view(np.int64),
    )  # fmt: skip
    on_threads(code, fields, num_threads)
    keep_alive(first), keep_alive(second), keep_alive(third)


class RowsKernel(SharedKernel):
    """kernel[dtype](first, second, third, scalar, num_threads): arrays of one shape (rows, width).

    They are C-contiguous; an operation on two has one of them twice. scalar: a float64.
    """

    def __init__(self, function):
        super().__init__(function, run)


@jit
def my_rows(zero, data, thread):
    """The thread's rows of the three arrays, then the scalar."""
    it = Rows(*fields_at(data, FIELDS))
    mine = share(it.rows, thread, it.threads)
    count, start = mine.stop - mine.start, mine.start * it.width * it.itemsize
    first = matrix_at(zero, it.first + start, count, it.width)
    second = matrix_at(zero, it.second + start, count, it.width)
    third = matrix_at(zero, it.third + start, count, it.width)
    return first, second, third, np.int64(it.scalar).view(np.float64)


@jit
def finish(data):
    """Tell that the thread has done its share; without it `run` raises MemoryError."""
    add_one(data)

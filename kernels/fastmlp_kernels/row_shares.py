"""Operations on rows: each thread takes a share of the rows of up to three arrays.

    function(zero)(data, stage, thread): what one thread does, a C function; see `my_rows`

One compiled call for each dtype hands the arrays over to whatever operation: a loop over threads of
its own would cost each operation a second of compiling.
"""

from collections import namedtuple
from functools import partial

import numpy as np
from numba.core import types

from fastmlp_kernels.jit import address_of, integer, jit, kernel, packed, share
from fastmlp_kernels.memory import add_one, address, array_at, fields_at, keep_alive
from fastmlp_kernels.parallel import STAGE, run_stage

# Addresses of arrays (rows, width) and of the counter; a float64 as its bits.
Rows = namedtuple("Rows", "first second third rows width itemsize threads scalar counter")
FIELDS = len(Rows._fields)


@kernel(
    lambda real: (
        integer, packed(real, 2), packed(real, 2), packed(real, 2), types.float64, integer
    )
)  # fmt: skip
def run(code, first, second, third, scalar, num_threads):
    """Call the C function at `code` on each thread."""
    counter = np.empty(2, np.int64)
    data = np.array(
        Rows(
            address(first), address(second), address(third), first.shape[0], first.shape[1],
            first.itemsize, num_threads, np.float64(scalar).view(np.int64), address(counter),
        )
    )  # fmt: skip
    run_stage(code, data, 0, num_threads, counter, num_threads)
    keep_alive(first), keep_alive(second), keep_alive(third)


class RowsKernel(dict):
    """kernel[dtype](first, second, third, scalar, num_threads): arrays of one shape (rows, width).

    They are C-contiguous; an operation on two has one of them twice. scalar: a float64.
    """

    def __init__(self, function):
        super().__init__()
        self.function = function

    def __missing__(self, dtype):
        code = address_of(self.function(dtype.type(0)), STAGE)
        self[dtype] = partial(run[dtype], code)
        return self[dtype]


@jit
def my_rows(zero, data, thread):
    """The thread's rows of the three arrays, then the scalar."""
    it = Rows(*fields_at(data, FIELDS))
    mine = share(it.rows, thread, it.threads)
    count = mine.stop - mine.start
    start = mine.start * it.width * it.itemsize
    first = array_at(zero, it.first + start, count * it.width).reshape(count, it.width)
    second = array_at(zero, it.second + start, count * it.width).reshape(count, it.width)
    third = array_at(zero, it.third + start, count * it.width).reshape(count, it.width)
    return first, second, third, np.int64(it.scalar).view(np.float64)


@jit
def finish(data):
    """Tell that the thread has done its share; without it `run` raises MemoryError."""
    add_one(Rows(*fields_at(data, FIELDS)).counter + 8)

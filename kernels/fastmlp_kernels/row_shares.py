"""Operations on rows: each thread takes a share of the rows of up to three arrays.

    function(zero)(data, stage, thread): what one thread does, a C function; see `my_rows`

One compiled call hands the arrays over to whatever operation: a loop over threads of its own would
cost each operation a second of compiling.
"""

from collections import namedtuple
from functools import partial

import numpy as np
from numba.core import types

from fastmlp_kernels.compiling.jit import integer, jit, kernel, share
from fastmlp_kernels.given import (
    C_CONTIGUOUS,
    FLOAT32,
    FLOAT64,
    given,
    have_one_shape,
    is_packed,
    itemsize_of,
    like,
    none,
    read,
    release_gil,
    take_gil,
)
from fastmlp_kernels.plans.memory import add_one, fields_at, matrix_at, on_stack
from fastmlp_kernels.plans.operands import record_at
from fastmlp_kernels.plans.parallel import SharedKernel, call_stage, check_room, on_threads
from fastmlp_kernels.plans.record import ROWWISE_FIELDS

# How many threads have finished; addresses of arrays (rows, width); a float64 as its bits.
Rows = namedtuple("Rows", "finished first second third rows width itemsize threads scalar")
FIELDS = len(Rows._fields)
NONE = np.int64(0)  # as a literal, it would have what it is passed to compiled once more

_rowwise_at = record_at(ROWWISE_FIELDS)


@kernel(lambda _: (integer, integer, given, given, given, types.float64, integer))
def run(code, kind, first, second, third, scalar, num_threads):
    """Call the C function at `code` on each thread; return whether the arrays are what it needs.

    They are C-contiguous, of one dtype, whose number is `kind`, and of one shape of two axes at
    most. Else nothing is done.
    """
    packed = is_packed(first, kind) and is_packed(second, kind) and is_packed(third, kind)
    if not (packed and have_one_shape(first, second) and have_one_shape(first, third)):
        return False
    fields = Rows(
        0, first.place, second.place, third.place, first.rows, first.columns,
        itemsize_of(kind), num_threads, np.float64(scalar).view(np.int64),
    )  # fmt: skip
    on_threads(code, fields, num_threads)
    return True


@jit
def _code(it, x):
    """The address of the function for an array, 0 where there is none, or the array isn't usual."""
    if x.axes < 0 or x.axes > 2 or x.flags & C_CONTIGUOUS == 0:
        return NONE
    if it.is_matrix and (x.axes != 2 or x.columns == 0):
        return NONE
    # Large ones are for several threads, and for memory that is used again.
    if x.rows * x.columns * (it.work if it.work else x.columns) >= it.most_work:
        return NONE
    if x.kind == FLOAT32:
        return it.float32
    return it.float64 if x.kind == FLOAT64 else NONE


@kernel(lambda _: (given, given, given, types.float64), holds_gil=True)
def of_usual(words, x, grad_y, scalar):
    """Return the results for C-contiguous arrays of little work, new ones; else None.

    words: ROWWISE_FIELDS. The function is given x, grad_y and the result, or x and the results,
    twice the only one. With one result, or none, None comes second.
    """
    it = _rowwise_at(words.place)
    code = _code(it, x)
    if code == NONE:
        return none(), none()
    if it.inputs == 2 and not (is_packed(grad_y, x.kind) and have_one_shape(x, grad_y)):
        return none(), none()
    result = like(x, none())
    other = like(x, result) if it.results == 2 else none()
    second = third = read(result).place
    if it.inputs == 2:
        second = grad_y.place
    elif it.results == 2:
        third = read(other).place
    fields = Rows(
        0, x.place, second, third, x.rows, x.columns, itemsize_of(x.kind), 1,
        np.float64(scalar).view(np.int64),
    )  # fmt: skip
    data, state = on_stack(fields), release_gil()
    call_stage(code, data, NONE, NONE)
    take_gil(state)
    check_room(data, 1)
    return result, other


class RowsKernel(SharedKernel):
    """kernel[dtype](first, second, third, scalar, num_threads): see `run`.

    An operation on two arrays has one of them twice. scalar: a float64.
    """

    def __init__(self, function):
        super().__init__(function, run)

    def __missing__(self, dtype):
        self[dtype] = partial(super().__missing__(dtype), dtype.num)
        return self[dtype]


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

"""The updates of a list of arrays, in place, in one parallel call.

sgd:      p = p - lr * g
momentum: v = mu * v + g; p = p - lr * v
Adam:     m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * (g * g);
          p = p - (s * m) / (sqrt(v) / c + eps), s = lr / (1 - b1^t), c = sqrt(1 - b2^t)

`table` (int64) has a row for each parameter: its size in bytes, then the addresses of the
parameter, its gradient, and up to two arrays of state, all contiguous, aligned and of the dtype of
`like`, an array that is not read. Each thread takes the same share of every array. `constants`
are float64, rounded here to the dtype.
"""

import numpy as np
from numba import prange
from numba.core import types

from fastmlp_kernels.float_mode import in_ieee_mode
from fastmlp_kernels.jit import integer, jit, kernel, packed, result, share
from fastmlp_kernels.memory import array_at
from fastmlp_kernels.subnormal import decayed, negligible_beside, without_tiny

MOST_ARRAYS = 4  # of one row: parameter, gradient, and the two states of Adam


@jit
def sgd_array(p, g, learning_rate):
    """One array; the scalars have its dtype."""
    for i in range(p.size):
        p[i] = p[i] - learning_rate * g[i]


@jit
def momentum_array(p, g, velocity, learning_rate, momentum):
    """One array; the scalars have its dtype."""
    least = negligible_beside(learning_rate)
    for i in range(p.size):
        v = decayed(momentum, velocity[i]) + g[i]
        velocity[i] = v
        p[i] = p[i] - learning_rate * without_tiny(v, p[i], least)


@jit
def adam_array(p, g, mean, square, decay, scale):
    """One array; decay: (b1, 1 - b1, b2, 1 - b2), scale: (s, c, eps), of its dtype."""
    b1, rest1, b2, rest2 = decay
    s, c, epsilon = scale
    # The divisor is at least epsilon; with one below 0 nothing is known of it.
    least = negligible_beside(s / max(epsilon, p.dtype.type(0)))
    for i in range(p.size):
        gradient = g[i]
        m = decayed(b1, mean[i]) + rest1 * gradient
        v = b2 * square[i] + rest2 * (gradient * gradient)
        mean[i] = m
        square[i] = v
        p[i] = p[i] - (s * without_tiny(m, p[i], least)) / (np.sqrt(v) / c + epsilon)


@jit
def _part_of(table, row, column, like, part, parts):
    """Part number `part` of the array in `column` of the row."""
    size = table[row, 0] // like.itemsize
    array = array_at(like.dtype.type(0), table[row, column], size)
    return array[share(size, part, parts)]


@in_ieee_mode
def _sgd_part(table, constants, like, part, parts):
    learning_rate = like.dtype.type(constants[0])
    for row in range(table.shape[0]):
        p = _part_of(table, row, 1, like, part, parts)
        g = _part_of(table, row, 2, like, part, parts)
        sgd_array(p, g, learning_rate)


@in_ieee_mode
def _momentum_part(table, constants, like, part, parts):
    real = like.dtype.type
    learning_rate, momentum = real(constants[0]), real(constants[1])
    for row in range(table.shape[0]):
        p = _part_of(table, row, 1, like, part, parts)
        g = _part_of(table, row, 2, like, part, parts)
        velocity = _part_of(table, row, 3, like, part, parts)
        momentum_array(p, g, velocity, learning_rate, momentum)


@in_ieee_mode
def _adam_part(table, constants, like, part, parts):
    real = like.dtype.type
    b1, rest1, b2, rest2, s, c, epsilon = constants
    decay = real(b1), real(rest1), real(b2), real(rest2)
    scale = real(s), real(c), real(epsilon)
    for row in range(table.shape[0]):
        p = _part_of(table, row, 1, like, part, parts)
        g = _part_of(table, row, 2, like, part, parts)
        mean = _part_of(table, row, 3, like, part, parts)
        square = _part_of(table, row, 4, like, part, parts)
        adam_array(p, g, mean, square, decay, scale)


def _signature(constants):
    return lambda real: (
        packed(types.int64, 2),
        types.UniTuple(types.float64, constants),
        packed(real, 1),
        integer,
    )


@kernel(_signature(1), parallel=True)
def sgd(table, constants, like, num_threads):
    """constants: (lr,)."""
    if num_threads == 1:
        _sgd_part(table, constants, like, 0, 1)
    else:
        for part in prange(num_threads):
            _sgd_part(table, constants, like, part, num_threads)


@kernel(_signature(2), parallel=True)
def momentum(table, constants, like, num_threads):
    """constants: (lr, mu)."""
    if num_threads == 1:
        _momentum_part(table, constants, like, 0, 1)
    else:
        for part in prange(num_threads):
            _momentum_part(table, constants, like, part, num_threads)


@kernel(_signature(7), parallel=True)
def adam(table, constants, like, num_threads):
    """constants: (b1, 1 - b1, b2, 1 - b2, s, c, eps)."""
    if num_threads == 1:
        _adam_part(table, constants, like, 0, 1)
    else:
        for part in prange(num_threads):
            _adam_part(table, constants, like, part, num_threads)


@kernel(lambda real: (result(types.int64, 2), integer, *[packed(real, 1)] * MOST_ARRAYS))
def place(table, row, p, g, first_state, second_state):
    """Fill a row of the table. It costs a third of reading the addresses in Python."""
    table[row, 0] = p.size * p.itemsize
    table[row, 1] = p.ctypes.data
    table[row, 2] = g.ctypes.data
    table[row, 3] = first_state.ctypes.data
    table[row, 4] = second_state.ctypes.data


@jit
def _sort(values):
    if values.size > 64:
        values.sort()
        return
    for end in range(1, values.size):  # by insertion: NumPy's sort takes 0.4 us to begin
        value = values[end]
        place = end
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value


@kernel(lambda real: (packed(types.int64, 2), integer))
def disjoint(table, arrays):
    """Tell whether no two of the first `arrays` arrays of all rows share a byte."""
    # They are disjoint if and only if, with starts and ends each sorted, none starts before the
    # one in front of it has ended.
    starts = np.empty(table.shape[0] * arrays, np.int64)
    ends = np.empty_like(starts)
    for row in range(table.shape[0]):
        for array in range(arrays):
            starts[row * arrays + array] = table[row, 1 + array]
            ends[row * arrays + array] = table[row, 1 + array] + table[row, 0]
    _sort(starts)
    _sort(ends)
    overlaps = 0
    for i in range(starts.size - 1):
        overlaps += starts[i + 1] < ends[i]
    return overlaps == 0

"""The updates of a list of arrays, in place, in one parallel call.

sgd:      p = p - lr * g
momentum: v = mu * v + g; p = p - lr * v
nesterov: v = mu * v + g; p = p - lr * (g + mu * v)
Adam:     m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * (g * g);
          p = p - (s * m) / (sqrt(v) / c + eps), s = lr / (1 - b1^t), c = sqrt(1 - b2^t)
AdamW:    the same with keep * p in place of p, keep = 1 - lr * decay

`table` (int64) has a row for each parameter: its size in bytes, then the addresses of the
parameter, its gradient, and up to two arrays of state, all contiguous, aligned and of one dtype.
Each thread takes the same share of every array. `constants` are float64, rounded here to the dtype.

Each loop reads all of an element before it writes anything. A CPU tells addresses apart by their
last 12 bits at first, and arrays of one size often have the same there: where p was read after m
was written, the read waited for that write, and Adam of 535818 parameters took 1.2 times as long.
"""

from collections import namedtuple

import numpy as np
from numba.core import types

from fastmlp_kernels.arithmetic.fma import fma
from fastmlp_kernels.arithmetic.subnormal import decayed, negligible_beside, without_tiny
from fastmlp_kernels.compiling.cpu import has_fma
from fastmlp_kernels.compiling.jit import integer, jit, kernel, packed, result, share
from fastmlp_kernels.plans.memory import add_one, address, array_at, fields_at, keep_alive, load
from fastmlp_kernels.plans.parallel import SharedKernel, on_threads

MOST_ARRAYS = 4  # of one row: parameter, gradient, and the two states of Adam
ROW_SIZE = 8 * (1 + MOST_ARRAYS)  # bytes


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
        old = p[i]
        v = decayed(momentum, velocity[i]) + g[i]
        velocity[i] = v
        p[i] = old - learning_rate * without_tiny(v, old, least)


@jit
def nesterov_array(p, g, velocity, learning_rate, momentum):
    """One array; the scalars have its dtype."""
    least = negligible_beside(learning_rate)
    for i in range(p.size):
        gradient, old = g[i], p[i]
        v = decayed(momentum, velocity[i]) + gradient
        velocity[i] = v
        ahead = gradient + decayed(momentum, v)
        p[i] = old - learning_rate * without_tiny(ahead, old, least)


@jit
def reciprocal(c):
    """1 / c in two parts: rounded, and the rest, rounded. 2^-30 < c <= 1."""
    one = c / c
    high = one / c
    return high, fma(-high, c, one) / c


@jit
def _quotient_by_fma(root, c, inverse):
    """root / c, rounded once; root: the square root of any number; inverse: reciprocal(c).

    Divisions and square roots share a unit, which Adam keeps busy: with four multiplications here
    it takes 0.85 of the time. `near` is less than a last place away from the quotient, so the
    remainder is exact, and the quotient rightly rounded (Markstein, "Computation of elementary
    functions on the IBM RISC System/6000 processor", 1990). Roots are too far from underflow and
    overflow to meet them; only infinity has no remainder.
    """
    high, low = inverse
    near = fma(root, high, root * low)
    rounded = fma(fma(-near, c, root), high, near)
    return rounded if root < np.inf else root


@jit
def _quotient_by_division(root, c, inverse):
    return root / c


quotient = _quotient_by_fma if has_fma() else _quotient_by_division


@jit
def adam_array(p, g, mean, square, decay, scale):
    """One array; decay: (b1, 1 - b1, b2, 1 - b2), scale: (s, c, eps), of its dtype."""
    b1, rest1, b2, rest2 = decay
    s, c, epsilon = scale
    # The divisor is at least epsilon; with one below 0 nothing is known of it.
    least = negligible_beside(s / max(epsilon, p.dtype.type(0)))
    inverse = reciprocal(c)
    for i in range(p.size):
        gradient, old = g[i], p[i]
        m = decayed(b1, mean[i]) + rest1 * gradient
        v = b2 * square[i] + rest2 * (gradient * gradient)
        mean[i] = m
        square[i] = v
        divisor = quotient(np.sqrt(v), c, inverse) + epsilon
        p[i] = old - (s * without_tiny(m, old, least)) / divisor


@jit
def adamw_array(p, g, mean, square, decay, scale, keep):
    """The same of keep * p: a loop of its own, as its product is 3% of the time."""
    b1, rest1, b2, rest2 = decay
    s, c, epsilon = scale
    least = negligible_beside(s / max(epsilon, p.dtype.type(0)))
    inverse = reciprocal(c)
    for i in range(p.size):
        gradient, kept = g[i], keep * p[i]
        m = decayed(b1, mean[i]) + rest1 * gradient
        v = b2 * square[i] + rest2 * (gradient * gradient)
        mean[i] = m
        square[i] = v
        divisor = quotient(np.sqrt(v), c, inverse) + epsilon
        p[i] = kept - (s * without_tiny(m, kept, least)) / divisor


# What threads share: how many have finished, addresses, the table's rows, an element's bytes;
# constants are float64.
Lists = namedtuple("Lists", "finished table rows constants itemsize threads")
FIELDS = len(Lists._fields)


@jit
def _my_part(zero, it, row, column, thread):
    """The thread's part of the array in `column` of the row."""
    place = it.table + row * ROW_SIZE
    size = load(np.int64(0), place, 0) // it.itemsize
    return array_at(zero, load(np.int64(0), place, column), size)[share(size, thread, it.threads)]


def _sgd(zero):
    def sgd_of_lists(data, _, thread):
        it = Lists(*fields_at(data, FIELDS))
        constants = array_at(np.float64(0), it.constants, 1)
        for row in range(it.rows):
            p, g = _my_part(zero, it, row, 1, thread), _my_part(zero, it, row, 2, thread)
            sgd_array(p, g, p.dtype.type(constants[0]))
        add_one(data)

    return sgd_of_lists


def _momentum(zero):
    def momentum_of_lists(data, _, thread):
        it = Lists(*fields_at(data, FIELDS))
        constants = array_at(np.float64(0), it.constants, 2)
        for row in range(it.rows):
            p, g = _my_part(zero, it, row, 1, thread), _my_part(zero, it, row, 2, thread)
            velocity, real = _my_part(zero, it, row, 3, thread), p.dtype.type
            momentum_array(p, g, velocity, real(constants[0]), real(constants[1]))
        add_one(data)

    return momentum_of_lists


def _nesterov(zero):
    def nesterov_of_lists(data, _, thread):
        it = Lists(*fields_at(data, FIELDS))
        constants = array_at(np.float64(0), it.constants, 2)
        for row in range(it.rows):
            p, g = _my_part(zero, it, row, 1, thread), _my_part(zero, it, row, 2, thread)
            velocity, real = _my_part(zero, it, row, 3, thread), p.dtype.type
            nesterov_array(p, g, velocity, real(constants[0]), real(constants[1]))
        add_one(data)

    return nesterov_of_lists


def _adam(zero):
    def adam_of_lists(data, _, thread):
        it = Lists(*fields_at(data, FIELDS))
        k = array_at(np.float64(0), it.constants, 7)
        for row in range(it.rows):
            p, g = _my_part(zero, it, row, 1, thread), _my_part(zero, it, row, 2, thread)
            mean, square = _my_part(zero, it, row, 3, thread), _my_part(zero, it, row, 4, thread)
            real = p.dtype.type
            decay = real(k[0]), real(k[1]), real(k[2]), real(k[3])
            adam_array(p, g, mean, square, decay, (real(k[4]), real(k[5]), real(k[6])))
        add_one(data)

    return adam_of_lists


def _adamw(zero):
    def adamw_of_lists(data, _, thread):
        it = Lists(*fields_at(data, FIELDS))
        k = array_at(np.float64(0), it.constants, 8)
        for row in range(it.rows):
            p, g = _my_part(zero, it, row, 1, thread), _my_part(zero, it, row, 2, thread)
            mean, square = _my_part(zero, it, row, 3, thread), _my_part(zero, it, row, 4, thread)
            real = p.dtype.type
            decay = real(k[0]), real(k[1]), real(k[2]), real(k[3])
            scale = real(k[4]), real(k[5]), real(k[6])
            adamw_array(p, g, mean, square, decay, scale, real(k[7]))
        add_one(data)

    return adamw_of_lists


@kernel(
    lambda _: (
        integer, packed(integer, 2), integer, integer, packed(types.float64, 1), integer, integer
    )
)  # fmt: skip
def _run(code, table, first, stop, constants, itemsize, num_threads):
    """Call the C function at `code` on each thread, for the table's rows from first to stop."""
    fields = Lists(
        0, address(table) + first * ROW_SIZE, stop - first, address(constants), itemsize,
        num_threads,
    )  # fmt: skip
    on_threads(code, fields, num_threads)
    keep_alive(table), keep_alive(constants)


class UpdateKernel(SharedKernel):
    """kernel[dtype](table, first, stop, constants, itemsize, num_threads); see `_run`."""

    def __init__(self, function):
        super().__init__(function, _run)


sgd = UpdateKernel(_sgd)  # constants: (lr,)
momentum = UpdateKernel(_momentum)  # (lr, mu)
nesterov = UpdateKernel(_nesterov)  # (lr, mu)
adam = UpdateKernel(_adam)  # (b1, 1 - b1, b2, 1 - b2, s, c, eps)
adamw = UpdateKernel(_adamw)  # the same, then keep


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
    """Shell's sort: NumPy's takes 2.5 s to compile, and 0.4 us to begin."""
    gap = 1
    while 3 * gap + 1 < values.size:
        gap = 3 * gap + 1
    while gap:
        for end in range(gap, values.size):
            value, place = values[end], end
            while place >= gap and values[place - gap] > value:
                values[place] = values[place - gap]
                place -= gap
            values[place] = value
        gap //= 3


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

"""Operations of a plan that copy rows, or add or join them; see record.py for their fields."""

from functools import cache

from fastmlp_kernels.compiling.jit import address_of
from fastmlp_kernels.plans.memory import array_at, copy
from fastmlp_kernels.plans.operands import KERNEL, moved, operation_at, own_at, place, word

_gather_at, _move_at = operation_at["gather"], operation_at["move"]
_join_at, _add_at, _gate_at = operation_at["join"], operation_at["add"], operation_at["gate"]

JOIN_ROWS = 16  # of all sums at once: long loops, in the level-1 cache


def _gather(row, shared, own):
    """Copy `size` bytes of x for each sample of the order."""
    it, me = _gather_at(row), own_at(own)
    x, order = place(it.x, shared, own), moved(it.order, 8 * me.row, shared, own)
    target = moved(it.target, me.row * it.target_row, shared, own)
    for i in range(me.rows):
        copy(target + i * it.target_row, x + word(order, i) * it.x_row, it.size)


def _move(row, shared, own):
    """Copy `count` runs of `size` bytes, from a task's first row on."""
    it, me = _move_at(row), own_at(own)
    source = moved(it.source, me.row * it.source_row, shared, own)
    target = moved(it.target, me.row * it.target_row, shared, own)
    for i in range(it.count):
        copy(target + i * it.target_row, source + i * it.source_row, it.size)


def _add(zero):
    def add_parts(row, shared, own):
        """parts[left] = parts[left] + parts[right] for each pair; `apart` bytes lie between."""
        it = _add_at(row)
        parts, pairs = place(it.parts, shared, own), place(it.pairs, shared, own)
        for pair in range(it.count):
            total = array_at(zero, parts + word(pairs, 2 * pair) * it.apart, it.size)
            other = array_at(zero, parts + word(pairs, 2 * pair + 1) * it.apart, it.size)
            for i in range(it.size):
                total[i] = total[i] + other[i]

    return add_parts


def _gate(zero):
    itemsize, one = zero.itemsize, type(zero)(1)

    def gate_elements(row, shared, own):
        """result = values * (gates > 0 ? 1 : 0), for a task's elements."""
        it, me = _gate_at(row), own_at(own)
        by = me.row * itemsize
        values = array_at(zero, moved(it.values, by, shared, own), me.rows)
        gates = array_at(zero, moved(it.gates, by, shared, own), me.rows)
        result = array_at(zero, moved(it.result, by, shared, own), me.rows)
        for i in range(me.rows):
            result[i] = values[i] * (one if gates[i] > zero else zero)

    return gate_elements


def _join(zero):
    def join_groups(row, shared, own):
        """C = the tree over `count` sums, or its relu; two levels a pass.

        The sums lie `apart` bytes apart. Nothing is written to them: other threads' caches have
        them.
        """
        it, me = _join_at(row), own_at(own)
        width, itemsize, scratch = it.width, it.itemsize, place(it.scratch, shared, own)
        sums = moved(it.sums, me.row * width * itemsize, shared, own)
        c = moved(it.c, me.row * it.c_row * itemsize, shared, own)
        for first in range(0, me.rows, JOIN_ROWS):
            size, count = min(JOIN_ROWS, me.rows - first) * width, it.count
            source, apart = sums + first * width * itemsize, it.apart
            while count > 1:
                for four in range(0, count, 4):
                    place_of_four = source + four * apart
                    left = min(count - four, 4)
                    a, b = array_at(zero, place_of_four, size), array_at(
                        zero, place_of_four + apart, size
                    )
                    d = array_at(zero, place_of_four + 2 * apart, size)
                    e = array_at(zero, place_of_four + 3 * apart, size)
                    total = array_at(zero, scratch + four // 4 * size * itemsize, size)
                    if left == 4:
                        for j in range(size):
                            total[j] = (a[j] + b[j]) + (d[j] + e[j])
                    elif left == 3:
                        for j in range(size):
                            total[j] = (a[j] + b[j]) + d[j]
                    elif left == 2:
                        for j in range(size):
                            total[j] = a[j] + b[j]
                    else:
                        copy(scratch + four // 4 * size * itemsize, place_of_four, size * itemsize)
                source, apart, count = scratch, size * itemsize, (count + 3) // 4
            for i in range(size // width):
                values = array_at(zero, source + i * width * itemsize, width)
                h = array_at(zero, c + (first + i) * it.c_row * itemsize, width)
                for j in range(width):
                    h[j] = zero if it.relu and not values[j] > zero else values[j]

    return join_groups


@cache
def gather_kernel():
    return address_of(_gather, KERNEL)


@cache
def move_kernel():
    return address_of(_move, KERNEL)


@cache
def add_kernel(dtype):
    return address_of(_add(dtype.type(0)), KERNEL)


@cache
def gate_kernel(dtype):
    return address_of(_gate(dtype.type(0)), KERNEL)


@cache
def join_kernel(dtype):
    return address_of(_join(dtype.type(0)), KERNEL)

"""Operations of a plan that find zeros, and watch what passing over them would change."""

from functools import cache

from fastmlp_kernels.arithmetic import lanes
from fastmlp_kernels.arithmetic.lanes import LANES
from fastmlp_kernels.compiling.jit import address_of, jit
from fastmlp_kernels.plans.memory import array_at
from fastmlp_kernels.plans.operands import (
    KERNEL,
    moved,
    operation_at,
    own_at,
    place,
    set_word,
    word,
)
from fastmlp_kernels.plans.record import FAILED, WORD
from fastmlp_kernels.products.nonzeros import find_word, transpose_bits

_find_at, _watch_at = operation_at["find"], operation_at["watch"]
WORD_BYTES = 8


def _find(zero):
    itemsize = zero.itemsize

    def find(row, shared, own):
        """Set words first .. stop of each row of x, where there is one; of each column, of them.

        A column's word has 64 samples; column_words are those of the column `skipped` on. Behind
        the last column comes one that is all ones, of which a bias gradient is made.
        """
        it, me = _find_at(row), own_at(own)
        x = moved(it.x, me.row * it.x_row * itemsize, shared, own)
        words = moved(it.words, me.row * it.words_row * WORD_BYTES, shared, own)
        columns = moved(it.column_words, me.row // WORD * WORD_BYTES, shared, own)
        square, inputs, stride = place(it.square, shared, own), it.inputs, it.stride * WORD_BYTES
        for number in range(it.first if x else it.stop, it.stop):
            count, at = min(WORD, inputs - number * WORD), x + number * WORD * itemsize
            for i in range(me.rows):
                found = find_word(zero, at + i * it.x_row * itemsize, count)
                set_word(words, i * it.words_row + number, found)
        for first in range(0, me.rows if columns else 0, WORD):
            rows, target = min(WORD, me.rows - first), columns + first // WORD * WORD_BYTES
            target -= it.skipped * stride
            for number in range(it.first, it.stop):
                for i in range(rows):
                    set_word(square, i, word(words, (first + i) * it.words_row + number))
                for i in range(rows, WORD):
                    set_word(square, i, 0)
                transpose_bits(square)
                for bit in range(min(WORD, inputs - number * WORD)):
                    set_word(target + (number * WORD + bit) * stride, 0, word(square, bit))
            if it.stop * WORD >= inputs:
                set_word(target + inputs * stride, 0, -1 if rows == WORD else (1 << rows) - 1)

    return find


def _watch(zero):
    itemsize = zero.itemsize

    def watch(row, shared, own):
        """Say so where a value isn't finite, or with `signs`, where one is -0.

        Of a task's rows, or where it has `columns`, of so many of each.
        """
        it, me = _watch_at(row), own_at(own)
        row_bytes, times = it.row_size * itemsize, 1
        at, size = moved(it.values, me.row * row_bytes, shared, own), it.size
        if it.columns:
            times, size = me.rows, it.columns
        elif not size:
            size = me.rows * it.row_size
        for i in range(times):
            values = array_at(zero, at + i * row_bytes, size)
            if _has_negative_zero(values) if it.signs else _is_endless(zero, values):
                set_word(shared, FAILED, 1)

    return watch


@jit
def _has_negative_zero(values):
    found = False
    for i in range(values.size):
        found |= values[i] == 0 and 1 / values[i] < 0
    return found


@jit
def _is_endless(zero, values):
    """Whether a value isn't finite."""
    # x - x is 0, or NaN, which their sum stays: vectors, as compares took twice as long.
    first = second = third = fourth = lanes.splat(zero)
    whole = values.size // (4 * LANES) * (4 * LANES)
    for i in range(0, whole, 4 * LANES):
        first = _add_difference(first, values, i)
        second = _add_difference(second, values, i + LANES)
        third = _add_difference(third, values, i + 2 * LANES)
        fourth = _add_difference(fourth, values, i + 3 * LANES)
    total = lanes.add(lanes.add(first, second), lanes.add(third, fourth))
    found = not lanes.sum_of_lanes(total) == 0  # noqa: SIM201 - of NaN, too
    for i in range(whole, values.size):
        found |= values[i] - values[i] != 0
    return found


@jit
def _add_difference(total, values, i):
    x = lanes.load(values, i)
    return lanes.add(total, lanes.subtract(x, x))


@cache
def find_kernel(dtype):
    return address_of(_find(dtype.type(0)), KERNEL)


@cache
def watch_kernel(dtype):
    return address_of(_watch(dtype.type(0)), KERNEL)

"""A plan's product that passes over the zeros of A: the walk over leaves, rows and words.

    C = A @ B + bias or its relu, or (A @ B) * (gate > 0 ? 1 : 0), or C - rate * (A @ B)

Words tell which a[i * a_row + k * a_step] aren't zero; B has rows of `width` elements, b_step from
one to the next. The sums of leaves wait in `slots` and are joined in `total`, see sparse.py. Where
samples are to be fetched meanwhile, they come `distance` later; with 0 they are the rows themselves
and their words are found, but for the last ones.
"""

from functools import cache

from fastmlp_kernels.compiling.jit import address_of, jit
from fastmlp_kernels.plans.memory import array_at, fetch_to_write
from fastmlp_kernels.plans.operands import (
    KERNEL,
    moved,
    operation_at,
    own_at,
    place,
    set_word,
    word,
)
from fastmlp_kernels.plans.parallel import call
from fastmlp_kernels.plans.record import (
    FAILED,
    LEAF,
    LEFT,
    LINE,
    ORDER,
    OWN_CALL,
    ROWS_KERNELS,
    WORD,
)
from fastmlp_kernels.products.sparse import FETCH_ROWS, ROWS_EACH, arguments_at

WORD_BYTES = 8
_at = operation_at["sparse"]


@jit
def _set_offsets(row, shared, own, a, rows):
    """For each row of A, how far away in memory the sample lies; 0 where none come."""
    it, me = _at(row), own_at(own)
    sample, x = it.chunk + me.row + it.distance, place(it.x, shared, own)
    offsets, order = place(it.offsets, shared, own), word(shared, ORDER)
    if it.distance < 0 or sample >= word(shared, LEFT):
        return 0
    for i in range(rows):
        number = min(sample + i, word(shared, LEFT) - 1)
        if order:
            number = word(order, number)
        set_word(offsets, i, x + number * it.x_row - a - i * it.a_row * it.itemsize)
    return offsets


@jit
def _end(zero, row, shared, own, total):
    """C from the sums: whole vectors, so with its padding, or their relu; or gated."""
    it, me = _at(row), own_at(own)
    by, width = me.row * it.c_row * it.itemsize, it.width
    c, gates = moved(it.c, by, shared, own), moved(it.gate, by, shared, own)
    for i in range(me.rows):
        values = array_at(zero, total + i * width * it.itemsize, width)
        h = array_at(zero, c + i * it.c_row * it.itemsize, width)
        if gates:
            gate = array_at(zero, gates + i * it.c_row * it.itemsize, width)
            one = h.dtype.type(1)
            for j in range(it.columns):
                h[j] = values[j] * (one if gate[j] > zero else zero)
        else:
            for j in range(width):
                h[j] = zero if it.relu and not values[j] > zero else values[j]


@jit
def _add(zero, left, right, size):
    total, other = array_at(zero, left, size), array_at(zero, right, size)
    for i in range(size):
        total[i] = total[i] + other[i]


@jit
def _add_leaf(row, shared, own, places, leaf):
    """Multiply one leaf of k; places: of a, b, words, total, offsets, target."""
    it, me, now = _at(row), own_at(own), arguments_at(own + OWN_CALL * 8)
    a, b, words, total, offsets, target = places
    size, inner = it.itemsize, me.rows if it.by_leaf else it.inner
    rate, ones = place(it.rate, shared, own), place(it.ones, shared, own)
    rows, start, row_bytes = it.rows if it.rows else me.rows, leaf * LEAF, it.width * size
    count, first = (max(0, min(LEAF, inner - start)) + WORD - 1) // WORD, 0
    ahead, sources = (0, offsets) if it.distance == 0 else (offsets, 0)
    while first < rows or (first == rows and ones != 0):
        is_one, left = first == rows, min(ROWS_EACH, rows - first)
        if is_one:
            left = 1
        for number in range(count):
            k = start + number * WORD
            finds = sources if k < it.finds * WORD and not is_one else 0
            now.rows, now.words_row, now.b_step = left, it.words_row, it.b_step
            now.words = words + (first * it.words_row + k // WORD) * WORD_BYTES
            now.a = ones if is_one else a + (first * it.a_row + k * it.a_step) * size
            now.a_row, now.a_step = 0 if is_one else it.a_row, 0 if is_one else it.a_step
            now.b, now.total = b + k * it.b_step * size, total + first * row_bytes
            now.opens, now.target = int(number == 0), target + first * row_bytes
            now.rate, now.fails = rate if number == count - 1 else 0, shared + FAILED * 8
            now.ahead, now.sources, now.copies = ahead, finds, word(shared, ORDER)
            call(word(shared, ROWS_KERNELS + it.vectors), own + OWN_CALL * 8)
        first += left
    return count


def _sparse(zero):
    def sparse(row, shared, own):
        it, me = _at(row), own_at(own)
        size, by_leaf, inner = it.itemsize, it.by_leaf, it.inner
        slots = place(it.slots, shared, own)
        rows = it.rows if it.rows else me.rows
        a = moved(it.a, me.row * size * (it.a_step if by_leaf else it.a_row), shared, own)
        words = moved(it.words, me.row * it.words_row * WORD_BYTES, shared, own)
        total = moved(it.total, me.row * it.width * size, shared, own)
        if by_leaf:
            inner, total = me.rows, place(it.total, shared, own) + me.part * it.part
        bias, c = place(it.bias, shared, own), moved(it.c, me.row * it.c_row * size, shared, own)
        extra = FETCH_ROWS if it.distance == 0 else 0
        offsets = _set_offsets(row, shared, own, a, rows + extra)
        for i in range(rows if c else 0):  # stores would wait for these lines
            for line in range(0, it.columns * size, LINE):
                fetch_to_write(c + i * it.c_row * size + line)
        count, leaves = (rows + int(it.ones != 0)) * it.width, (inner + int(bias != 0) + LEAF - 1)
        leaves = max(1, leaves // LEAF)
        target, b = place(it.target, shared, own), place(it.b, shared, own)
        for leaf in range(leaves):
            number, is_last, waiting = leaf, leaf == leaves - 1, 0
            if by_leaf:
                number, is_last = me.leaf, me.leaf == me.leaves - 1
            bits = number
            while bits:
                waiting, bits = waiting + 1, bits & (bits - 1)
            sums = total if waiting == 0 else slots + (waiting - 1) * it.slot_size * size
            if not _add_leaf(row, shared, own, (a, b, words, sums, offsets, target), leaf):
                array_at(zero, sums, count)[:] = zero  # the leaf of a bias alone
            if is_last and bias:  # one more index k with a = 1: fma(1, bias, total) is their sum
                for i in range(rows):
                    _add(zero, sums + i * it.width * size, bias, it.width)
            while waiting and (is_last or number & 1):
                waiting, number, right = waiting - 1, number >> 1, sums
                sums = total if waiting == 0 else slots + (waiting - 1) * it.slot_size * size
                _add(zero, sums, right, count)
        if c:
            _end(zero, row, shared, own, total)

    return sparse


@cache
def sparse_walk_kernel(dtype):
    return address_of(_sparse(dtype.type(0)), KERNEL)

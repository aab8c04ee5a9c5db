"""Operations of a plan that clip the norm of all gradients; see record.py for their fields.

norm = sqrt(sum of g * g), in float64, by leaves and tree;
gradient = g * (max_norm / norm) where norm is finite and above max_norm, else g
"""

from functools import cache

import numpy as np

from fastmlp_kernels.arithmetic.fma import fma
from fastmlp_kernels.compiling.jit import address_of, jit
from fastmlp_kernels.plans.memory import array_at, load, store
from fastmlp_kernels.plans.operands import KERNEL, operation_at, place
from fastmlp_kernels.plans.record import LEAF, MAX_NORM

_squares_at, _clip_at = operation_at["squares"], operation_at["clip"]

EIGHT = 8  # leaves at once: a chain alone waits for each of its FMAs, 4 cycles


@jit
def _chain(zero, values, size):
    """The sum of the squares of one leaf."""
    total = 0.0
    for k in range(size):
        total = _plus_square(zero, values, k, total)
    return total


@jit
def _plus_square(zero, values, k, total):
    g = np.float64(load(zero, values, k))
    return fma(g, g, total)


@jit
def _eight_chains(zero, values, sums):
    """The same of eight leaves, one behind the other."""
    a = b = c = d = e = f = g = h = 0.0
    for k in range(LEAF):
        a = _plus_square(zero, values, k, a)
        b = _plus_square(zero, values, k + LEAF, b)
        c = _plus_square(zero, values, k + 2 * LEAF, c)
        d = _plus_square(zero, values, k + 3 * LEAF, d)
        e = _plus_square(zero, values, k + 4 * LEAF, e)
        f = _plus_square(zero, values, k + 5 * LEAF, f)
        g = _plus_square(zero, values, k + 6 * LEAF, g)
        h = _plus_square(zero, values, k + 7 * LEAF, h)
    store(a, sums, 0), store(b, sums, 1), store(c, sums, 2), store(d, sums, 3)
    store(e, sums, 4), store(f, sums, 5), store(g, sums, 6), store(h, sums, 7)


@jit
def _add_by_tree(sums):
    """sums[0] = the tree over sums."""
    step = 1
    while step < sums.size:
        for i in range(0, sums.size - step, 2 * step):
            sums[i] = sums[i] + sums[i + step]
        step *= 2


def _squares(zero):
    itemsize = zero.itemsize

    def squares(row, shared, own):
        """The sum of the squares of a run of leaves, first of the sums; the others are scratch."""
        it = _squares_at(row)
        values, place_of_sums = place(it.values, shared, own), place(it.sums, shared, own)
        whole, leaves = it.size // LEAF, (it.size + LEAF - 1) // LEAF
        sums = array_at(np.float64(0), place_of_sums, leaves)
        done = whole if whole >= EIGHT else 0
        for number in range(0, done, EIGHT):
            first = min(number, whole - EIGHT)
            _eight_chains(zero, values + first * LEAF * itemsize, place_of_sums + first * 8)
        for leaf in range(done, leaves):
            start = leaf * LEAF
            size = min(LEAF, it.size - start)
            sums[leaf] = _chain(zero, values + start * itemsize, size)
        _add_by_tree(sums)

    return squares


def _clip(zero):
    itemsize, real = zero.itemsize, type(zero)

    def clip(row, shared, own):
        """Copy a block's gradient, clipped, to rows of `width`; behind the columns come zeros.

        sums: of `count` runs of leaves, from one to the next `each` float64.
        """
        it = _clip_at(row)
        sums = array_at(np.float64(0), place(it.scratch, shared, own), it.count)
        for run in range(it.count):
            sums[run] = load(np.float64(0), place(it.sums, shared, own), run * it.each)
        _add_by_tree(sums)
        norm, most, scale = np.sqrt(sums[0]), load(np.float64(0), shared, MAX_NORM), real(1)
        if most < norm < np.inf:
            scale = real(most / norm)
        gradient, target = place(it.gradient, shared, own), place(it.target, shared, own)
        for i in range(it.rows):
            g = array_at(zero, gradient + i * it.row * itemsize, it.columns)
            clipped = array_at(zero, target + i * it.width * itemsize, it.width)
            for j in range(it.columns):
                clipped[j] = g[j] * scale
            for j in range(it.columns, it.width):
                clipped[j] = zero

    return clip


@cache
def squares_kernel(dtype):
    return address_of(_squares(dtype.type(0)), KERNEL)


@cache
def clip_kernel(dtype):
    return address_of(_clip(dtype.type(0)), KERNEL)

"""The micro-kernel: a column of tiles of a product, over a run of leaves of the index k.

    total[i, j] = fma(a[i, k], b[k, j], total[i, j])    for the k of one leaf, from +0

A tile has rows x vectors accumulators that live in vector registers; the plan tells how many, and
tile.py generates the code of each shape. After each chain it joins the total with the partial
tiles of earlier leaves, as the tree asks (a binary counter), and either keeps the result as a
partial tile or finishes it: bias, relu, gate, store. A call for each tile and leaf cost 100 cycles
of 3200; the loops over them are in here.
"""

from functools import cache

from numba.core import cgutils, errors, types
from numba.extending import intrinsic

from fastmlp_kernels.arithmetic.fma import fma
from fastmlp_kernels.compiling.emitter import VECTOR_BITS
from fastmlp_kernels.compiling.jit import address_of
from fastmlp_kernels.plans.memory import load, store
from fastmlp_kernels.plans.record import BY_SLOPE, LEAF
from fastmlp_kernels.products.tile import Tile

# Strides count elements. `a`, `b`, ... are addresses; a `bias`, `gate` or `rate` of 0 is none.
ARGUMENTS = (
    "count",  # of tiles, one below the other
    # a[i*a_row + k*a_step], b[k*b_step + j]; b_leaf: to the next leaf's b
    *("a", "a_row", "a_step", "b", "b_step", "b_leaf"),
    # the first leaf's number, how many leaves, the last one's k, and whether it ends all
    *("leaf", "leaves", "steps", "last"),
    # partial tiles, and from one to the next level and to the next tile
    *("partials", "level_size", "tile_size"),
    # the end: c[i*c_row + j] for j < columns; with the address of a rate, c less rate * total
    *("c", "c_row", "columns", "bias", "relu", "gate", "gate_row", "rate"),
    # a cache line to fetch at each k: ahead + k*ahead_step, for each tile ahead_tile further
    *("ahead", "ahead_step", "ahead_tile"),
)


@intrinsic
def _vector_tile(typing_context, real, rows, vectors, group, arguments):
    """Run one tile shape; `real` gives the dtype."""
    for number in (rows, vectors, group):
        if not isinstance(number, types.IntegerLiteral):
            raise errors.RequireLiteralValue("expected a constant tile")
    shape = [number.literal_value for number in (rows, vectors, group)]

    def codegen(context, builder, signature, values):
        unpacked = cgutils.unpack_tuple(builder, values[-1])
        named = dict(zip(ARGUMENTS, unpacked, strict=True))
        Tile(builder, signature.args[0], named, *shape).emit()
        return context.get_dummy_value()

    return types.void(real, rows, vectors, group, arguments), codegen


def _tile(zero, rows, vectors, group):
    def vector_tile(
        count, a, a_row, a_step, b, b_step, b_leaf, leaf, leaves, steps, last, partials,
        level_size, tile_size, c, c_row, columns, bias, relu, gate, gate_row, rate, ahead,
        ahead_step, ahead_tile,
    ):  # fmt: skip
        _vector_tile(
            zero, rows, vectors, group,
            (
                count, a, a_row, a_step, b, b_step, b_leaf, leaf, leaves, steps, last, partials,
                level_size, tile_size, c, c_row, columns, bias, relu, gate, gate_row, rate, ahead,
                ahead_step, ahead_tile,
            ),
        )  # fmt: skip

    return vector_tile


def _scalar_tile(zero, rows):
    def scalar_tile(
        count, a, a_row, a_step, b, b_step, b_leaf, leaf, leaves, steps, last, partials,
        level_size, tile_size, c, c_row, columns, bias, relu, gate, gate_row, rate, ahead,
        ahead_step, ahead_tile,
    ):  # fmt: skip
        """The same without vectors, element by element, for a CPU without FMA: right, not fast."""
        for i in range(rows * count):
            for j in range(columns):
                for n in range(leaves):
                    closing = last != 0 and n == leaves - 1
                    total = zero
                    for k in range(steps if n == leaves - 1 else LEAF):
                        x = load(zero, a, i * a_row + (n * LEAF + k) * a_step)
                        total = fma(x, load(zero, b, n * b_leaf + k * b_step + j), total)
                    if closing and bias != 0:
                        total += load(zero, bias, j)
                    waiting = leaf + n
                    position = i // rows * tile_size + i % rows * columns + j
                    while waiting != 0 and (closing or waiting & 1):
                        if waiting & 1:
                            total = load(zero, partials, position) + total
                        waiting >>= 1
                        position += level_size
                    if not closing:
                        store(total, partials, position)
                        continue
                    if relu == 1:
                        total = total if total > zero else zero
                    if gate != 0 and relu == BY_SLOPE:
                        total *= load(zero, gate, i * gate_row + j)
                    elif gate != 0 and not load(zero, gate, i * gate_row + j) > zero:
                        total *= zero
                    if rate != 0:
                        total = load(zero, c, i * c_row + j) - load(zero, rate, 0) * total
                    store(total, c, i * c_row + j)

    return scalar_tile


@cache
def tile_kernel(dtype, rows, vectors, group):
    """The address of the compiled micro-kernel of one tile for a NumPy dtype."""
    zero, arguments = dtype.type(0), tuple([types.int64] * len(ARGUMENTS))
    if not VECTOR_BITS:
        return address_of(_scalar_tile(zero, rows), arguments)
    return address_of(_tile(zero, rows, vectors, group), arguments)

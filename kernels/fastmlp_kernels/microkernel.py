"""The micro-kernel: a column of tiles of a product, over a run of leaves of the index k.

    total[i, j] = fma(a[i, k], b[k, j], total[i, j])    for the k of one leaf, from +0

A tile has rows x vectors accumulators that live in vector registers; blocking.py tells how many,
tile.py generates the code of each shape. After each chain it joins the total with the partial
tiles of earlier leaves, as the tree asks (a binary counter), and either keeps the result as a
partial tile or finishes it: bias, relu, gate, store. A call for each tile and leaf cost 100 cycles
of 3200; the loops over them are in here.
"""

from functools import cache

from llvmlite import ir
from numba import from_dtype
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

from fastmlp_kernels.blocking import LEAF, TILES, VECTOR_BITS
from fastmlp_kernels.fma import fma
from fastmlp_kernels.jit import address_of, jit
from fastmlp_kernels.memory import load, store
from fastmlp_kernels.tile import Tile

# Strides count elements. `a`, `b`, ... are addresses; a `bias`, `gate` or `rate` of 0 is none.
ARGUMENTS = (
    # the tile, one of blocking.TILES, and how many, one below the other
    *("rows", "vectors", "group", "count"),
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


def _constant(value):
    return ir.Constant(ir.IntType(64), value)


@intrinsic
def _vector_tiles(typing_context, real, arguments):
    """Run the tile that the first three arguments name; `real` gives the dtype."""

    def codegen(context, builder, signature, values):
        unpacked = cgutils.unpack_tuple(builder, values[1])
        named = dict(zip(ARGUMENTS, unpacked, strict=True))
        end = builder.append_basic_block("end")
        key = builder.add(
            builder.mul(
                builder.add(builder.mul(named["group"], _constant(8)), named["vectors"]),
                _constant(32),
            ),
            named["rows"],
        )
        switch = builder.switch(key, end)
        for rows, vectors, group in TILES:
            block = builder.append_basic_block(f"tile.{rows}x{vectors}.{group}")
            switch.add_case(_constant((group * 8 + vectors) * 32 + rows), block)
            builder.position_at_end(block)
            Tile(builder, signature.args[0], named, rows, vectors, group).emit()
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(real, arguments), codegen


def _vector_kernel(
    zero, rows, vectors, group, count, a, a_row, a_step, b, b_step, b_leaf, leaf, leaves, steps,
    last, partials, level_size, tile_size, c, c_row, columns, bias, relu, gate, gate_row, rate,
    ahead, ahead_step, ahead_tile,
):  # fmt: skip
    _vector_tiles(
        zero,
        (
            rows, vectors, group, count, a, a_row, a_step, b, b_step, b_leaf, leaf, leaves, steps,
            last, partials, level_size, tile_size, c, c_row, columns, bias, relu, gate, gate_row,
            rate, ahead, ahead_step, ahead_tile,
        ),
    )  # fmt: skip


def _scalar_kernel(
    zero, rows, vectors, group, count, a, a_row, a_step, b, b_step, b_leaf, leaf, leaves, steps,
    last, partials, level_size, tile_size, c, c_row, columns, bias, relu, gate, gate_row, rate,
    ahead, ahead_step, ahead_tile,
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
                if relu != 0:
                    total = total if total > zero else zero
                if gate != 0 and not load(zero, gate, i * gate_row + j) > zero:
                    total *= zero
                if rate != 0:
                    total = load(zero, c, i * c_row + j) - load(zero, rate, 0) * total
                store(total, c, i * c_row + j)


@intrinsic
def _vector_tile(typing_context, real, rows, vectors, group, arguments):
    """Run one tile shape; `real` gives the dtype."""
    for number in (rows, vectors, group):
        if not isinstance(number, types.IntegerLiteral):
            raise errors.RequireLiteralValue("expected a constant tile")
    shape = [number.literal_value for number in (rows, vectors, group)]

    def codegen(context, builder, signature, values):
        unpacked = cgutils.unpack_tuple(builder, values[-1])
        named = dict(zip(ARGUMENTS[3:], unpacked, strict=True))
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


_scalar = jit(_scalar_kernel)


def _scalar_tile(zero, rows):
    def scalar_tile(
        count, a, a_row, a_step, b, b_step, b_leaf, leaf, leaves, steps, last, partials,
        level_size, tile_size, c, c_row, columns, bias, relu, gate, gate_row, rate, ahead,
        ahead_step, ahead_tile,
    ):  # fmt: skip
        _scalar(
            zero, rows, 1, 1, count, a, a_row, a_step, b, b_step, b_leaf, leaf, leaves, steps,
            last, partials, level_size, tile_size, c, c_row, columns, bias, relu, gate, gate_row,
            rate, ahead, ahead_step, ahead_tile,
        )  # fmt: skip

    return scalar_tile


@cache
def tile_kernel(dtype, rows, vectors, group):
    """The address of the compiled micro-kernel of one tile for a NumPy dtype."""
    zero, arguments = dtype.type(0), tuple([types.int64] * len(ARGUMENTS[3:]))
    if not VECTOR_BITS:
        return address_of(_scalar_tile(zero, rows), arguments)
    return address_of(_tile(zero, rows, vectors, group), arguments)


@cache
def micro_kernel(dtype):
    """The address of the compiled micro-kernel for a NumPy dtype, float32 or float64."""
    function = _vector_kernel if VECTOR_BITS else _scalar_kernel
    return address_of(function, (from_dtype(dtype), *[types.int64] * len(ARGUMENTS)))

"""The blocking driver: the product C = A @ B of A (M, K) and B (K, N) by the portable arithmetic.

    C[i, j] = the tree of leaves: chains fma(A[i, k], B[k, j], total) over 256 indices k each

The loops, from the outside: tasks (blocks of rows, or subtrees of leaves) > leaf > block of rows >
panel of columns > tile. A is read where it lies, whatever its strides; B where it lies if it has
few uses, else packed in panels. Neither blocks nor tasks nor threads change a bit: one element is
one chain after another in any case, and only whole subtrees of leaves are added elsewhere.
"""

from collections import namedtuple
from functools import cache

import numpy as np
from numba.core import types

from fastmlp_kernels.blocking import (
    BLOCK_ROWS,
    FAR_ROWS,
    FEW_LEAVES,
    LARGEST_TILE,
    LEAF,
    LINE,
    count_leaves,
    count_levels,
    count_panels,
    count_tiles,
    is_tall,
    lanes_of,
    panel_width,
    pays_to_pack,
    split_leaves,
    split_rows,
    tile_shape,
)
from fastmlp_kernels.jit import address_of, integer, jit, packed, share
from fastmlp_kernels.memory import add_one, address, aligned, fields_at, keep_alive, load, store
from fastmlp_kernels.microkernel import micro_kernel
from fastmlp_kernels.packing import make_panels, pack_rows
from fastmlp_kernels.parallel import call, run_stage

# All that a thread has to know. Addresses (0: none), strides in elements, sizes.
Product = namedtuple(
    "Product",
    "a a_row a_step rows ones"  # A; `ones` is the address of a 1 if A has one more row, of ones
    " b b_row b_column b_leaf"  # B; b_leaf: PACK_BY_LEAF, or the elements of a leaf packed at `b`
    " c c_row bias relu gate gate_row rate"  # C, and what happens before its only store
    " inner columns width lanes itemsize"  # K, N, N in whole vectors, a vector's elements, bytes
    " leaves tall leaves_each parts"  # tall: a task has all rows, and so many leaves
    " blocks_each groups"  # else: so many blocks of rows, and one of so many groups of panels
    " counter unpacked tile num_threads",  # the next task; B before packing; the micro-kernel
)
FIELDS = len(Product._fields)
IN_PLACE, PACK_BY_LEAF = 0, -1
PACK, MULTIPLY, JOIN = np.int64(0), np.int64(1), np.int64(2)  # the stages of a product

CALL = (packed(integer, 1), integer)  # the last arguments of a kernel: `compiled`'s, threads


@jit
def serial_product(
    a, a_row, a_step, rows, ones, b, b_row, packed, c, c_row, bias, relu, gate, gate_row, rate,
    inner, columns, itemsize, tile,
):  # fmt: skip
    """A product that is one task of one thread, over all its leaves; B at `b`, or at `packed`.

    rate: the address of a rate, for C = C - rate * (A @ B), or 0.
    """
    lanes = lanes_of(itemsize)
    width = panel_width(columns, lanes)
    leaves = count_leaves(inner, int(bias != 0))
    place, b_leaf = (packed, LEAF * width) if packed else (b, IN_PLACE)
    return Product(
        a, a_row, a_step, rows, ones,
        place, b_row, 1, b_leaf,
        c, c_row, bias, relu, gate, gate_row, rate,
        inner, columns, width, lanes, itemsize,
        leaves, 0, leaves, 0,
        max(1, (rows + BLOCK_ROWS - 1) // BLOCK_ROWS), 1, 0, b, tile, 1,
    )  # fmt: skip


@jit
def pack_leaf(zero, it, panels, leaf, target):
    """Copy B's rows of one leaf to the address `target`."""
    start = leaf * LEAF
    pack_rows(
        zero, it.unpacked + start * it.b_row * it.itemsize, it.b_row, it.b_column, 0,
        min(LEAF, it.inner - start), LEAF, panels, it.lanes, it.itemsize, target,
    )  # fmt: skip


@jit
def look_ahead(it, panels, p, block, rows, leaf):
    """What of A to fetch meanwhile: an address, and the steps to the next k and to the next tile.

    Where k runs along the memory, the next block's rows, a share of each for each panel; where k
    runs across it, one cache line for each k, from the next block on.
    """
    start, parts, next_block = leaf * LEAF, panels.shape[0], block + BLOCK_ROWS
    if it.a_row != 1:
        each = max(1, rows // parts)
        first = next_block * it.a_row + (p * it.inner + start) * each
        return it.a + first * it.itemsize, each, rows * it.a_row
    if next_block >= it.rows:
        next_block, start = 0, start + LEAF
    line = LINE // it.itemsize
    first = start * it.a_step + next_block + p * line
    return it.a + first * it.itemsize, it.a_step, parts * line


@jit
def run_tiles(zero, it, panels, p, i, tile, count, leaf, run, b_leaf, c, c_row, ahead, partial):
    """`count` tiles of panel p from row i on, one below the other, from a leaf on.

    run: the task's first leaf, the one behind its last, the leaves to run over now. b_leaf: the
    address of the packed leaf of B, or 0. partial: the address of the first tile's first level, and
    the steps to the next level and to the next tile.
    """
    first, columns = panels[p, 0], panels[p, 1]
    start, final = leaf * LEAF, leaf + run[2] - 1
    a, a_row, a_step = it.a + (i * it.a_row + start * it.a_step) * it.itemsize, it.a_row, it.a_step
    if i == it.rows:
        a, a_row, a_step = it.ones, 0, 0
    b, b_step = it.b + (start * it.b_row + first) * it.itemsize, it.b_row
    b_next = LEAF * it.b_row
    if b_leaf:
        b, b_step = b_leaf + first * LEAF * it.itemsize, panels[p, 4]
        b_next = it.b_leaf
    bias = it.bias + first * it.itemsize if it.bias and final == it.leaves - 1 else 0
    gate = it.gate + (i * it.gate_row + first) * it.itemsize if it.gate else 0
    call(
        it.tile,
        zero, tile[0], tile[1], tile[2], count, a, a_row, a_step, b, b_step, b_next,
        leaf - run[0], run[2], min(LEAF, it.inner - final * LEAF), int(final == run[1] - 1),
        partial[0], partial[1], partial[2],
        c + (i * c_row + first) * it.itemsize, c_row, columns,
        bias, it.relu, gate, it.gate_row, it.rate, ahead[0], ahead[1], ahead[2],
    )  # fmt: skip


@jit
def packed_leaf(it, leaf):
    """The address of one leaf of the packed B; 0 where B is read in place."""
    return it.b + leaf * it.b_leaf * it.itemsize if it.b_leaf > 0 else 0


@jit
def run_block(
    zero, it, panels, mine, block, i0, i1, leaf, run, b_leaf, c, c_row, scratch, spread
):  # fmt: skip
    """A block of rows of the task's rows i0 .. i1 and its panels `mine`, from a leaf on.

    See run_tiles. `spread`: each tile has partial tiles of its own, for the leaves to come.
    """
    stop = min(block + BLOCK_ROWS, i1)
    height = i1 - i0 + 1
    level_size = height * it.width if spread else LARGEST_TILE
    for p in range(mine.start, mine.stop):
        i = block
        while i < stop or (i == it.rows and it.ones):
            tile = tile_shape(max(1, stop - i), panels[p, 2], panels[p, 3])
            count = count_tiles(stop - i, tile[0])
            ahead = look_ahead(it, panels, p, i, tile[0], leaf)
            partial = scratch
            if spread:
                partial += (height * panels[p, 0] + (i - i0) * panels[p, 4]) * it.itemsize
            tile_size = tile[0] * panels[p, 4] if spread else 0
            run_tiles(
                zero, it, panels, p, i, tile, count, leaf, run, b_leaf, c, c_row, ahead,
                (partial, level_size, tile_size),
            )  # fmt: skip
            i += count * tile[0]


@jit
def run_task(zero, it, panels, number, scratch, room):
    """Task `number`: some blocks of rows and panels, or all rows over a run of leaves.

    `scratch`: the address of the partial tiles; `room`: that of one packed leaf of B.
    """
    if it.tall:
        first = number * it.leaves_each
        stop = min(first + it.leaves_each, it.leaves)
        c, c_row = it.c, it.c_row
        if it.parts:
            c, c_row = it.parts + number * part_size(it) * it.itemsize, it.columns
        for leaf in range(first, stop):
            b_leaf = packed_leaf(it, leaf)
            if it.b_leaf == PACK_BY_LEAF:
                pack_leaf(zero, it, panels, leaf, room)
                b_leaf = room
            run_leaf(zero, it, panels, leaf, first, stop, b_leaf, c, c_row, scratch)
        return
    mine = share(panels.shape[0], number % it.groups, it.groups)
    first = number // it.groups * it.blocks_each * BLOCK_ROWS
    end = min(first + it.blocks_each * BLOCK_ROWS, it.rows)
    for block in range(first, max(end, first + 1), BLOCK_ROWS):  # the row of ones may be alone
        stop = min(block + BLOCK_ROWS, it.rows)
        if runs_at_once(it):
            run, b_leaf = (0, it.leaves, it.leaves), packed_leaf(it, 0)
            run_block(
                zero, it, panels, mine, block, block, stop, 0, run, b_leaf, it.c, it.c_row,
                scratch, False,
            )  # fmt: skip
        else:
            for leaf in range(it.leaves):
                run, b_leaf = (0, it.leaves, 1), packed_leaf(it, leaf)
                run_block(
                    zero, it, panels, mine, block, block, stop, leaf, run, b_leaf, it.c, it.c_row,
                    scratch, True,
                )  # fmt: skip


@jit
def part_size(it):
    """The elements of a subtree's result: C's shape."""
    return (it.rows + (1 if it.ones else 0)) * it.columns


@jit
def run_leaf(zero, it, panels, leaf, first, stop, b_leaf, c, c_row, scratch):
    """All rows over one leaf of the task's leaves first .. stop, which come one after the other."""
    mine, run = slice(0, panels.shape[0]), (first, stop, 1)
    for block in range(0, max(it.rows, 1), BLOCK_ROWS):
        run_block(
            zero, it, panels, mine, block, 0, it.rows, leaf, run, b_leaf, c, c_row, scratch, True
        )  # fmt: skip


@jit
def runs_at_once(it):
    """Whether a tile runs over all leaves at once.

    Not if B's rows lie so far apart that the panel would leave the cache before the next tile.
    """
    near = it.b_leaf > 0 or it.b_row * it.itemsize < FAR_ROWS or it.rows <= 8
    return it.leaves <= FEW_LEAVES and it.a_row != 1 and near


@jit
def count_tasks(it):
    if it.tall:
        return (it.leaves + it.leaves_each - 1) // it.leaves_each
    rows_each = it.blocks_each * BLOCK_ROWS
    return max(1, (it.rows + rows_each - 1) // rows_each) * it.groups


@jit
def partials_size(it):
    """The elements of a task's partial tiles: a level for each bit of the counter of leaves."""
    levels = count_levels(it.leaves_each)
    if not it.tall and runs_at_once(it):
        return levels * LARGEST_TILE
    rows = it.rows if it.tall else min(it.rows, BLOCK_ROWS)
    return levels * (rows + 1) * it.width


@jit
def multiply(zero, it):
    """Take tasks until there are none."""
    panels = make_panels(it.rows, it.columns, it.lanes)
    scratch = np.empty(partials_size(it) * it.itemsize + 64, np.uint8)
    packs = it.b_leaf == PACK_BY_LEAF
    room = np.empty((LEAF * it.width * it.itemsize if packs else 0) + 64, np.uint8)
    tasks = count_tasks(it)
    number = add_one(it.counter)
    while number < tasks:
        run_task(zero, it, panels, number, aligned(scratch), aligned(room))
        add_one(it.counter + 8)
        number = add_one(it.counter)
    keep_alive(scratch), keep_alive(room)


@jit
def pack(zero, it):
    """Pack leaves of B until there are none."""
    panels = make_panels(it.rows, it.columns, it.lanes)
    leaf = add_one(it.counter)
    while leaf < it.leaves:
        pack_leaf(zero, it, panels, leaf, it.b + leaf * it.b_leaf * it.itemsize)
        add_one(it.counter + 8)
        leaf = add_one(it.counter)


@jit
def join(zero, it, thread):
    """C = the tree over the subtrees' results, for one thread's share of the rows."""
    mine = share(it.rows + (1 if it.ones else 0), thread, it.num_threads)
    count, distance, size = count_tasks(it), 1, part_size(it)
    while distance < count:
        for number in range(0, count - distance, 2 * distance):
            left, right = number * size, (number + distance) * size
            for e in range(mine.start * it.columns, mine.stop * it.columns):
                total = load(zero, it.parts, left + e) + load(zero, it.parts, right + e)
                store(total, it.parts, left + e)
        distance *= 2
    for i in range(mine.start, mine.stop):
        for j in range(it.columns):
            store(load(zero, it.parts, i * it.columns + j), it.c, i * it.c_row + j)
    add_one(it.counter + 8)


def _worker(zero):
    def product_stage(data, stage, thread):
        it = Product(*fields_at(data, FIELDS))
        if stage == PACK:
            pack(zero, it)
        elif stage == MULTIPLY:
            multiply(zero, it)
        else:
            join(zero, it, thread)

    return product_stage


@cache
def compiled(dtype):
    """The addresses, for a NumPy dtype, of the compiled parts that `product` calls: an array."""
    signature = (types.CPointer(types.int64), types.int64, types.int64)
    worker = address_of(_worker(dtype.type(0)), signature)
    return np.array([worker, micro_kernel(dtype)])


@jit
def product(A, B, bias, gate, C, relu, ones_row, code, num_threads):
    """C = gate(relu(A @ B + bias)).

    A (M, K), B (K, N), C (M, N) with contiguous rows, or (M + 1, N) with `ones_row`: then A has one
    more row, of ones, that lies nowhere. bias (N,) or empty: one more row of B, for one more column
    of ones of A. `relu`: x > 0 ? x : +0. gate (M, N) with contiguous rows, or empty: a product with
    gate > 0 ? 1 : 0. `code`: what `compiled` gives for the dtype.
    """
    if C.size == 0:
        return
    itemsize = C.itemsize
    rows, inner, columns = A.shape[0], A.shape[1], C.shape[1]
    lanes = lanes_of(itemsize)
    width = panel_width(columns, lanes)
    leaves = count_leaves(inner, int(bias.size > 0))
    leaves_each, blocks_each, groups = leaves, 1, 1
    tall = is_tall(leaves, rows)
    if not tall:
        blocks_each, groups = split_rows(rows, count_panels(rows, columns, lanes), num_threads)
    elif not relu and not gate.size:
        leaves_each = split_leaves(leaves, num_threads)
    subtrees = (leaves + leaves_each - 1) // leaves_each
    b_column = B.strides[1] // itemsize
    b, b_leaf = address(B), IN_PLACE
    if pays_to_pack(rows, columns, b_column, lanes):
        b_leaf = PACK_BY_LEAF if tall else LEAF * width
    room = np.empty(max(0, b_leaf) * leaves * itemsize + 64, np.uint8)
    parts = np.empty((subtrees if subtrees > 1 else 0, C.shape[0], columns), C.dtype)
    one = np.ones(1, C.dtype)
    counter = np.zeros(2, np.int64)
    ones = address(one) if ones_row else 0
    bias_place = address(bias) if bias.size else 0
    gate_place = address(gate) if gate.size else 0
    results = address(parts) if subtrees > 1 else 0
    if b_leaf > 0:
        b = aligned(room)
    it = Product(
        address(A), A.strides[0] // itemsize, A.strides[1] // itemsize, rows, ones,
        b, B.strides[0] // itemsize, b_column, b_leaf,
        address(C), C.strides[0] // itemsize, bias_place, int(relu),
        gate_place, gate.strides[0] // itemsize, 0,
        inner, columns, width, lanes, itemsize,
        leaves, int(tall), leaves_each, results,
        blocks_each, groups, address(counter), address(B), code[1], num_threads,
    )  # fmt: skip
    data = np.array(it)
    if b_leaf > 0:
        run_stage(code[0], data, PACK, num_threads, counter, leaves)
    run_stage(code[0], data, MULTIPLY, num_threads, counter, count_tasks(it))
    if subtrees > 1:
        run_stage(code[0], data, JOIN, num_threads, counter, num_threads)
    keep_alive(room), keep_alive(parts), keep_alive(one), keep_alive(counter)

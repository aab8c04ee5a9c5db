"""One product, C = A @ B of A (M, K) and B (K, N), by the portable arithmetic.

    C[i, j] = the tree of leaves: chains fma(A[i, k], B[k, j], total) over 256 indices k each

Tasks are blocks of rows, or subtrees of leaves; the walk over a task is that of plans
(product_walk.py). A is read where it lies, whatever its strides; B where it lies if it has few
uses, else packed in panels. Neither blocks nor tasks nor threads change a bit: one element is one
chain after another in any case, and only whole subtrees of leaves are added elsewhere.
"""

from functools import cache

import numpy as np

from fastmlp_kernels.blocking import (
    FAR_ROWS,
    FEW_LEAVES,
    LARGEST_TILE,
    count_leaves,
    count_levels,
    count_panels,
    is_tall,
    lanes_of,
    panel_width,
    pays_to_pack,
    set_panels,
    split_leaves,
    split_rows,
)
from fastmlp_kernels.jit import address_of, integer, jit, packed, share
from fastmlp_kernels.memory import add_one, address, aligned, keep_alive, load, store
from fastmlp_kernels.operands import KERNEL, operation_at, own_at, panel_at, record_at
from fastmlp_kernels.parallel import call, run_stage
from fastmlp_kernels.record import (
    BLOCK_ROWS,
    LEAF,
    OPERATION_WORDS,
    OWN_WORDS,
    PANEL_WORDS,
    SHARED_WORDS,
    TILE_WORDS,
)

# All that a thread has to know. Addresses (0: none), strides in elements, sizes.
FIELDS = (
    *("a", "a_row", "a_step", "rows", "ones"),  # `ones`: of a 1 if A has one more row, of ones
    *("b", "b_row", "b_column", "b_leaf"),  # B; b_leaf: PACK_BY_LEAF, or a leaf packed at `b`
    *("c", "c_row", "bias", "relu", "gate", "gate_row"),  # C, and what precedes its only store
    *("inner", "columns", "width", "lanes", "itemsize"),  # K, N, N in whole vectors, a vector
    *("leaves", "tall", "leaves_each", "parts"),  # tall: a task has all rows, and so many leaves
    *("blocks_each", "groups"),  # else: so many blocks of rows, one of so many groups of panels
    *("counter", "unpacked", "code", "num_threads"),  # the next task; B before packing
)
_at = record_at(FIELDS)
_product_at, _pack_at = operation_at["product"], operation_at["pack"]
IN_PLACE, PACK_BY_LEAF = 0, -1
PACK, MULTIPLY, JOIN = np.int64(0), np.int64(1), np.int64(2)  # the stages of a product

# The words of `code`, which has what is shared with the walk behind them, then the tables of all
# panels' tiles: of 1 .. 8 vectors, and of 1 .. 3 with a tail for two rows, and for four.
STAGE, JOINED, PACKED, WALK = range(4)
HEAD = 8
TABLE = (BLOCK_ROWS + 1) * TILE_WORDS

CALL = (packed(integer, 1), integer)  # the last arguments of a kernel: `code`, threads


@jit
def _number(code, place):
    return load(np.int64(0), code, place)


@jit
def _set_panels(it, panels):
    """Fill the panels' table at an address."""
    count = count_panels(it.rows, it.columns, it.lanes)
    shapes = np.empty((count, 5), np.int64)
    set_panels(it.columns, it.lanes, shapes)
    for p in range(count):
        panel, group = panel_at(panels + p * PANEL_WORDS * 8), shapes[p, 3]
        kind = shapes[p, 2] - 1 + (0 if group == 1 else 8 if group == 2 else 11)
        panel.first, panel.columns, panel.width = shapes[p, 0], shapes[p, 1], shapes[p, 4]
        panel.tiles = it.code + (HEAD + SHARED_WORDS + kind * TABLE) * 8 - panels
    return count


@jit
def _set_operation(it, row, panels, scratch):
    """What is the same in all tasks."""
    op = _product_at(row)
    op.a, op.a_row, op.a_step, op.inner = it.a, it.a_row, it.a_step, it.inner
    op.b, op.b_row, op.b_leaf = it.b, it.b_row, max(0, it.b_leaf)
    op.c, op.c_row, op.bias, op.relu, op.gate = it.c, it.c_row, it.bias, it.relu, it.gate
    op.gate_row, op.rate, op.width, op.itemsize = it.gate_row, 0, it.width, it.itemsize
    op.scratch, op.panels, op.part, op.ones, op.rows = scratch, panels, 0, it.ones, it.rows
    op.panel_count = count_panels(it.rows, it.columns, it.lanes)
    op.by_leaf, op.at_once = it.tall, -1
    if not it.tall and runs_at_once(it):
        op.at_once = it.rows


@jit
def pack_leaf(it, memory, panels, leaf, target):
    """Copy B's rows of one leaf to the address `target`."""
    op, start = _pack_at(memory), leaf * LEAF
    op.source = it.unpacked + start * it.b_row * it.itemsize
    op.row_step, op.column_step, op.first_k, op.depth = it.b_row, it.b_column, 0, LEAF
    op.steps, op.panels, op.target = max(0, min(LEAF, it.inner - start)), panels, target
    op.panel_count = count_panels(it.rows, it.columns, it.lanes)
    call(_number(it.code, PACKED), memory, it.code + HEAD * 8, memory)


@jit
def run_task(it, number, row, packing, own, panels, room):
    """Task `number`: some blocks of rows and panels, or all rows over a run of leaves.

    row, packing, own: the addresses of operations and of own words; room: one packed leaf of B.
    """
    op, me, size, shared = _product_at(row), own_at(own), it.itemsize, it.code + HEAD * 8
    if it.tall:
        first = number * it.leaves_each
        stop = min(first + it.leaves_each, it.leaves)
        if it.parts:
            op.c, op.c_row = it.parts + number * part_size(it) * size, it.columns
        me.leaves = stop - first
        for leaf in range(first, stop):
            if it.b_leaf == PACK_BY_LEAF:
                pack_leaf(it, packing, panels, leaf, room)
                op.b, op.b_leaf = room, LEAF * it.width
            else:
                op.b = it.b + leaf * (it.b_leaf if it.b_leaf else LEAF * it.b_row) * size
            op.a = it.a + leaf * LEAF * it.a_step * size
            op.bias = it.bias if leaf == it.leaves - 1 else 0
            me.leaf, me.rows = leaf - first, max(0, min(LEAF, it.inner - leaf * LEAF))
            call(_number(it.code, WALK), row, shared, own)
        return
    mine = share(count_panels(it.rows, it.columns, it.lanes), number % it.groups, it.groups)
    first = number // it.groups * it.blocks_each * BLOCK_ROWS
    op.rows = min(it.blocks_each * BLOCK_ROWS, it.rows - first)
    op.ones = it.ones if first + op.rows == it.rows else 0
    op.a, op.c = it.a + first * it.a_row * size, it.c + first * it.c_row * size
    op.gate = it.gate + first * it.gate_row * size if it.gate else 0
    op.panels, op.panel_count = panels + mine.start * PANEL_WORDS * 8, mine.stop - mine.start
    for p in range(mine.start, mine.stop):
        panel = panel_at(panels + p * PANEL_WORDS * 8)
        kind = panel.tiles + panels
        panel.tiles = kind - op.panels
    call(_number(it.code, WALK), row, shared, own)
    for p in range(mine.start, mine.stop):
        panel = panel_at(panels + p * PANEL_WORDS * 8)
        panel.tiles = panel.tiles + op.panels - panels


@jit
def part_size(it):
    """The elements of a subtree's result: C's shape."""
    return (it.rows + (1 if it.ones else 0)) * it.columns


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


def _stage(data, stage, thread):
    """Take leaves of B to pack, or tasks, until there are none."""
    it = _at(data)
    packs = it.b_leaf == PACK_BY_LEAF and stage == MULTIPLY
    tables = 2 * OPERATION_WORDS + OWN_WORDS
    tables += count_panels(it.rows, it.columns, it.lanes) * PANEL_WORDS
    partials = partials_size(it) if stage == MULTIPLY else 0
    size = (partials + (LEAF * it.width if packs else 0)) * it.itemsize
    memory = np.empty(tables + size // 8 + 24, np.int64)
    row = address(memory)
    packing, own = row + OPERATION_WORDS * 8, row + 2 * OPERATION_WORDS * 8
    panels = own + OWN_WORDS * 8
    _set_panels(it, panels)
    room = aligned(memory[tables:])
    scratch = room + (LEAF * it.width * it.itemsize if packs else 0)
    _set_operation(it, row, panels, scratch)
    me = own_at(own)
    me.row, me.part, me.rows = 0, 0, 0
    tasks = it.leaves if stage == PACK else count_tasks(it)
    number = add_one(it.counter)
    while number < tasks:
        if stage == PACK:
            pack_leaf(it, packing, panels, number, it.b + number * it.b_leaf * it.itemsize)
        else:
            run_task(it, number, row, packing, own, panels, room)
        add_one(it.counter + 8)
        number = add_one(it.counter)
    keep_alive(memory)


def _join(zero):
    def join(data, _, thread):
        """C = the tree over the subtrees' results, for one thread's share of the rows."""
        it = _at(data)
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

    return join


@cache
def stage_kernel():
    """The address of what a thread does in the first two stages."""
    return address_of(_stage, KERNEL)


@cache
def join_kernel(dtype):
    """The address of what a thread does in the last one, for a NumPy dtype."""
    return address_of(_join(dtype.type(0)), KERNEL)


@jit
def product(A, B, bias, gate, C, relu, ones_row, code, num_threads):
    """C = gate(relu(A @ B + bias)).

    A (M, K), B (K, N), C (M, N) with contiguous rows, or (M + 1, N) with `ones_row`: then A has one
    more row, of ones, that lies nowhere. bias (N,) or empty: one more row of B, for one more column
    of ones of A. `relu`: x > 0 ? x : +0. gate (M, N) with contiguous rows, or empty: a product with
    gate > 0 ? 1 : 0. `code`: see STAGE.
    """
    if C.size == 0:
        return
    data, counter, one = np.empty(len(FIELDS), np.int64), np.zeros(2, np.int64), np.ones(1, C.dtype)
    it, size = _at(address(data)), C.itemsize
    it.itemsize, it.rows, it.inner, it.columns = size, A.shape[0], A.shape[1], C.shape[1]
    it.lanes, it.num_threads = lanes_of(size), num_threads
    it.width = panel_width(it.columns, it.lanes)
    it.leaves = count_leaves(it.inner, int(bias.size > 0))
    it.leaves_each, it.blocks_each, it.groups = it.leaves, 1, 1
    it.tall = int(is_tall(it.leaves, it.rows))
    if not it.tall:
        panels = count_panels(it.rows, it.columns, it.lanes)
        it.blocks_each, it.groups = split_rows(it.rows, panels, num_threads)
    elif not relu and not gate.size:
        it.leaves_each = split_leaves(it.leaves, num_threads)
    subtrees = (it.leaves + it.leaves_each - 1) // it.leaves_each
    it.b_row, it.b_column = B.strides[0] // size, B.strides[1] // size
    it.b, it.unpacked, it.b_leaf = address(B), address(B), IN_PLACE
    if pays_to_pack(it.rows, it.columns, it.b_column, it.lanes):
        it.b_leaf = PACK_BY_LEAF if it.tall else LEAF * it.width
    room = np.empty(max(0, it.b_leaf) * it.leaves * size + 64, np.uint8)
    parts = np.empty((subtrees if subtrees > 1 else 0, C.shape[0], it.columns), C.dtype)
    it.a, it.a_row, it.a_step = address(A), A.strides[0] // size, A.strides[1] // size
    it.c, it.c_row, it.relu = address(C), C.strides[0] // size, int(relu)
    it.ones = address(one) if ones_row else 0
    it.bias = address(bias) if bias.size else 0
    it.gate, it.gate_row = address(gate) if gate.size else 0, gate.strides[0] // size
    it.parts = address(parts) if subtrees > 1 else 0
    it.counter, it.code = address(counter), address(code)
    if it.b_leaf > 0:
        it.b = aligned(room)
        run_stage(code[STAGE], data, PACK, num_threads, counter, it.leaves)
    run_stage(code[STAGE], data, MULTIPLY, num_threads, counter, count_tasks(it))
    if subtrees > 1:
        run_stage(code[JOINED], data, JOIN, num_threads, counter, num_threads)
    keep_alive(room), keep_alive(parts), keep_alive(one), keep_alive(counter), keep_alive(data)

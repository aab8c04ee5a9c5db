"""The product C = A @ B of matrices A (M, K), B (K, N) by the portable arithmetic, blocked.

    C[i, j] = the tree of leaves: chains fma(A[i, k], B[k, j], total) over 256 indices k each

The loops, from the outside: tasks (blocks of rows, or subtrees of leaves) > leaf > block of rows >
panel of columns > tile. A is read where it lies, whatever its strides; B where it lies if it has
few uses, else packed in panels. Neither blocks nor tasks nor threads change a bit: one element is
one chain after another in any case, and only whole subtrees of leaves are added elsewhere.
"""

from collections import namedtuple

import numpy as np
from numba import prange

from fastmlp_kernels.blocking import (
    BLOCK_ROWS,
    LEAF,
    count_panels,
    lanes_of,
    leaves_per_task,
    pays_to_pack,
    set_panels,
    tile_shape,
)
from fastmlp_kernels.jit import flag, integer, jit, kernel, packed, share, view, writable
from fastmlp_kernels.memory import address, aligned, element_strides, load, next_task, store
from fastmlp_kernels.microkernel import call_micro_kernel

# Strides count elements; an address of 0 is none.
# A; `ones`, the address of a 1, gives it one more row, of ones, that lies nowhere.
Left = namedtuple("Left", "address row step rows ones")
# B; `leaf`: the elements of a packed leaf, 0 where B is read in place.
Right = namedtuple("Right", "address row column leaf")
# C, and what happens before its only store.
End = namedtuple("End", "address row bias relu gate gate_row")
# The product as a whole: the micro-kernel's address and what set_panels chose.
Plan = namedtuple("Plan", "micro_kernel itemsize lanes panels width inner leaves")
# What one task computes: rows i0 .. i1 over leaves first .. stop.
Task = namedtuple("Task", "i0 i1 first stop")


@jit
def count_leaves(inner, has_bias):
    """The leaves of the index k, of which a bias is one more; one where there is nothing."""
    return max(1, (inner + has_bias + LEAF - 1) // LEAF)


@jit
def make_plan(micro_kernel, itemsize, inner, columns, has_bias):
    lanes = lanes_of(itemsize)
    panels = np.empty((count_panels(columns, lanes), 4), np.int64)
    set_panels(columns, lanes, panels)
    width = panel_width(columns, lanes)
    leaves = count_leaves(inner, has_bias)
    return Plan(micro_kernel, itemsize, lanes, panels, width, inner, leaves)


@jit
def panel_width(columns, lanes):
    """The elements that a row of a packed panel, or of a partial tile, takes: whole vectors."""
    return (columns + lanes - 1) // lanes * lanes


@jit
def pack_leaf(zero, plan, right, leaf, target):
    """Copy B's rows of one leaf to the address `target`, panel after panel, padded with zeros."""
    start = leaf * LEAF
    steps = min(LEAF, plan.inner - start)
    for p in range(plan.panels.shape[0]):
        first, columns = plan.panels[p, 0], plan.panels[p, 1]
        width = panel_width(columns, plan.lanes)
        for k in range(steps):
            source = (start + k) * right.row + first * right.column
            place = steps * first + k * width
            if right.column == 1:
                for j in range(columns):
                    store(load(zero, right.address, source + j), target, place + j)
            else:
                for j in range(columns):
                    store(load(zero, right.address, source + j * right.column), target, place + j)
            for j in range(columns, width):
                store(zero, target, place + j)


@jit
def look_ahead(plan, left, i, start, rows, number):
    """What of A to fetch during tile `number` of a block: an address and its step for each k.

    Where k runs along the memory, the same rows of the next block, whole rows spread over the
    leaves; where it runs across, one cache line of the next block for each k.
    """
    if left.row != 1:
        ahead = (i + BLOCK_ROWS) * left.row + start * rows
        return left.address + ahead * plan.itemsize, rows
    ahead = i - i % BLOCK_ROWS + BLOCK_ROWS
    if ahead >= left.rows:
        ahead, start = 0, start + LEAF
    ahead += number * (64 // plan.itemsize)
    return left.address + (start * left.step + ahead) * plan.itemsize, left.step


@jit
def run_panel(zero, plan, left, right, end, task, block, leaf, p, partials):
    """One panel's tiles of the rows block, block + 1, ... of a task, over one leaf."""
    first, columns, vectors, group = plan.panels[p]
    start = leaf * LEAF
    steps = min(LEAF, plan.inner - start)
    width = panel_width(columns, plan.lanes)
    if right.leaf:
        b_step = width
        b = right.address + (leaf * right.leaf + steps * first) * plan.itemsize
    else:
        b_step = right.row
        b = right.address + (start * right.row + first) * plan.itemsize
    closing = int(leaf == task.stop - 1)
    bias = end.bias + first * plan.itemsize if end.bias and leaf == plan.leaves - 1 else 0
    height = task.i1 - task.i0 + 1
    # The row of ones comes after the last row of A.
    stop = min(block + BLOCK_ROWS, task.i1)
    extra = 1 if left.ones and stop == left.rows else 0
    i = block
    number = 0
    while i < stop + extra:
        if i < stop:
            a, a_row, a_step = (
                left.address + (i * left.row + start * left.step) * plan.itemsize,
                left.row,
                left.step,
            )
            rows, tile_vectors, tile_group = tile_shape(stop - i, vectors, group)
            ahead, ahead_step = look_ahead(plan, left, i, start, rows, number)
        else:
            a, a_row, a_step = left.ones, 0, 0
            rows, tile_vectors, tile_group = tile_shape(1, vectors, group)
            ahead, ahead_step = a, 0
        if p > 0:
            ahead, ahead_step = a, 0
        gate = end.gate + (i * end.gate_row + first) * plan.itemsize if end.gate else 0
        level = partials + (height * first + (i - task.i0) * width) * plan.itemsize
        c = end.address + (i * end.row + first) * plan.itemsize
        call_micro_kernel(
            plan.micro_kernel,
            zero,
            (
                rows, tile_vectors, tile_group, a, a_row, a_step, b, b_step, steps,
                leaf - task.first, closing, level, height * plan.width,
                c, end.row, columns, bias, end.relu, gate, end.gate_row, ahead, ahead_step,
            ),
        )  # fmt: skip
        i += rows
        number += 1


@jit
def partials_size(plan, rows, leaves):
    """The elements that the partial tiles of a task take: a level for each bit of the counter."""
    levels = 0
    while (leaves - 1) >> levels:
        levels += 1
    return levels * (rows + 1) * plan.width


@jit
def run_task(zero, plan, left, right, end, task, scratch):
    """All of a task. `scratch`: address of its partial tiles, and of room for a packed leaf behind
    them if B is to be packed as it comes (right.leaf < 0)."""
    own = right
    room = scratch + partials_size(plan, task.i1 - task.i0, task.stop - task.first) * plan.itemsize
    for leaf in range(task.first, task.stop):
        if right.leaf < 0:
            pack_leaf(zero, plan, right, leaf, room)
            size = LEAF * plan.width
            own = Right(room - leaf * size * plan.itemsize, right.row, right.column, size)
        for block in range(task.i0, max(task.i1, task.i0 + 1), BLOCK_ROWS):
            for p in range(plan.panels.shape[0]):
                run_panel(zero, plan, left, own, end, task, block, leaf, p, scratch)


@jit
def run_tasks(zero, plan, left, right, end, leaves_each, parts, counter):
    """Take tasks until there are none: blocks of rows, or subtrees of `leaves_each` leaves.

    A subtree's result goes to its own matrix of `parts`, whose rows are C's.
    """
    rows = left.rows
    by_leaves = parts.shape[0] > 0
    count = parts.shape[0] if by_leaves else max(1, (rows + BLOCK_ROWS - 1) // BLOCK_ROWS)
    size = partials_size(plan, rows if by_leaves else min(rows, BLOCK_ROWS), leaves_each)
    if right.leaf < 0:
        size += LEAF * plan.width
    buffer = np.empty(size + 64 // plan.itemsize, parts.dtype)
    scratch = aligned(buffer)
    number = next_task(counter)
    while number < count:
        if by_leaves:
            first = number * leaves_each
            task = Task(0, rows, first, min(first + leaves_each, plan.leaves))
            part = End(address(parts[number]), parts.shape[2], end.bias, 0, 0, 0)
            run_task(zero, plan, left, right, part, task, scratch)
        else:
            first = number * BLOCK_ROWS
            task = Task(first, min(first + BLOCK_ROWS, rows), 0, plan.leaves)
            run_task(zero, plan, left, right, end, task, scratch)
        number = next_task(counter)
    return buffer.size  # keeps the buffer alive until here


@jit
def join_parts(parts, C, rows):
    """C = the tree over the parts, for the given rows."""
    count, distance = parts.shape[0], 1
    while distance < count:
        for number in range(0, count - distance, 2 * distance):
            for i in range(rows.start, rows.stop):
                for j in range(C.shape[1]):
                    parts[number, i, j] += parts[number + distance, i, j]
        distance *= 2
    for i in range(rows.start, rows.stop):
        for j in range(C.shape[1]):
            C[i, j] = parts[0, i, j]


@jit
def describe(A, B, bias, gate, C, relu, ones, micro_kernel):
    """The product's operands as addresses and strides, and its plan."""
    a_row, a_step = element_strides(A)
    b_row, b_column = element_strides(B)
    left = Left(address(A), a_row, a_step, A.shape[0], address(ones) if ones.size else 0)
    right = Right(address(B), b_row, b_column, 0)
    end = End(
        address(C),
        C.strides[0] // C.itemsize,
        address(bias) if bias.size else 0,
        int(relu),
        address(gate) if gate.size else 0,
        gate.strides[0] // gate.itemsize,
    )
    zero = C.dtype.type(0)
    plan = make_plan(micro_kernel, C.itemsize, A.shape[1], C.shape[1], int(bias.size > 0))
    return zero, plan, left, right, end


@jit
def pack_leaf_of(A, B, bias, gate, C, relu, ones, micro_kernel, leaf, room):
    zero, plan, _, right, _ = describe(A, B, bias, gate, C, relu, ones, micro_kernel)
    target = aligned(room) + leaf * LEAF * plan.width * plan.itemsize
    pack_leaf(zero, plan, right, leaf, target)


@jit
def work(A, B, bias, gate, C, relu, ones, micro_kernel, leaf, room, leaves_each, parts, counter):
    """One thread's share. `leaf` is Right's, `room` holds the packed B where there is one."""
    zero, plan, left, right, end = describe(A, B, bias, gate, C, relu, ones, micro_kernel)
    source = aligned(room) if leaf > 0 else right.address
    right = Right(source, right.row, right.column, leaf)
    run_tasks(zero, plan, left, right, end, leaves_each, parts, counter)


@kernel(
    lambda real: (
        view(real, 2), view(real, 2), packed(real, 1), view(real, 2), writable(real, 2),
        flag, flag, integer, integer,
    ),
    parallel=True,
)  # fmt: skip
def product(A, B, bias, gate, C, relu, ones_row, micro_kernel, num_threads):
    """C = gate(relu(A @ B + bias)).

    A (M, K), B (K, N), C (M, N) with contiguous rows, or (M + 1, N) with `ones_row`: then A has one
    more row, of ones, that lies nowhere. bias (N,) or empty: one more row of B, for one more column
    of ones of A. `relu`: x > 0 ? x : +0. gate (M, N) with contiguous rows, or empty: a product with
    gate > 0 ? 1 : 0. `micro_kernel`: its address for the dtype, of microkernel.micro_kernel.
    """
    if C.size == 0:
        return
    ones = np.ones(int(ones_row), C.dtype)
    lanes = lanes_of(C.itemsize)
    width = panel_width(C.shape[1], lanes)
    leaves = count_leaves(A.shape[1], int(bias.size > 0))
    leaves_each = leaves
    if not relu and not gate.size:
        leaves_each = leaves_per_task(leaves, A.shape[0], num_threads)
    subtrees = (leaves + leaves_each - 1) // leaves_each if leaves_each < leaves else 0
    parts = np.empty((subtrees, C.shape[0], C.shape[1]), C.dtype)

    leaf = 0  # how B is read: 0 in place, -1 packed as it comes, else packed here
    if pays_to_pack(A.shape[0], C.shape[1], B.strides[1] // B.itemsize, lanes):
        leaf = -1 if subtrees else LEAF * width
    room = np.empty(max(0, leaf) * leaves + 64 // C.itemsize, C.dtype)
    counter = np.zeros(1, np.int64)
    if num_threads == 1:
        if leaf > 0:
            for n in range(leaves):
                pack_leaf_of(A, B, bias, gate, C, relu, ones, micro_kernel, n, room)
        work(A, B, bias, gate, C, relu, ones, micro_kernel, leaf, room, leaves_each, parts, counter)
        return
    if leaf > 0:
        for n in prange(leaves):
            pack_leaf_of(A, B, bias, gate, C, relu, ones, micro_kernel, n, room)
    for _ in prange(num_threads):
        work(A, B, bias, gate, C, relu, ones, micro_kernel, leaf, room, leaves_each, parts, counter)
    if subtrees:
        for thread in prange(num_threads):
            join_parts(parts, C, share(C.shape[0], thread, num_threads))

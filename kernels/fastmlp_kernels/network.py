"""The layers of a network in one call: the classes of a batch, block of rows by block of rows.

    h = relu(h @ W + b) for each layer but the last, logits = h @ W + b; class = first largest logit

A block's activations never leave the level-2 cache. Its x is looked at for NaN and inf just before
it is multiplied, which takes a hundredth of a single row's time; a look of NumPy's takes a third.
`layers` (L, 4) tells for each layer its inputs, outputs, whether it has a bias, and where its W,
with the bias as last row, starts in the flat parameters.
"""

from collections import namedtuple
from functools import cache
from typing import Any

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from fastmlp_kernels.blocking import (
    BLOCK_ROWS,
    LEAF,
    count_leaves,
    count_panels,
    lanes_of,
    panel_width,
    pays_to_pack,
    set_panels,
)
from fastmlp_kernels.jit import address_of, integer, jit, kernel, packed, result
from fastmlp_kernels.memory import add_one, address, aligned, fields_at, keep_alive, load, store
from fastmlp_kernels.microkernel import micro_kernel
from fastmlp_kernels.packing import make_panels
from fastmlp_kernels.parallel import run_stage
from fastmlp_kernels.product import pack_leaf, partials_size, run_task, serial_product

Network = namedtuple(
    "Network",
    "x x_row rows block_rows layers count parameters packed classes itemsize counter tile",
)
FIELDS = len(Network._fields)
PACKED, COUNTER = Network._fields.index("packed"), Network._fields.index("counter")
PACK, PREDICT = np.int64(0), np.int64(1)
INPUTS, OUTPUTS, BIAS, START = range(4)
PLAN = 3  # numbers of a plan before those of its layers
# What `predict` tells, a bit each: classes are written; x holds NaN or inf; a class is below 0.
DONE, NOT_FINITE, NEGATIVE = 1, 2, 4
COUNTERS = 4  # tasks taken, tasks done; the second bit and the third


@jit
def layer_field(net, layer, field):
    return load(np.int64(0), net.layers, 4 * layer + field)


@jit
def layer_leaves(net, layer):
    return count_leaves(layer_field(net, layer, INPUTS), layer_field(net, layer, BIAS))


@jit
def packed_size(net, layer):
    """The elements of a layer's packed W; 0 where it is read in place."""
    outputs, lanes = layer_field(net, layer, OUTPUTS), lanes_of(net.itemsize)
    if not pays_to_pack(net.rows, outputs, 1, lanes):
        return 0
    return layer_leaves(net, layer) * LEAF * panel_width(outputs, lanes)


@jit
def describe_layer(net, layer, packed, h, h_row, rows, out):
    """The product of one layer for a block of rows: h (rows, inputs) -> out (rows, outputs)."""
    inputs, outputs = layer_field(net, layer, INPUTS), layer_field(net, layer, OUTPUTS)
    W = net.parameters + layer_field(net, layer, START) * net.itemsize
    bias = W + inputs * outputs * net.itemsize if layer_field(net, layer, BIAS) else 0
    return serial_product(
        h, h_row, 1, rows, 0, W, outputs, packed if packed_size(net, layer) > 0 else 0,
        out, outputs, bias, int(layer < net.count - 1), 0, 0, 0, inputs, outputs, net.itemsize,
        net.tile,
    )  # fmt: skip


@jit
def pack_weights(zero, net):
    """Pack every layer's W, a leaf a task."""
    number, packed, before = add_one(net.counter), net.packed, 0
    for layer in range(net.count):
        it = describe_layer(net, layer, packed, 0, 0, net.block_rows, 0)
        if packed_size(net, layer) > 0:
            panels = make_panels(net.block_rows, it.columns, it.lanes)
            while number < before + it.leaves:
                target = packed + (number - before) * it.b_leaf * net.itemsize
                pack_leaf(zero, it, panels, number - before, target)
                add_one(net.counter + 8)
                number = add_one(net.counter)
            before += it.leaves
        packed += packed_size(net, layer) * net.itemsize


@jit
def block_rows(rows, num_threads):
    """The rows of a task: whole tiles of 8, few enough that every thread has one."""
    each = (rows + num_threads - 1) // num_threads
    return max(1, min(BLOCK_ROWS, (each + 7) // 8 * 8, rows))


@jit
def first_largest(zero, row, count):
    """The index of the largest of `count` elements at the address `row`, the first NaN if any."""
    best, at = load(zero, row, 0), 0
    for j in range(1, count):
        value = load(zero, row, j)
        if value > best or (value != value and best == best):
            best, at = value, j
    return at


@jit
def some_not_finite(zero, place, count):
    """Whether one of the `count` elements at an address is NaN or infinite."""
    found = False
    for i in range(count):
        found |= not abs(load(zero, place, i)) < np.inf
    return found


@jit
def class_of(zero, net, row, count):
    """The first largest of a row's logits; -1 - j for logit j that isn't finite."""
    at = np.int64(first_largest(zero, row, count))
    if not abs(load(zero, row, at)) < np.inf:
        store(np.int64(NEGATIVE), net.counter, 3)
        return -1 - at
    return at


@jit
def predict_blocks(zero, net):
    """Take blocks of rows until there are none: all layers, then the classes."""
    lanes = lanes_of(net.itemsize)
    widest, partials, count = 0, 0, 0
    for layer in range(net.count):
        it = describe_layer(net, layer, 0, 0, 0, net.block_rows, 0)
        widest = max(widest, it.width)
        partials = max(partials, partials_size(it))
        count += count_panels(net.block_rows, it.columns, lanes)
    room = net.block_rows * widest
    # One allocation for all, as each costs 50 ns of the 3 us that a single row takes.
    memory = np.empty(5 * count + ((2 * room + partials) * net.itemsize + 64) // 8 + 1, np.int64)
    panels = memory[: 5 * count].reshape(count, 5)
    front = aligned(memory[5 * count :])
    back, scratch = front + room * net.itemsize, front + 2 * room * net.itemsize
    filled = False
    block = add_one(net.counter) * net.block_rows
    while block < net.rows:
        rows = min(net.block_rows, net.rows - block)
        h, h_row, packed = net.x + block * net.x_row * net.itemsize, net.x_row, net.packed
        if some_not_finite(zero, h, rows * h_row):
            store(np.int64(NOT_FINITE), net.counter, 2)
        first = 0
        for layer in range(net.count):
            it = describe_layer(net, layer, packed, h, h_row, rows, back)
            mine = panels[first : first + count_panels(net.block_rows, it.columns, lanes)]
            if not filled:
                set_panels(it.columns, lanes, mine)
            run_task(zero, it, mine, 0, scratch, scratch)
            packed += packed_size(net, layer) * net.itemsize
            first += mine.shape[0]
            h, h_row = back, it.columns
            front, back = back, front
        filled = True
        for i in range(rows):
            at = class_of(zero, net, h + i * h_row * net.itemsize, h_row)
            store(at, net.classes, block + i)
        add_one(net.counter + 8)
        block = add_one(net.counter) * net.block_rows
    keep_alive(memory)


def _worker(zero):
    def network_stage(data, stage, thread):
        net = Network(*fields_at(data, FIELDS))
        if stage == PACK:
            pack_weights(zero, net)
        else:
            predict_blocks(zero, net)

    return network_stage


@cache
def compiled(dtype):
    """The addresses, for a NumPy dtype, of the compiled parts that `predict` calls: an array."""
    signature = (types.CPointer(types.int64), types.int64, types.int64)
    return np.array([address_of(_worker(dtype.type(0)), signature), micro_kernel(dtype)])


def plan(layers: NDArray[np.int64], parameters: NDArray[Any]) -> NDArray[np.int64]:
    """What `predict` has to know of a model: an array, valid as long as `parameters` lie there."""
    return np.array([*compiled(parameters.dtype), parameters.ctypes.data, *layers.flat])


@kernel(lambda real: (packed(real, 2), packed(integer, 1), result(integer, 1), integer))
def predict(x, plan, classes, num_threads):
    """Write classes (N,) of x (N, inputs), and tell so, with NOT_FINITE and NEGATIVE as it may be.

    Where the largest logit j isn't finite, the class is -1 - j. 0, and nothing is written, for
    other inputs, and for another N: another thread can have given x a shape since it was read.
    An array less to hand over is 40 ns less of the 3 us of a single row.
    """
    worker, tile, parameters, layers = plan[0], plan[1], plan[2], plan[PLAN:]
    if x.shape[1] != layers[INPUTS] or x.shape[0] != classes.size:
        return 0
    net = Network(
        address(x), x.shape[1], x.shape[0],
        block_rows(x.shape[0], num_threads), address(layers), layers.size // 4,
        parameters, 0, address(classes), x.itemsize, 0, tile,
    )  # fmt: skip
    size, leaves = 0, 0
    for layer in range(net.count):
        if packed_size(net, layer) > 0:
            size += packed_size(net, layer)
            leaves += layer_leaves(net, layer)
    memory = np.empty(FIELDS + COUNTERS + (size * net.itemsize + 64) // 8, np.int64)
    data, counter = memory[:FIELDS], memory[FIELDS:]
    counter[2], counter[3] = 0, 0
    for field in range(FIELDS):
        data[field] = net[field]
    data[PACKED] = aligned(memory[FIELDS + COUNTERS :])
    data[COUNTER] = address(counter)
    if size > 0:
        run_stage(worker, data, PACK, num_threads, counter, leaves)
    blocks = (net.rows + net.block_rows - 1) // net.block_rows
    run_stage(worker, data, PREDICT, num_threads, counter, blocks)
    found = DONE | counter[2] | counter[3]
    keep_alive(memory)
    return found

"""What a plan names has addresses once it is compiled: its tables, its kernels, its tiles."""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from fastmlp_kernels.compiling.cpu import architecture, vector_bits
from fastmlp_kernels.compiling.late import Late
from fastmlp_kernels.compiling.notices import expect_kernels
from fastmlp_kernels.compiling.stored import address
from fastmlp_kernels.plans import record

from ..checks import Array
from ..plan.blocking import Machine, machine
from ..plan.matmul import (
    Argument,
    Layout,
    backward_arrays,
    forward_arrays,
    plan_backward,
    plan_forward,
)
from ..plan.table import Plan
from ..plan.ways import STATES
from ..threads import SMALLEST_PARALLEL_WORK

Planner = Callable[[Layout, Machine], Plan]
ARGUMENTS: dict[Planner, Callable[[Layout], list[Argument]]] = {
    plan_forward: forward_arrays,
    plan_backward: backward_arrays,
}

MOST_PRODUCTS = 1024
# Kernels by the module that has their makers; of those above the arguments, below dtypes alone.
_WITHOUT_DTYPE = {"product": "products.product_walk", "gather": "steps.rows", "move": "steps.rows"}
_BY_DTYPE = {
    **{"sparse": "products.sparse_walk", "find": "steps.zeros", "watch": "steps.zeros"},
    **{"loss": "steps.step_loss", "argmax": "steps.step_loss", "softmax": "steps.heads"},
    **{"join": "steps.rows", "gate": "steps.rows", "add": "steps.rows"},
    **{"rates": "steps.weights", "squares": "steps.norm", "clip": "steps.norm"},
}
DTYPES: dict[int, np.dtype[Any]] = {4: np.dtype(np.float32), 8: np.dtype(np.float64)}


def this_machine() -> Machine:
    """Return what of this CPU decides."""
    return machine(vector_bits(), architecture() == "aarch64")


def shared_words(plan: Plan, dtype: np.dtype[Any]) -> Array:
    """Return what threads share of a plan, whose kernels are compiled for a dtype if need be."""
    words = np.zeros(record.SHARED_WORDS, np.int64)
    words[record.THREADS], words[record.OWN_BYTES] = plan.threads, plan.own
    if plan.threads > 1:
        words[record.ON_THREADS] = starter()
    place = plan.words.ctypes.data
    tables = record.PROGRAMS, record.STAGES, record.TASKS, record.OPERATIONS, record.PLAN
    for table, start in zip(tables, plan.starts, strict=True):
        words[table] = place + 8 * start
    with expect_kernels(len(plan.kinds) + len(plan.vectors) + len(plan.shapes)):
        for kind in sorted(plan.kinds):
            words[record.KERNELS + record.OPCODES[kind]] = _kernel(kind, dtype)
        for vectors in sorted(plan.vectors):
            words[record.ROWS_KERNELS + vectors] = address(
                "products.sparse", "rows_kernel", dtype, vectors
            )
        for number in sorted(plan.shapes):
            words[record.TILES + number] = address(
                "products.microkernel", "tile_kernel", dtype, *this_machine().shapes[number]
            )
    return words


class PlannedProduct(NamedTuple):
    """What a call of a product's kernel needs.

    words: compiled; room: int64 of memory; is_packed: all arrays are.
    """

    words: Array
    room: int
    is_packed: bool


@lru_cache(MOST_PRODUCTS)
def product_plan(plan: Planner, *layout: Any) -> PlannedProduct | None:
    """Return what a call of a product's kernel needs; layout: the fields of one.

    None where strides are not whole elements, as those of a field of a record: copy the array.
    """
    key = Layout(*layout)
    if not key.is_in_elements():
        return None
    planned, dtype = plan(key, this_machine()), DTYPES[key.itemsize]
    starts = np.cumsum([record.CALL_WORDS, record.SHARED_WORDS])
    words = np.zeros(starts[-1] + planned.words.size, np.int64)
    call, own, tables = np.split(words, starts)
    arguments = ARGUMENTS[plan](key)
    call[record.CALL_HEAD :] = np.array(arguments, np.int64).reshape(-1)
    tables[:] = planned.words
    own[:] = shared_words(planned._replace(words=tables), dtype)
    size = record.team_bytes(key.threads) + key.threads * planned.own + planned.buffers
    room = record.SHARED_WORDS + size // 8 + record.LINE // 8
    own[record.ROOM] = room
    own[record.WORKER] = worker()
    work = math.prod(key.x_shape) * key.W_shape[1]
    always_serial = key.threads == 1 and work < SMALLEST_PARALLEL_WORK
    call[: record.CALL_HEAD] = dtype.num, 0 if always_serial else key.threads
    is_packed = all(it.is_packed for it in arguments)
    return PlannedProduct(words, room, is_packed)


def compile_all(dtype: np.dtype[Any]) -> None:
    """Compile what any plan may name, for a dtype."""
    shapes, vectors = this_machine().shapes, range(1, this_machine().sparse_vectors + 1)
    if not vector_bits():
        vectors = range(0)  # no product passes over zeros
    with expect_kernels(len(record.OPCODES) + len(vectors) + len(shapes)):
        for kind in record.OPCODES:
            _kernel(kind, dtype)
        for count in vectors:
            address("products.sparse", "rows_kernel", dtype, count)
        for shape in shapes:
            address("products.microkernel", "tile_kernel", dtype, *shape)
    starter()


def worker() -> int:
    """Return the address of what each thread runs."""
    return address("plans.execute", "worker")


@cache
def starter() -> int:
    """Return the address of what starts threads, which are Numba's."""
    return int(Late("plans.parallel").starter())


def _kernel(kind: str, dtype: np.dtype[Any]) -> int:
    """Return the address of the kernel of an operation."""
    if kind in STATES:
        return address("steps.weights", "update_kernel", dtype, kind)
    if kind in record.ACTIVATIONS:
        return address("activations", "activate_kernel", dtype, kind)
    if kind in record.TARGET_LOSSES:
        return address("steps.losses", "target_loss_kernel", dtype, kind)
    if kind in record.HEADS:
        return address("steps.heads", "head_kernel", dtype, kind)
    if kind == "pack":
        lanes = this_machine().lanes(dtype.itemsize)
        return address("steps.weights", "pack_kernel", dtype, lanes)
    if kind in _WITHOUT_DTYPE:
        return address(_WITHOUT_DTYPE[kind], f"{kind}_kernel")
    maker = "sparse_walk_kernel" if kind == "sparse" else f"{kind}_kernel"
    return address(_BY_DTYPE[kind], maker, dtype)

"""The updates of the parameters: sgd, momentum, Adam, and kin, each for a whole list in one call.

Every operation is elementwise and rounded once, so both arithmetics, portable and numpy, have the
same bits and the same kernel. Constants are rounded once to the dtype of each parameter.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
from fastmlp_kernels.compiling.late import Late

from ..checks import FLOATS, Array
from ..threads import HAS_GIL, threads_for
from .matmul_relu import affine
from .update_checks import (
    GRADS,
    decay_rate,
    real_number,
    refuse_overlap,
    step_number,
    updatable,
    weight_decay_number,
)

kernels, update_lists = Late("update"), Late("update_lists")

# An element takes about as long as eight multiply-adds: 0.13 ns on one core of an EPYC 9005.
WORK_PER_ELEMENT = 8

_BY_NUMBER = {dtype.num: dtype for dtype in FLOATS}
MOST_POWERS = 100
_powers: dict[float, tuple[int, float]] = {}


def sgd(params: Sequence[Array], grads: Sequence[Array], learning_rate: float) -> None:
    """Update every p of `params` in place: p = p - learning_rate * g.

    params: arrays of any shapes, float32 or float64, writable. grads: an array for each, of its
    shape and dtype; float32 beside a float64 parameter is promoted.

    Raises TypeError for a single array instead of a list and for other dtypes; ValueError for
    shapes or counts that differ, for read-only arrays, and where a parameter shares memory with
    another array. Nothing is written then.
    """
    rate = real_number("learning_rate", learning_rate)
    _update(kernels.sgd, (rate,), params, grads)


def momentum(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array],
    learning_rate: float,
    momentum: float,
) -> None:
    """Update every p and v in place: v = momentum * v + g; p = p - learning_rate * v.

    velocities: an array for each parameter, of its shape and dtype, at first zeros. The rest and
    the errors are those of `sgd`. This is the momentum of PyTorch's SGD (dampening 0, no Nesterov).
    """
    rate = real_number("learning_rate", learning_rate)
    constants = (rate, real_number("momentum", momentum))
    _update(kernels.momentum, constants, params, grads, velocities=velocities)


def nesterov(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array],
    learning_rate: float,
    momentum: float,
) -> None:
    """Update every p and v in place by Nesterov's momentum, as PyTorch's SGD writes it.

    v = momentum * v + g; p = p - learning_rate * (g + momentum * v), with the new v. The rest and
    the errors are those of `momentum`.
    """
    rate = real_number("learning_rate", learning_rate)
    constants = (rate, real_number("momentum", momentum))
    _update(kernels.nesterov, constants, params, grads, velocities=velocities)


def adam(
    params: Sequence[Array],
    grads: Sequence[Array],
    m: Sequence[Array],
    v: Sequence[Array],
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """Update every p, m and v in place by Adam (Kingma & Ba, 2015), as PyTorch writes it.

    m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * (g * g);
    p = p - (s * m) / (sqrt(v) / c + epsilon), with s = learning_rate / (1 - beta1^step) and
    c = sqrt(1 - beta2^step) computed in float64.

    m, v: an array for each parameter, of its shape and dtype, at first zeros. step: 1 for the first
    update, then 2, and so on. The rest and the errors are those of `sgd`, and ValueError for a step
    below 1 or a beta outside 0 <= beta < 1.
    """
    constants = _of_adam(step, real_number("learning_rate", learning_rate), beta1, beta2, epsilon)
    _update(kernels.adam, constants, params, grads, m=m, v=v)


def adamw(
    params: Sequence[Array],
    grads: Sequence[Array],
    m: Sequence[Array],
    v: Sequence[Array],
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """Update every p, m and v in place by AdamW (Loshchilov & Hutter, 2019), as PyTorch writes it.

    Adam with p = keep * p - ... in place of p - ..., keep = 1 - learning_rate * weight_decay
    computed in float64: the decay is no part of g. The rest and the errors are those of `adam`, and
    ValueError for a weight_decay below 0.
    """
    rate, decay = real_number("learning_rate", learning_rate), weight_decay_number(weight_decay)
    constants = (*_of_adam(step, rate, beta1, beta2, epsilon), 1 - rate * decay)
    _update(kernels.adamw, constants, params, grads, m=m, v=v)


def _of_adam(
    step: int, rate: float, beta1: float, beta2: float, epsilon: float
) -> tuple[float, ...]:
    """Return the constants of Adam's step, for the kernels."""
    step = step_number(step)
    beta1, beta2 = decay_rate("beta1", beta1), decay_rate("beta2", beta2)
    s = rate / (1 - _power(beta1, step))
    c = sqrt(1 - _power(beta2, step))
    return beta1, 1 - beta1, beta2, 1 - beta2, s, c, real_number("epsilon", epsilon)


def sum_of_squares(g: Array) -> float:
    """Return the sum of g * g in float64, g (N,): a product of one element."""
    wide = g.astype(np.float64)
    return float(affine(wide[np.newaxis], wide[:, np.newaxis], None, None, relu=False)[0, 0])


def _power(base: float, exponent: int) -> float:
    """base^exponent (0 <= base < 1) by repeated multiplication, going on from the last call's."""
    done, power = _powers.get(base, (0, 1.0))
    if done > exponent:
        done, power = 0, 1.0
    for _ in range(exponent - done):
        smaller = power * base
        if smaller == power:  # 0 or a subnormal that rounds to itself: it stays
            break
        power = smaller
    if len(_powers) > MOST_POWERS:  # a sweep over betas would keep one for each
        _powers.clear()
    _powers[base] = exponent, power
    return power


def _update(
    kernel: Any, constants: tuple[float, ...], params: Any, grads: Any, **states: Any
) -> None:
    """Run `kernel` on the rows of the lists, in one call for each dtype."""
    if _updated_usual(kernel, constants, params, grads, *states.values()):
        return
    lists = updatable(params, grads, **states)
    arrays, copies = (lists.arrays, []) if lists.plain else _packed(lists.arrays)
    rows = list(zip(*[[array.ravel() for array in column] for column in arrays], strict=True))
    table, scalars = np.empty((len(rows), 1 + kernels.MOST_ARRAYS), np.int64), np.array(constants)
    calls, filled = [], 0
    for dtype in FLOATS:
        first, size = filled, 0
        for row in rows:
            if row[0].dtype == dtype:
                kernels.place[dtype](table, filled, *row, *row[: kernels.MOST_ARRAYS - len(row)])
                filled, size = filled + 1, size + row[0].size
        if size:
            num_threads = threads_for(size * WORK_PER_ELEMENT)
            calls.append(
                (kernel[dtype], table, first, filled, scalars, dtype.itemsize, num_threads)
            )
    if not lists.plain or not kernels.disjoint[table.dtype](table, len(arrays)):
        refuse_overlap(lists)
    for compiled, *arguments in calls:
        compiled(*arguments)
    for array, copy in copies:
        array[...] = copy


def _updated_usual(kernel: Any, constants: tuple[float, ...], *lists: Any) -> bool:
    """Run `kernel` if the lists are of usual arrays, and tell whether it did.

    The compiled call looks whether they are. Checks in Python took 10 us for four small parameters.
    """
    if not HAS_GIL:
        return False
    if any(type(each) is not list for each in lists):
        return False
    # What they hold lives on, and there are as many, whatever other threads do.
    mine = [each[:] for each in lists]
    if not mine[0] or any(len(each) != len(mine[0]) for each in mine):
        return False
    table = np.empty((len(mine[0]), 1 + kernels.MOST_ARRAYS), np.int64)
    place_all = update_lists.place_all[table.dtype]
    kind, elements = place_all(
        table, len(table), *mine, *mine[:1] * (kernels.MOST_ARRAYS - len(mine))
    )
    if kind < 0 or not kernels.disjoint[table.dtype](table, len(mine)):
        return False
    if elements:
        dtype = _BY_NUMBER[kind]
        num_threads = threads_for(elements * WORK_PER_ELEMENT)
        scalars = np.array(constants)
        kernel[dtype](table, 0, len(table), scalars, dtype.itemsize, num_threads)
    return True


def _packed(lists: list[list[Array]]) -> tuple[list[list[Array]], list[tuple[Array, Array]]]:
    """Return the lists with contiguous copies where needed, and the pairs to copy back."""
    packed, copies = [], []
    for kind, arrays in enumerate(lists):
        row = []
        for param, array in zip(lists[0], arrays, strict=True):
            flags = array.flags
            if not (flags.c_contiguous and flags.aligned and array.dtype == param.dtype):
                copy = np.array(array, param.dtype, order="C")
                if kind != GRADS:
                    copies.append((array, copy))
                array = copy
            row.append(array)
        packed.append(row)
    return packed, copies

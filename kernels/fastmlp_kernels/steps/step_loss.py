"""Operations of a plan at a network's end: the loss and its gradient; the classes."""

from functools import cache

import numpy as np

from fastmlp_kernels.compiling.jit import address_of
from fastmlp_kernels.log_softmax import loss_gradient
from fastmlp_kernels.plans.memory import array_at, load, store
from fastmlp_kernels.plans.operands import KERNEL, moved, operation_at, own_at, place, set_word
from fastmlp_kernels.plans.record import LOSS_MORE, LOSS_SCRATCH, NEGATIVE

_loss_at, _argmax_at = operation_at["loss"], operation_at["argmax"]


def _loss(zero):
    itemsize = zero.itemsize

    def loss(row, shared, own):
        """The loss of each sample, and the gradient of the batch's mean loss."""
        it, me = _loss_at(row), own_at(own)
        by = me.row * it.row_size * itemsize
        losses = array_at(zero, moved(it.losses, me.row * itemsize, shared, own), me.rows)
        me.hits += loss_gradient(
            array_at(zero, moved(it.logits, by, shared, own), me.rows * it.row_size),
            it.row_size,
            it.classes,
            array_at(np.int64(0), moved(it.labels, me.row * 8, shared, own), me.rows),
            losses.dtype.type(1 / me.batch),
            array_at(zero, moved(it.scales, me.row * itemsize, shared, own), me.rows)[
                : me.rows if it.scales else 0
            ],
            losses,
            array_at(zero, moved(it.grad, by, shared, own), me.rows * it.row_size),
            array_at(zero, place(it.scratch, shared, own), LOSS_SCRATCH * (me.rows + LOSS_MORE)),
        )

    return loss


def _argmax(zero):
    itemsize = zero.itemsize

    def first_largest(row, shared, own):
        """The index j of the largest logit of each row, of the first NaN if there is one.

        Where that logit isn't finite, it is -1 - j, and NEGATIVE tells so.
        """
        it, me = _argmax_at(row), own_at(own)
        logits = moved(it.logits, me.row * it.row_size * itemsize, shared, own)
        classes = moved(it.classes, me.row * 8, shared, own)
        for i in range(me.rows):
            best, at = load(zero, logits, i * it.row_size), 0
            for j in range(1, it.columns):
                value = load(zero, logits, i * it.row_size + j)
                if value > best or (value != value and best == best):
                    best, at = value, j
            if not abs(best) < np.inf:
                at = -1 - at
                set_word(shared, NEGATIVE, 1)
            store(np.int64(at), classes, i)

    return first_largest


@cache
def loss_kernel(dtype):
    return address_of(_loss(dtype.type(0)), KERNEL)


@cache
def argmax_kernel(dtype):
    return address_of(_argmax(dtype.type(0)), KERNEL)

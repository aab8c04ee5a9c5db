"""Losses of outputs z beside targets y, as operations of a plan; see record.py for their fields.

The loss' name chooses l(z, y) and s(z, y), its derivative by z:

    losses[i] = rowsum over j of l[i, j] / outputs
    grad[i, j] = c[i] * s[i, j], c[i] = scale[i] / outputs; +0 where c[i] is 0

scale[i] is 1 / samples of the batch, or what stands at `scales`. z and grad have a row every
`row_size` elements, targets (N, outputs) have no gaps. Up to `at_once` samples' elements lie side
by side in `scratch`, so that rows of one output are vectors, too; `constants`: delta, delta / 2. A
hit is a sample whose every output has y's class, and whose loss is no NaN.
"""

from functools import cache

from numba.extending import overload

from fastmlp_kernels.arithmetic.elementary import exp, log
from fastmlp_kernels.arithmetic.row_sum import row_sum
from fastmlp_kernels.arithmetic.sigmoids import logistic
from fastmlp_kernels.compiling.jit import address_of
from fastmlp_kernels.plans.memory import array_at
from fastmlp_kernels.plans.operands import KERNEL, moved, operation_at, own_at, place

_loss_at = operation_at["squared_error"]  # of each of them


def _squared_error(loss, z, y, one, delta, half_delta):
    d = z - y
    return d * d, d + d


def _absolute_error(loss, z, y, one, delta, half_delta):
    d, zero = z - y, one - one
    return abs(d), one if d > zero else -one if d < zero else d - d


def _huber(loss, z, y, one, delta, half_delta):
    d, half = z - y, one / (one + one)
    size = abs(d)
    slope = delta if d > delta else -delta if d < -delta else d
    return (delta * (size - half_delta) if size > delta else half * (d * d)), slope


def _poisson(loss, z, y, one, delta, half_delta):
    e = exp(z)
    return e - y * z, e - y


def _binary_cross_entropy(loss, z, y, one, delta, half_delta):
    zero, e = one - one, exp(-abs(z))
    u = one + e
    more = log(u) * (e / (u - one))  # outside of the choice, or no loop becomes vector code
    more = e if u == one else more  # log(1 + e)
    return ((z if z > zero else zero) - z * y) + more, logistic(z) - y


ELEMENTS = {
    "squared_error": _squared_error,
    "absolute_error": _absolute_error,
    "huber": _huber,
    "poisson": _poisson,
    "binary_cross_entropy": _binary_cross_entropy,
}


def element(loss, z, y, one, delta, half_delta):
    """Return l(z, y) and s(z, y) of the loss of this name, scalars of one dtype."""
    raise NotImplementedError("element runs in jitted code only")


# Forced into the loop, however long: a loop with calls is no vector code.
@overload(element, prefer_literal=True, jit_options={"forceinline": True})
def _element(loss, z, y, one, delta, half_delta):
    return ELEMENTS[loss.literal_value]


def _target_loss(zero, name):
    itemsize, one = zero.itemsize, zero.dtype.type(1)
    has_classes = name == "binary_cross_entropy"

    def target_loss(row, shared, own):
        """The loss of each sample, the gradient of the batch's mean loss, and its hits."""
        it, me = _loss_at(row), own_at(own)
        outputs, row_size, rows = it.outputs, it.row_size, me.rows
        by = me.row * row_size * itemsize
        z = array_at(zero, moved(it.z, by, shared, own), rows * row_size)
        grad = array_at(zero, moved(it.grad, by, shared, own), rows * row_size)
        by = me.row * outputs * itemsize
        targets = array_at(zero, moved(it.targets, by, shared, own), rows * outputs)
        losses = array_at(zero, moved(it.losses, me.row * itemsize, shared, own), rows)
        scales = array_at(zero, moved(it.scales, me.row * itemsize, shared, own), rows)
        constants = array_at(zero, place(it.constants, shared, own), 2)
        delta, half_delta = constants[0], constants[1]
        most = it.at_once * outputs
        scratch = array_at(zero, place(it.scratch, shared, own), 3 * most)
        real = losses.dtype.type
        count, scale = real(outputs), real(1 / me.batch)
        for first in range(0, rows, it.at_once):
            stop = min(first + it.at_once, rows)
            size = (stop - first) * outputs
            y = targets[first * outputs : stop * outputs]
            dense, values, slopes = scratch[:size], scratch[most:], scratch[2 * most :]
            for i in range(stop - first):
                for j in range(outputs):
                    dense[i * outputs + j] = z[(first + i) * row_size + j]
            for k in range(size):
                values[k], slopes[k] = element(name, dense[k], y[k], one, delta, half_delta)
            for i in range(stop - first):
                start = i * outputs
                total = row_sum(values, start, outputs) if outputs > 1 else zero + values[start]
                losses[first + i] = total / count
                if has_classes:
                    is_right = total == total
                    for j in range(outputs):
                        is_right &= (dense[start + j] > zero) == (y[start + j] > zero)
                    me.hits += is_right
                if it.scales:
                    scale = scales[first + i]
                c = scale / count
                for j in range(outputs):
                    slope = c * slopes[start + j] if c != zero else zero
                    grad[(first + i) * row_size + j] = slope

    return target_loss


@cache
def target_loss_kernel(dtype, name):
    return address_of(_target_loss(dtype.type(0), name), KERNEL)

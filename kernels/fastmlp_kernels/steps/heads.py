"""What predictions make of the last layer's outputs z, as operations of a plan; see record.py.

    softmax                   of each row, z - log(r) or e / r, as log_softmax.py has them
    counts                    e^z
    binary_probabilities      1 / (1 + e^-z)
    binary_log_probabilities  its logarithm, min(z, 0) - log(1 + e^-|z|)
    binary_classes            z > 0, as int64

Results (N, columns) have no gaps, z a row every `row_size` elements. Where there are two columns of
one output, they are the function of -z and of z: what is said of the classes 0 and 1.
"""

from functools import cache

from numba.extending import overload

from fastmlp_kernels.arithmetic import lanes
from fastmlp_kernels.arithmetic.elementary import exp, log, log_all
from fastmlp_kernels.arithmetic.lanes import LANES
from fastmlp_kernels.arithmetic.row_sum import last_part
from fastmlp_kernels.arithmetic.sigmoids import logistic
from fastmlp_kernels.compiling.jit import address_of
from fastmlp_kernels.log_softmax import exponentials
from fastmlp_kernels.plans.memory import array_at, store
from fastmlp_kernels.plans.operands import KERNEL, moved, operation_at, own_at, place

_softmax_at = operation_at["softmax"]
_head_at = operation_at["counts"]  # of each of the others


def _exp(name, z, one):
    return exp(z)


def _logistic(name, z, one):
    return logistic(z)


def _log_logistic(name, z, one):
    zero, e = one - one, exp(-abs(z))
    u = one + e
    more = log(u) * (e / (u - one))  # outside of the choice, or no loop becomes vector code
    more = e if u == one else more  # log(1 + e)
    return (z if z < zero else zero) - more


ELEMENTS = {
    "counts": _exp,
    "binary_probabilities": _logistic,
    "binary_log_probabilities": _log_logistic,
}


def element(name, z, one):
    """Return the head of this name of a scalar z."""
    raise NotImplementedError("element runs in jitted code only")


# As in losses.py: forced into the loop, however long.
@overload(element, prefer_literal=True, jit_options={"forceinline": True})
def _element(name, z, one):
    return ELEMENTS[name.literal_value]


def _softmax(zero):
    itemsize = zero.itemsize

    def softmax(row, shared, own):
        """The logarithms of a row's probabilities, or these. z is overwritten."""
        it, me = _softmax_at(row), own_at(own)
        classes, stride, size = it.classes, it.row_size, me.rows * it.row_size
        z = array_at(zero, moved(it.z, me.row * stride * itemsize, shared, own), size)
        e = array_at(zero, moved(it.e, me.row * stride * itemsize, shared, own), size)
        scratch = array_at(zero, place(it.scratch, shared, own), 2 * me.rows)
        result = array_at(
            zero, moved(it.result, me.row * classes * itemsize, shared, own), me.rows * classes
        )
        r, log_r = scratch[: me.rows], scratch[me.rows :]
        exponentials(z, stride, classes, e, r)
        if it.is_log:
            log_all(r, log_r)
        rest = last_part(classes)
        for i in range(me.rows):
            less, divisor = lanes.splat(log_r[i]), lanes.splat(r[i])
            source, target = i * stride, i * classes
            for j in range(0, classes, LANES):
                if it.is_log:
                    values = lanes.subtract(lanes.load(z, source + j), less)
                else:
                    values = lanes.divide(lanes.load(e, source + j), divisor)
                count = LANES if j + LANES <= classes else rest
                lanes.store_end(result, target + j, count, values, result.size)

    return softmax


def _elements(zero, name):
    itemsize, one = zero.itemsize, zero.dtype.type(1)

    def head_of_elements(row, shared, own):
        """result = f(z), or f(-z) and f(z)."""
        it, me = _head_at(row), own_at(own)
        outputs, columns, stride = it.outputs, it.columns, it.row_size
        z = array_at(
            zero, moved(it.z, me.row * stride * itemsize, shared, own), me.rows * stride
        )
        result = array_at(
            zero, moved(it.result, me.row * columns * itemsize, shared, own), me.rows * columns
        )
        dense = array_at(zero, place(it.scratch, shared, own), result.size)
        for i in range(me.rows):
            if columns > outputs:
                dense[2 * i], dense[2 * i + 1] = -z[i * stride], z[i * stride]
            else:
                for j in range(outputs):
                    dense[i * outputs + j] = z[i * stride + j]
        for k in range(result.size):
            result[k] = element(name, dense[k], one)

    return head_of_elements


def _classes(zero):
    itemsize = zero.itemsize

    def binary_classes(row, shared, own):
        """result = z > 0 ? 1 : 0."""
        it, me = _head_at(row), own_at(own)
        outputs, stride = it.outputs, it.row_size
        z = array_at(
            zero, moved(it.z, me.row * stride * itemsize, shared, own), me.rows * stride
        )
        result = moved(it.result, me.row * outputs * 8, shared, own)
        for i in range(me.rows):
            for j in range(outputs):
                store(int(z[i * stride + j] > zero), result, i * outputs + j)

    return binary_classes


@cache
def softmax_kernel(dtype):
    return address_of(_softmax(dtype.type(0)), KERNEL)


@cache
def head_kernel(dtype, name):
    zero = dtype.type(0)
    return address_of(_elements(zero, name) if name in ELEMENTS else _classes(zero), KERNEL)

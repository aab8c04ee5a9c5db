"""The loss: losses[i] = rowsum over j of (-log_prob[i, j]) * label[i, j]; and a sum's mean."""

from functools import cache

import numpy as np

from fastmlp_kernels.arithmetic.float_mode import in_ieee_mode
from fastmlp_kernels.arithmetic.row_sum import row_sum
from fastmlp_kernels.compiling.jit import address_of, kernel, packed, result
from fastmlp_kernels.compiling.passed import SIZE, START
from fastmlp_kernels.plans.memory import array_at
from fastmlp_kernels.plans.operands import KERNEL, passed
from fastmlp_kernels.plans.record import LEAF


@in_ieee_mode
def _sample_losses(log_prob, label, losses):
    terms = np.empty(log_prob.shape[1], log_prob.dtype)
    for i in range(log_prob.shape[0]):
        for j in range(terms.size):
            terms[j] = -log_prob[i, j] * label[i, j]
        losses[i] = row_sum(terms, 0, terms.size)


@in_ieee_mode
def mean_of(values, waiting):
    """waiting[0] = the mean; the sums of subtrees wait there, one for each bit of the leaves."""
    leaves = (values.size + LEAF - 1) // LEAF
    for leaf in range(leaves):
        total = values.dtype.type(0)
        for i in range(leaf * LEAF, min((leaf + 1) * LEAF, values.size)):
            total += values[i]
        # The subtrees that end here: those of the trailing ones; of all ones, at the last leaf.
        level, bits, is_last = 0, leaf, leaf == leaves - 1
        while bits & 1 or (is_last and bits):
            if bits & 1:
                total = waiting[level] + total
            level, bits = level + 1, bits >> 1
        waiting[level if not is_last else 0] = total
    waiting[0] /= values.dtype.type(values.size)


@kernel(lambda real: (packed(real, 2), packed(real, 2), result(real, 1)))
def sample_losses(log_prob, label, losses):
    """log_prob and label (N, classes), with at least one class; losses (N,)."""
    _sample_losses(log_prob, label, losses)


def _mean(zero):
    def mean(call, _, __):
        values = array_at(zero, passed(call, 1, START), passed(call, 1, SIZE))
        mean_of(values, array_at(zero, passed(call, 2, START), passed(call, 2, SIZE)))

    return mean


@cache
def mean_kernel(dtype):
    """total[0] = the mean of values (N,), N >= 1, added as a product with ones; total (64,)."""
    return address_of(_mean(dtype.type(0)), KERNEL)

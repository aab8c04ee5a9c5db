"""The loss: losses[i] = rowsum over j of (-log_prob[i, j]) * label[i, j]; and a sum's mean."""

import numpy as np

from fastmlp_kernels.float_mode import in_ieee_mode
from fastmlp_kernels.jit import integer, kernel, packed, result
from fastmlp_kernels.row_sum import row_sum


@in_ieee_mode
def _sample_losses(log_prob, label, losses):
    terms = np.empty(log_prob.shape[1], log_prob.dtype)
    for i in range(log_prob.shape[0]):
        for j in range(terms.size):
            terms[j] = -log_prob[i, j] * label[i, j]
        losses[i] = row_sum(terms, 0, terms.size)


@in_ieee_mode
def _divide(total, count):
    total[0] /= total.dtype.type(count)


@kernel(lambda real: (packed(real, 2), packed(real, 2), result(real, 1)))
def sample_losses(log_prob, label, losses):
    """log_prob and label (N, classes), with at least one class; losses (N,)."""
    _sample_losses(log_prob, label, losses)


@kernel(lambda real: (result(real, 1), integer))
def divide(total, count):
    """total (1,) becomes total / count."""
    _divide(total, count)

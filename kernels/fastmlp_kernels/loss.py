"""The loss of each sample: losses[i] = rowsum over j of (-log_prob[i, j]) * label[i, j]."""

import numpy as np

from fastmlp_kernels.jit import kernel, packed, result
from fastmlp_kernels.row_sum import row_sum


@kernel(lambda real: (packed(real, 2), packed(real, 2), result(real, 1)))
def sample_losses(log_prob, label, losses):
    """log_prob and label (N, classes), with at least one class; losses (N,)."""
    terms = np.empty(log_prob.shape[1], log_prob.dtype)
    for i in range(log_prob.shape[0]):
        for j in range(terms.size):
            terms[j] = -log_prob[i, j] * label[i, j]
        losses[i] = row_sum(terms, 0, terms.size)

"""The loss in plain NumPy."""

from typing import Any

import numpy as np

from ..checks import Array
from ..choices import LossName
from ..labels import fitting_labels
from ..model.losses import CROSS_ENTROPY, checked_loss, mean_loss
from .losses import DELTA, PLAIN, Loss
from .matmul import matmul
from .row_sum import row_sum


def compute_loss(
    log_prob: Array, labels: Array, *, loss: LossName = "cross_entropy", delta: float | None = None
) -> Any:
    """Return the mean over samples of rowsum((-log_prob) * labels), or another loss of targets."""
    name, delta = checked_loss(loss, delta)
    if name != CROSS_ENTROPY:
        return mean_loss(log_prob, labels, Loss(name, delta or DELTA), PLAIN, mean)
    log_prob, labels = fitting_labels(log_prob, labels)
    with np.errstate(all="ignore"):
        return mean(row_sum(-log_prob * labels)[:, 0])


def mean(values: Array) -> Any:
    """Return the mean over samples, values (N,): a product with ones, then one division."""
    with np.errstate(all="ignore"):
        total = matmul(np.ones((1, len(values)), values.dtype), values.reshape(-1, 1))
        return total[0, 0] / values.dtype.type(len(values))

"""The loss: the mean over samples of their cross-entropy."""

from typing import Any

import numpy as np
from fastmlp_kernels.compiling.call import invoke
from fastmlp_kernels.compiling.late import Late
from fastmlp_kernels.compiling.stored import address

from ..arithmetic_mode import is_numpy
from ..checks import Array
from ..choices import LossName
from ..labels import fitting_labels
from ..model.losses import CROSS_ENTROPY, NUMPY, checked_loss, mean_loss
from ..reference.losses import DELTA, Loss
from .elementary import COMPILED

kernels = Late("loss")

_LEVELS = 64  # of the tree of any number of leaves


def compute_loss(
    log_prob: Array, labels: Array, *, loss: LossName = "cross_entropy", delta: float | None = None
) -> Any:
    """Return the mean over samples of the sum of -log_prob * labels, the cross-entropy.

    log_prob, labels: (N, classes), float32 or float64, labels one-hot (any numbers work); the loss
    is a NumPy scalar of the dtype they promote to. Raises TypeError for dtypes, ValueError for
    shapes and for no samples. loss, delta: another loss, as in `MLP`, of a model's outputs
    (N, outputs) and targets, as `fit` takes them.
    """
    name, delta = checked_loss(loss, delta)
    if name != CROSS_ENTROPY:
        elementary = NUMPY if is_numpy() else COMPILED
        return mean_loss(log_prob, labels, Loss(name, delta or DELTA), elementary, mean)
    log_prob, labels = fitting_labels(log_prob, labels)
    if is_numpy():
        return np.mean(np.sum(-log_prob * labels, axis=1))
    losses = np.empty((len(log_prob), 1), log_prob.dtype)
    kernels.sample_losses[log_prob.dtype](
        np.ascontiguousarray(log_prob), np.ascontiguousarray(labels), losses[:, 0]
    )
    return mean(losses[:, 0])


def mean(values: Array) -> Any:
    """Return the mean over samples, values (N,), N >= 1: a product with ones, then one division."""
    if is_numpy():
        return np.mean(values)
    total = np.empty(_LEVELS, values.dtype)
    invoke()(address("loss", "mean_kernel", values.dtype), np.ascontiguousarray(values), total)
    return total[0]

"""Scores: the share of samples that are right, and R^2, in float64, by weights where given."""

import numpy as np

from ..checks import Array
from .sample_weights import total


def weighted_share(right: Array, weight: Array | None) -> float:
    """Return the share of the samples that are right, by their weights."""
    if weight is None:
        return int(np.count_nonzero(right)) / len(right)
    return total(np.where(right, weight, 0.0)) / total(weight)


def r2_score(predicted: Array, y: Array, weight: Array | None) -> float:
    """Return R^2, the mean over outputs of 1 - residual / total; both arrays (samples, outputs).

    residual: the weighted sum of (y - predicted)^2; total: of (y - mean of y)^2. Where that is 0,
    an output has 1 if its residual is 0, else 0. NaN for a single sample.
    """
    if len(y) < 2:
        return float("nan")
    w = np.ones((len(y), 1)) if weight is None else weight[:, np.newaxis]
    y, predicted = y.astype(np.float64), predicted.astype(np.float64)
    with np.errstate(all="ignore"):
        mean = np.add.accumulate(w * y)[-1] / np.add.accumulate(w)[-1]
        away, off = y - mean, y - predicted
        whole = np.add.accumulate(w * (away * away))[-1]
        residual = np.add.accumulate(w * (off * off))[-1]
        scores = np.where(whole != 0, 1 - residual / whole, np.where(residual == 0, 1.0, 0.0))
    return total(scores) / len(scores)

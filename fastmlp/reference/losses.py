"""The losses of outputs z beside targets y, both (N, outputs), in plain NumPy.

The loss' name chooses what an element's loss l(z, y) is, and its derivative s(z, y) by z. A
sample's loss is rowsum(l) / outputs; the gradient of the sum of scale * loss over the samples is

    grad[i, j] = c[i] * s[i, j], c[i] = scale[i] / outputs; +0 where c[i] is 0

Every written operation is rounded once. Cross-entropy, of labels, is LogSoftmax's own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..checks import Array
from .elementary import exp, log
from .row_sum import row_sum
from .sigmoids import logistic

DELTA = 1.0  # huber's, where nobody gives one


class Elementary(NamedTuple):
    """The functions that the losses call."""

    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    logistic: Callable[[Array], Array]
    row_sum: Callable[[Array], Array]


PLAIN = Elementary(exp, log, logistic, row_sum)


class Loss(NamedTuple):
    """A loss by its name; delta: huber's, a float64."""

    name: str
    delta: float = DELTA


def _squared_error(z: Array, y: Array, delta: float, elementary: Elementary) -> tuple[Array, Array]:
    d = z - y
    return d * d, 2 * d


def _absolute_error(
    z: Array, y: Array, delta: float, elementary: Elementary
) -> tuple[Array, Array]:
    d = z - y
    return np.abs(d), np.sign(d)  # of -0, too, it is +0


def _huber(z: Array, y: Array, delta: float, elementary: Elementary) -> tuple[Array, Array]:
    d, (most, half) = z - y, np.array([delta, 0.5 * delta], z.dtype)
    size = np.abs(d)
    slope = np.where(d > most, most, np.where(d < -most, -most, d))
    return np.where(size > most, most * (size - half), 0.5 * (d * d)), slope


def _poisson(z: Array, y: Array, delta: float, elementary: Elementary) -> tuple[Array, Array]:
    e = elementary.exp(z)
    return e - y * z, e - y


def _binary_cross_entropy(
    z: Array, y: Array, delta: float, elementary: Elementary
) -> tuple[Array, Array]:
    more = _log_one_and_exp(-np.abs(z), elementary)
    return (np.where(z > 0, z, z.dtype.type(0)) - z * y) + more, elementary.logistic(z) - y


def _log_one_and_exp(x: Array, elementary: Elementary) -> Array:
    """Return log(1 + e^x) for x <= 0: log(u) * (e / (u - 1)), u = 1 + e, or e where u is 1.

    The quotient mends the rounding of u: Kahan's way, as in Goldberg, "What every computer
    scientist should know about floating-point arithmetic", 1991.
    """
    e = elementary.exp(x)
    u = 1 + e
    return np.where(u == 1, e, elementary.log(u) * (e / (u - 1)))


ELEMENTS: dict[str, Callable[[Array, Array, float, Elementary], tuple[Array, Array]]] = {
    "squared_error": _squared_error,
    "absolute_error": _absolute_error,
    "huber": _huber,
    "poisson": _poisson,
    "binary_cross_entropy": _binary_cross_entropy,
}


def sample_losses(loss: Loss, z: Array, y: Array, elementary: Elementary = PLAIN) -> Array:
    """Return the loss (N,) of each sample."""
    with np.errstate(all="ignore"):
        values, _ = ELEMENTS[loss.name](z, y, loss.delta, elementary)
        return np.asarray(elementary.row_sum(values).reshape(-1) / z.dtype.type(z.shape[1]))


def gradient(loss: Loss, z: Array, y: Array, scale: Array, elementary: Elementary = PLAIN) -> Array:
    """Return the gradient (N, outputs) of the sum of scale (N,) times the samples' losses."""
    with np.errstate(all="ignore"):
        _, slope = ELEMENTS[loss.name](z, y, loss.delta, elementary)
        c = (scale / z.dtype.type(z.shape[1]))[:, np.newaxis]
        return np.asarray(np.where(c != 0, c * slope, z.dtype.type(0)))


def predictions(loss: Loss, z: Array, elementary: Elementary = PLAIN) -> Array:
    """Return what the outputs z say of y (N, outputs): a number, or a class 0 or 1 as int64."""
    if loss.name == "binary_cross_entropy":
        return (z > 0).astype(np.int64)
    return elementary.exp(z) if loss.name == "poisson" else z


def probabilities(z: Array, elementary: Elementary = PLAIN) -> Array:
    """Return those of the class 1 for each of many outputs, of 0 and 1 (N, 2) for one output."""
    return elementary.logistic(_of_both_classes(z))


def log_probabilities(z: Array, elementary: Elementary = PLAIN) -> Array:
    """Return the logarithms of the same: min(z, 0) - log(1 + e^-|z|)."""
    z = _of_both_classes(z)
    with np.errstate(all="ignore"):
        low = np.where(z < 0, z, z.dtype.type(0))
        return np.asarray(low - _log_one_and_exp(-np.abs(z), elementary))


def _of_both_classes(z: Array) -> Array:
    return np.concatenate([-z, z], axis=1) if z.shape[1] == 1 else z

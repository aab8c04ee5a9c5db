"""The losses of a model: by name, as its methods and the definition of an epoch need them."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import notebook
from ..checks import Array, plain_array, real_arrays, remembered, rows_of_classes, shape_error
from ..labels import accuracy_of, class_labels, one_hot
from ..operations.update_checks import real_number
from ..reference import losses
from ..reference.losses import DELTA, ELEMENTS, Elementary, Loss
from ..targets import targets_of

if TYPE_CHECKING:
    from .estimator import Estimator

CROSS_ENTROPY = "cross_entropy"
LOSSES = (CROSS_ENTROPY, *ELEMENTS)
REGRESSIONS = ("squared_error", "absolute_error", "huber", "poisson")
NUMPY = Elementary(
    np.exp,
    np.log,
    notebook.logistic,
    lambda values: np.asarray(np.sum(values, axis=1, keepdims=True)),
)


def checked_loss(loss: Any, delta: object) -> tuple[Any, float | None]:
    """Return the name of a loss, and delta where it has one, or raise."""
    if not isinstance(loss, str) or loss not in LOSSES:
        raise shape_error("loss", f"one of {[*LOSSES]}", repr(loss), "pass loss='squared_error'")
    if loss == "huber":
        value = DELTA if delta is None else real_number("delta", delta)
        if not 0 < value < math.inf:
            raise shape_error("delta", "a finite number above 0", value, "pass delta=1.0")
        return loss, value
    if delta is not None:
        mend = "pass delta=None, or loss='huber'"
        raise shape_error("delta", f"None, as the loss is {loss}", repr(delta), mend)
    return loss, None


def loss_of(model: "Estimator") -> Loss:
    """Return the loss of a model."""
    return Loss(model.loss_name, DELTA if model.delta is None else model.delta)


def checked_y(model: "Estimator", name: str, y: Any, samples: int, check_finite: bool) -> Array:
    """Return labels (samples,) as int64, or targets (samples, outputs) in the model's dtype."""
    outputs = model.sizes[-1]
    if model.loss_name == CROSS_ENTROPY:
        return class_labels(name, y, outputs, samples)
    shape = samples, outputs
    return targets_of(name, y, model.loss_name, shape, model.dtype, check_finite)


def one_hot_rows(model: "Estimator", y: Any, samples: int) -> Any:
    """Return integer labels (samples,), as `fit` takes them, as one-hot rows; all else as it is."""
    if model.loss_name == CROSS_ENTROPY:
        array = plain_array("y", y)
        if array.dtype.kind in "iu" and array.size == samples:
            classes = model.sizes[-1]
            return one_hot(class_labels("y", y, classes, samples), classes, model.dtype)
    return y


def sample_losses(model: "Estimator", outputs: Array, y: Array) -> Array:
    """Return the loss (N,) of each sample: of the outputs of `forward` and checked y.

    Of log_prob it is 0 - log_prob[label], which is rowsum(-log_prob * one-hot) where all is finite.
    """
    if model.loss_name == CROSS_ENTROPY:
        return np.asarray(0 - outputs[np.arange(len(y)), y])
    return losses.sample_losses(loss_of(model), outputs, y, model._elementary())


def right_samples(model: "Estimator", logits: Array, sample_losses: Array, y: Array) -> Array:
    """Return which samples (N,) are right: as y says, with a loss that is no NaN."""
    if model.loss_name == CROSS_ENTROPY:
        right = np.argmax(logits, axis=1) == y
    else:
        right = ((logits > 0) == (y > 0)).all(axis=1)
    return np.asarray(right & ~np.isnan(sample_losses))


def output_gradient(model: "Estimator", label: Array) -> Array:
    """Return the gradient of the summed loss by the outputs, for what `backward` is given."""
    layers, _ = remembered(vars(model), "_last_forward", type(model).__name__)
    samples = len(layers.logits)
    if model.loss_name == CROSS_ENTROPY:
        return _through_head(model, -model._labels(label, samples))
    y, scale = checked_y(model, "label", label, samples, True), np.ones(samples, model.dtype)
    return losses.gradient(loss_of(model), model._last_logits, y, scale, model._elementary())


def scaled_gradient(model: "Estimator", y: Array, scale: Array) -> Array:
    """Return the same for checked y, each sample's loss times its scale; +0 where that is 0."""
    if model.loss_name != CROSS_ENTROPY:
        loss, z = loss_of(model), model._last_logits
        return losses.gradient(loss, z, y, scale, model._elementary())
    factor = scale[:, np.newaxis]
    label = one_hot(y, model.sizes[-1], model.dtype)
    return np.where(factor != 0, _through_head(model, -(label * factor)), model.dtype.type(0))


def _through_head(model: "Estimator", g: Array) -> Array:
    for operation in reversed(model._last_forward[1]):
        g = operation.backward(g)
    return g


def mean_loss(
    z: Array, y: Any, loss: Loss, elementary: Elementary, mean: Callable[[Array], Any]
) -> Any:
    """Return the mean loss of outputs z (N, outputs) beside targets y, for `compute_loss`."""
    (z,) = real_arrays(log_prob=z)
    rows_of_classes("log_prob", z)
    if len(z) == 0:
        raise shape_error("log_prob", "at least one sample", f"shape {z.shape}", "give some")
    targets = targets_of("labels", y, loss.name, z.shape, z.dtype, check_finite=False)
    return mean(losses.sample_losses(loss, z, targets, elementary))


def figures(
    model: "Estimator", y: Any, compute_loss: Callable[[Array, Any], Any]
) -> tuple[Any, Any]:
    """Return the mean loss of the last forward beside y, and its accuracy, if any.

    compute_loss: that of the model's package, for cross-entropy.
    """
    if model.loss_name == CROSS_ENTROPY:
        return compute_loss(model.log_prob, y), accuracy_of(model.log_prob, y)
    z = model._last_logits
    targets = checked_y(model, "y", y, len(z), True)
    losses = sample_losses(model, z, targets)
    if model.loss_name in REGRESSIONS:
        return model._mean(losses), None
    right = right_samples(model, z, losses, targets)
    return model._mean(losses), np.float64(np.count_nonzero(right)) / np.float64(len(right))

"""The loss, the accuracy and a training step in plain NumPy."""

from typing import Any

from ..checks import Array
from ..labels import accuracy_of
from ..model.losses import figures, one_hot_rows
from .loss import compute_loss
from .mlp import MLP
from .update import sgd


def compute_accuracy(log_prob: Array, labels: Array) -> Any:
    """Return the share of samples whose largest log_prob is their label's (one-hot or integer)."""
    return accuracy_of(log_prob, labels)


def train_one_step(model: MLP, x: Array, y: Array, learning_rate: float = 1e-5) -> tuple[Any, Any]:
    """Update the model by W -= learning_rate * W_grad; return (loss, accuracy) from before it."""
    model._refuse_read_only()
    y = one_hot_rows(model, y, len(model.forward(x)))
    model.backward(y)
    loss, accuracy = figures(model, y, compute_loss)
    sgd(model.parameters, model.gradients, learning_rate)
    return loss, accuracy


def test(model: MLP, x: Array, y: Array) -> tuple[Any, Any]:
    """Return (loss, accuracy) of the model for x (N, ...) and y."""
    y = one_hot_rows(model, y, len(model.forward(x)))
    return figures(model, y, compute_loss)


test.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name

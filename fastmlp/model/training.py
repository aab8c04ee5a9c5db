"""The loss, the accuracy and a training step, as the notebook calls them."""

from typing import Any

from ..checks import Array
from ..labels import accuracy_of
from ..operations.loss import compute_loss
from ..operations.update import sgd
from .losses import figures, one_hot_rows
from .mlp import MLP


def compute_accuracy(log_prob: Array, labels: Array) -> Any:
    """Return the share of samples whose largest log_prob is that of their label, a float64.

    log_prob (N, classes); labels one-hot (N, classes), or integers (N,). Raises TypeError for
    dtypes, ValueError for shapes, for integers outside 0 .. classes - 1 and for no samples.
    """
    return accuracy_of(log_prob, labels)


def train_one_step(model: MLP, x: Array, y: Array, learning_rate: float = 1e-5) -> tuple[Any, Any]:
    """Update the model by W -= learning_rate * W_grad; return (loss, accuracy) from before it.

    x (N, ...), y as `fit` takes it: integers (N,), one-hot rows (N, classes), or targets of
    another loss than cross-entropy; a regression's accuracy is None. The
    gradients are those of the summed loss, so a fitting learning rate falls as N rises; 1e-5 is the
    notebook's, for 60,000 samples. Errors are those of `model.forward`, `model.backward` and `sgd`;
    the model's parameters are unchanged then.
    """
    model._refuse_read_only()
    y = one_hot_rows(model, y, len(model.forward(x)))
    model.backward(y)
    loss, accuracy = figures(model, y, compute_loss)
    sgd([model.flat_parameters], [model.flat_gradients], learning_rate)
    return loss, accuracy


def test(model: MLP, x: Array, y: Array) -> tuple[Any, Any]:
    """Return (loss, accuracy) of the model for x (N, ...) and y, as `fit` takes it.

    A regression's accuracy is None.
    """
    y = one_hot_rows(model, y, len(model.forward(x)))
    return figures(model, y, compute_loss)


test.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name

"""What each method asks of a prediction, and what that is of the last layer's outputs."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checks import Array, shape_error
from ..reference.losses import log_probabilities, predictions, probabilities
from .losses import CROSS_ENTROPY, REGRESSIONS, loss_of

if TYPE_CHECKING:
    from .estimator import Estimator

_INTEGER: np.dtype[Any] = np.dtype(np.int64)
_PREDICT = {CROSS_ENTROPY: "classes", "binary_cross_entropy": "binary_classes", "poisson": "counts"}
_PROBABILITIES = {
    "predict_proba": ("softmax", "binary_probabilities"),
    "predict_log_proba": ("log_softmax", "binary_log_probabilities"),
}


class Goal(NamedTuple):
    """A goal by its name in plan/predict.py; the shape of a sample's result, and its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def goal_of(model: "Estimator", method: str) -> Goal:
    """Return what a method asks for; ValueError for the probabilities of a regression."""
    outputs, dtype, loss = model.sizes[-1], model.dtype, model.loss_name
    each = (outputs,) if outputs > 1 else ()
    if method == "losses":
        return Goal(method, (), dtype)
    if method in _PROBABILITIES:
        if loss in REGRESSIONS:
            raise shape_error(
                method, "a model whose loss is of classes", repr(loss),
                "predict(x) has the numbers",
            )  # fmt: skip
        of_row, of_element = _PROBABILITIES[method]
        if loss == CROSS_ENTROPY:
            return Goal(of_row, (outputs,), dtype)
        return Goal(of_element, (max(2, outputs),), dtype)
    name = _PREDICT.get(loss, "logits") if method == "predict" else "logits"
    if name == "classes":
        return Goal(name, (), _INTEGER)
    return Goal(name, each, _INTEGER if name == "binary_classes" else dtype)


def result_of(model: "Estimator", goal: Goal, logits: Array) -> Array:
    """Return a goal's result for logits (N, outputs), by operations one after the other."""
    name, elementary = goal.name, model._elementary()
    if name == "classes":
        result = np.argmax(logits, axis=1)
    elif name == "softmax":
        operation = model._head[0]()
        y = operation.forward(logits)
        result = operation.mem.get("p", y)
    elif name == "log_softmax":
        result = model._run_head(logits)[0]
    elif name == "binary_probabilities":
        result = probabilities(logits, elementary)
    elif name == "binary_log_probabilities":
        result = log_probabilities(logits, elementary)
    elif name == "logits":
        result = logits
    else:
        result = predictions(loss_of(model), logits, elementary)
    return np.asarray(result).reshape(len(logits), *goal.shape)

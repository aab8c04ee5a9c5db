"""The end of a composed step: the gradients' norm, weight decay, the optimizer's update."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import Array
from .fit_checks import Schedule

if TYPE_CHECKING:
    from .estimator import Estimator


def update(model: "Estimator", schedule: Schedule, state: list[list[Array]], step: int) -> None:
    """Change the parameters of a model by its gradients, and the state: one list for each array."""
    rate, decay = float(schedule.rates[step]), schedule.decay(step)
    with np.errstate(all="ignore"):
        if schedule.max_norm < math.inf:
            _clip(model, schedule.max_norm)
        if decay != 0:
            _decay(model, schedule, rate, decay)
    constants = schedule.beta1, schedule.beta2, schedule.epsilon
    adam = (*state, schedule.done + step + 1, rate, *constants)
    more: tuple[Any, ...] = {
        "sgd": (rate,),
        "momentum": (*state, rate, schedule.momentum),
        "nesterov": (*state, rate, schedule.momentum),
        "adam": adam,
        "adamw": (*adam, 0.0),  # what it keeps of W is there already
    }[schedule.optimizer]
    model._updates[schedule.optimizer]([model.flat_parameters], [model.flat_gradients], *more)


def _clip(model: "Estimator", max_norm: float) -> None:
    """Scale all gradients to a norm of max_norm, if theirs is finite and larger."""
    gradients = model.flat_gradients
    norm = math.sqrt(model._sum_of_squares(gradients))
    if max_norm < norm < math.inf:
        gradients[...] = gradients * model.dtype.type(max_norm / norm)


def _decay(model: "Estimator", schedule: Schedule, rate: float, weight_decay: float) -> None:
    """Add weight_decay * W to the gradients; AdamW's decay is of W itself, keep * W."""
    decay = model.dtype.type(weight_decay)
    keep = model.dtype.type(1 - rate * weight_decay)
    for inputs, W, gradient in zip(model.sizes, model.parameters, model.gradients, strict=False):
        rows = slice(None if schedule.decay_bias else inputs)
        if schedule.optimizer == "adamw":
            W[rows] = keep * W[rows]
        else:
            gradient[rows] = gradient[rows] + decay * W[rows]

"""What an optimizer keeps from one step to the next, so that a training can go on."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checks import Array, integer, shape_error
from ..plan.ways import STATES

if TYPE_CHECKING:
    from .estimator import Estimator

_ANEW = "pass None for one that starts anew"


class OptimizerState(NamedTuple):
    """An optimizer between two steps: what `fit` leaves as `model.optimizer_state`.

    optimizer: its name. step: how many steps it has made, Adam's t. arrays (k, parameters): of the
    model's dtype, each in the order of flat_parameters. momentum has its velocity, adam m and v;
    sgd has none, k = 0. No training writes to the arrays: a later state has new ones.
    """

    optimizer: str
    step: int
    arrays: Array


# The same as a model keeps it, as making this takes less of an epoch; its arrays one behind the
# other.
Kept = tuple[str, int, Array]


def checked_state(model: "Estimator", state: Any) -> Kept:
    """Return a state as the model keeps it, or raise where it isn't one of such a model."""
    if not isinstance(state, OptimizerState):
        got = type(state).__name__
        raise TypeError(f"optimizer_state: expected an OptimizerState or None, got {got}; {_ANEW}")
    optimizer, step, arrays = state.optimizer, state.step, np.asarray(state.arrays)
    if not isinstance(optimizer, str) or optimizer not in STATES:
        expected = f"an optimizer that is one of {[*STATES]}"
        raise shape_error("optimizer_state", expected, repr(optimizer), _ANEW)
    if integer("optimizer_state.step", step, _ANEW) < 0:
        raise shape_error("optimizer_state", "a step of 0 or more", step, _ANEW)
    shape = STATES[optimizer], model.flat_parameters.size
    if arrays.shape != shape or not np.can_cast(arrays.dtype, model.dtype, "equiv"):
        expected, got = f"{shape} and {model.dtype}", f"{arrays.shape} and {arrays.dtype}"
        raise shape_error("optimizer_state", f"arrays of shape {expected}", f"shape {got}", _ANEW)
    return optimizer, int(step), np.ascontiguousarray(arrays, model.dtype).reshape(-1)


def starting_state(model: "Estimator", optimizer: str, resume: bool) -> Kept:
    """Return the state that a training starts from: the kept one, or zeros; raise if none fits."""
    kept = model.optimizer_state
    if not resume or kept is None:
        zeros = np.zeros(STATES[optimizer] * model.flat_parameters.size, model.dtype)
        return optimizer, 0, zeros
    if kept.optimizer != optimizer:
        mend = f"pass optimizer={kept.optimizer!r}, or resume=False for a state that starts anew"
        expected = f"{kept.optimizer!r}, whose state is kept, to resume"
        raise shape_error("optimizer", expected, repr(optimizer), mend)
    return checked_state(model, kept)  # again, as a pickle can hold any

"""What an optimizer keeps from one step to the next, so that a training can go on."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checks import Array, integer, shape_error
from ..plan.ways import STATES

if TYPE_CHECKING:
    from .estimator import Estimator

_ANEW = "pass resume=False for a state that starts anew"


class OptimizerState(NamedTuple):
    """An optimizer between two steps: what `fit` leaves as `model.optimizer_state`.

    optimizer: its name. step: how many steps it has made, Adam's t. arrays (k, parameters): of the
    model's dtype, each in the order of flat_parameters. momentum has its velocity, adam m and v;
    sgd has none, k = 0. Nothing writes to the arrays: a later state has new ones.
    """

    optimizer: str
    step: int
    arrays: Array


def starting_state(model: "Estimator", optimizer: str, resume: bool) -> OptimizerState:
    """Return the state that a training starts from: the kept one, or zeros; raise if none fits."""
    shape = STATES[optimizer], model.flat_parameters.size
    kept: Any = model.optimizer_state
    if not resume or kept is None:
        return OptimizerState(optimizer, 0, np.zeros(shape, model.dtype))
    if not isinstance(kept, OptimizerState):
        got = type(kept).__name__
        raise TypeError(f"optimizer_state: expected an OptimizerState, got {got}; {_ANEW}")
    if kept.optimizer != optimizer:
        mend = f"pass optimizer={kept.optimizer!r}, or resume=False for a state that starts anew"
        expected = f"{kept.optimizer!r}, whose state is kept, to resume"
        raise shape_error("optimizer", expected, repr(optimizer), mend)
    if integer("optimizer_state.step", kept.step, _ANEW) < 0:
        raise shape_error("optimizer_state", "a step of 0 or more", kept.step, _ANEW)
    arrays = np.asarray(kept.arrays)
    if arrays.shape != shape or not np.can_cast(arrays.dtype, model.dtype, "equiv"):
        expected = f"arrays of shape {shape} and {model.dtype}"
        got = f"shape {arrays.shape} and {arrays.dtype}"
        raise shape_error("optimizer_state", expected, got, _ANEW)
    return kept._replace(arrays=np.ascontiguousarray(arrays, model.dtype))

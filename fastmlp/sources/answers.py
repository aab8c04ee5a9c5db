"""Predictions of samples that are read in pieces."""

from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import Array, output
from ..model.goals import goal_of
from .samples import rows_of

if TYPE_CHECKING:
    from ..model.estimator import Estimator


def answer_in_pieces(
    model: "Estimator", method: str, x: Any, out: Array | None, check_finite: bool
) -> Array | None:
    """Return what a method of predictions asks for, in `out` if given; None for x in memory."""
    rows, _ = rows_of(model, x, None, check_finite, ("x", "y"), False)
    if rows is None:
        return None
    goal = goal_of(model, method)
    result = np.empty((len(rows), *goal.shape), goal.dtype)
    target = None if out is None else output(out, result.shape, goal.dtype)
    with closing(rows.pieces()) as pieces:
        for start, piece in pieces:
            result[start : start + len(piece)] = model._answer(method, piece, None, False)
    if out is None or target is None:
        return result
    target[...] = result
    return out

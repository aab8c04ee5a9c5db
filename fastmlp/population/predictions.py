"""What many models say together.

Sums over models go one after the other, in their order, in float64: threads change no bit.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..checks import Array, shape_error
from ..model.estimator import Estimator
from ..model.goals import goal_of
from ..model.losses import CROSS_ENTROPY, REGRESSIONS
from ..model.sample_weights import ClassWeight
from .tasks import checked_models


def predict_many(
    models: Sequence[Estimator],
    x: Array,
    *,
    combine: Literal["vote", "mean", "std"] | None = None,
    check_finite: bool = True,
) -> Array:
    """Return what `predict` of each model says of x: (models, N), or (models, N, outputs).

    combine: of classes "vote", the one that most models say, the first of equal ones; of numbers
    "mean" or "std", over the models, which needs no memory for all of them. Raises what `predict`
    raises, and ValueError where models have other outputs than the first.
    """
    found = checked_models(models)
    is_number = bool(found) and found[0].loss_name in REGRESSIONS
    _check_combine(combine, ("mean", "std") if is_number else ("vote",))
    results = _of_each(found, "predict", x, check_finite)
    return _combined(results, combine, _classes(found))


def predict_proba_many(
    models: Sequence[Estimator],
    x: Array,
    *,
    combine: Literal["mean", "std"] | None = None,
    check_finite: bool = True,
) -> Array:
    """Return what `predict_proba` of each model says of x: (models, N, classes).

    combine: "mean" or "std" over the models. Else as `predict_many`.
    """
    _check_combine(combine, ("mean", "std"))
    found = checked_models(models)
    results = _of_each(found, "predict_proba", x, check_finite)
    return _combined(results, combine, 0)


def score_many(
    models: Sequence[Estimator],
    x: Array,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight = None,
    check_finite: bool = True,
) -> Array:
    """Return the `score` of each model, float64 (models,). Arguments and errors are those there."""
    weights: dict[str, Any] = {"sample_weight": sample_weight, "class_weight": class_weight}
    scores = [
        model.score(x, y, check_finite=check_finite, **weights) for model in checked_models(models)
    ]
    return np.array(scores, np.float64)


def _check_combine(combine: str | None, known: tuple[str, ...]) -> None:
    if combine is not None and combine not in known:
        expected = f"None, or one of {[*known]}"
        raise shape_error("combine", expected, repr(combine), f"pass combine={known[0]!r}")


def _classes(models: list[Estimator]) -> int:
    """Return how many classes votes are for."""
    return models[0].sizes[-1] if models and models[0].loss_name == CROSS_ENTROPY else 2


def _of_each(models: list[Estimator], method: str, x: Array, check_finite: bool) -> Iterator[Array]:
    """Return arrays (some models, ...) of the models' results, which have one shape and dtype."""
    if not models:
        raise shape_error("models", "at least one model", "none", "give some")
    first = goal_of(models[0], method)
    for number, model in enumerate(models):
        goal = goal_of(model, method)
        if goal[1:] != first[1:]:
            expected = f"results of shape {first.shape} and {first.dtype}, as the first model's"
            got = f"shape {goal.shape} and {goal.dtype}"
            raise shape_error(f"models[{number}]", expected, got, "call it for each kind of model")
    for is_compiled, group in groupby(models, lambda model: model._predicts_together(method)):
        if is_compiled:
            from .answers import answers  # it loads the compiler

            yield from answers(list(group), method, x, check_finite)
        else:
            for model in group:
                yield model._answer(method, x, None, check_finite)[np.newaxis]


def _combined(results: Iterator[Array], combine: str | None, classes: int) -> Array:
    if combine is None:
        return np.concatenate(list(results))
    if combine == "vote":
        return _vote(results, classes)
    count, dtype = 0, None
    mean: Any = 0.0
    squares: Any = 0.0
    # Welford, "Note on a method for calculating corrected sums", 1962
    for result in chain.from_iterable(results):
        count, dtype = count + 1, result.dtype
        off = result.astype(np.float64) - mean
        mean = mean + off / count
        squares = squares + off * (result - mean)
    return np.asarray(mean if combine == "mean" else np.sqrt(squares / count)).astype(dtype)


def _vote(results: Iterator[Array], classes: int) -> Array:
    """Return the class with most votes: of samples (N,), or of each label (N, labels)."""
    votes: Any = 0
    for some in results:
        votes = votes + (some[..., np.newaxis] == np.arange(classes)).sum(axis=0)
    return np.asarray(np.argmax(votes, axis=-1))

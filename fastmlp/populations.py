"""Around `fit_many`, in Python alone: members, folds, bootstraps, sweeps, and joint predictions.

Sums over models go one after the other, in their order, in float64: threads change no bit.
"""

import copy
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .checks import Array, positive, shape_error
from .model.estimator import Estimator
from .model.losses import CROSS_ENTROPY, REGRESSIONS
from .model.parameters import Rng, bit_generator, shuffled
from .model.population import checked_models
from .model.sample_weights import ClassWeight


def ensemble(model: Estimator, n: int, rng: Rng = None) -> list[Any]:
    """Return n models like this one, each with initial weights of its own.

    rng: None, a seed or a PCG64 generator, whose draws are the seeds; the model itself, its weights
    and its optimizer_state have no part in it. ValueError where n is below 1.
    """
    count, generator = positive("n", n), bit_generator(rng)
    models = [copy.deepcopy(model) for _ in range(count)]
    for one in models:
        one.flat_parameters[...] = 0
        one._draw_weights(bit_generator(int(generator.random_raw())))
        one.optimizer_state = None
    return models


def kfold(n: int, folds: int, rng: Rng = None) -> list[tuple[Array, Array]]:
    """Return (training, held out) sample numbers of each fold, int64, each ascending.

    The first n % folds folds hold out one sample more. The order of the samples is that of an
    epoch of `fit` with this rng. ValueError where folds isn't 2 to n.
    """
    if not 2 <= positive("folds", folds) <= positive("n", n):
        raise shape_error("folds", f"2 to n, {n}", folds, "give fewer folds or more samples")
    parts = np.array_split(shuffled(bit_generator(rng), n), folds)
    held_out = [np.sort(part).astype(np.int64) for part in parts]
    return [(np.setdiff1d(np.arange(n), part), part) for part in held_out]


def bootstrap(n: int, models: int, rng: Rng = None) -> list[Array]:
    """Return for each model n sample numbers, int64, drawn with replacement: `fit_many`'s rows.

    Each is the upper 53 bits of a PCG64 random_raw, times 2^-53, times n, rounded down. ValueError
    where n or models is below 1.
    """
    samples, generator = positive("n", n), bit_generator(rng)
    count = positive("models", models)
    draws = [generator.random_raw(samples) >> np.uint64(11) for _ in range(count)]
    return [np.minimum((one * 2.0**-53 * samples).astype(np.int64), samples - 1) for one in draws]


def sweep(model: Estimator, **values: Sequence[Any]) -> tuple[list[Any], dict[str, list[Any]]]:
    """Return a copy of the model for each combination, and the lists that `fit_many` takes.

    values: `fit`'s arguments, as learning_rate=[0.1, 0.01]; the last of them changes fastest.
    """
    rows = list(product(*values.values()))
    lists = {name: [row[place] for row in rows] for place, name in enumerate(values)}
    return [copy.deepcopy(model) for _ in rows], lists


def predict_many(
    models: Sequence[Estimator], x: Array, *, combine: str | None = None, check_finite: bool = True
) -> Array:
    """Return what `predict` of each model says of x: (models, N), or (models, N, outputs).

    combine: of classes "vote", the one that most models say, the first of equal ones; of numbers
    "mean" or "std", over the models, which needs no memory for all of them. Raises what `predict`
    raises, and ValueError where models have other outputs than the first.
    """
    found = checked_models(models)
    is_number = bool(found) and found[0].loss_name in REGRESSIONS
    _check_combine(combine, ("mean", "std") if is_number else ("vote",))
    results = _of_each(found, lambda model: model.predict(x, check_finite=check_finite))
    return _combined(results, combine, _classes(found))


def predict_proba_many(
    models: Sequence[Estimator], x: Array, *, combine: str | None = None, check_finite: bool = True
) -> Array:
    """Return what `predict_proba` of each model says of x: (models, N, classes).

    combine: "mean" or "std" over the models. Else as `predict_many`.
    """
    _check_combine(combine, ("mean", "std"))
    found = checked_models(models)
    results = _of_each(found, lambda model: model.predict_proba(x, check_finite=check_finite))
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


def _of_each(models: list[Estimator], call: Any) -> Iterator[Array]:
    """Return the models' results, which have one shape and dtype."""
    if not models:
        raise shape_error("models", "at least one model", "none", "give some")
    first: Array | None = None
    for number, model in enumerate(models):
        result = call(model)
        first = result if first is None else first
        if (result.shape, result.dtype) != (first.shape, first.dtype):
            expected = f"results of shape {first.shape} and {first.dtype}, as the first model's"
            got = f"shape {result.shape} and {result.dtype}"
            raise shape_error(f"models[{number}]", expected, got, "call it for each kind of model")
        yield result


def _combined(results: Iterator[Array], combine: str | None, classes: int) -> Array:
    if combine is None:
        return np.stack(list(results))
    if combine == "vote":
        return _vote(results, classes)
    count, dtype = 0, None
    mean: Any = 0.0
    squares: Any = 0.0
    for result in results:  # Welford, "Note on a method for calculating corrected sums", 1962
        count, dtype = count + 1, result.dtype
        off = result.astype(np.float64) - mean
        mean = mean + off / count
        squares = squares + off * (result - mean)
    return np.asarray(mean if combine == "mean" else np.sqrt(squares / count)).astype(dtype)


def _vote(results: Iterator[Array], classes: int) -> Array:
    """Return the class with most votes: of samples (N,), or of each label (N, labels)."""
    votes: Any = 0
    for result in results:
        votes = votes + (result[..., np.newaxis] == np.arange(classes))
    return np.asarray(np.argmax(votes, axis=-1))

"""What `fit_many` trains, in Python alone: members, folds, bootstraps, sweeps."""

import copy
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from ..checks import Array, positive, shape_error
from ..model.draws import Rng, bit_generator, shuffled
from ..model.estimator import Estimator


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

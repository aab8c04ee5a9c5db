"""Many networks at once, and scikit-learn's estimators: more rows of the table."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import fastmlp

from .cases import (
    TRAINING_TOLERANCE,
    Case,
    Error,
    count_flops,
    count_weights,
    relative_error,
)
from .providers import Array

TINY, TINY_SMOOTH = (10, 16, 3), (10, 64, 64, 1)
EPOCHS, RATE = 10, 1e-3
NETWORKS = "networks"  # the curve's name
COMPARED = ("fastmlp", "jax", "torch eager")


def fit_many(
    networks: int, sizes: tuple[int, ...], samples: int, batch_size: int, **fields: Any
) -> Case:
    """Ten epochs in order by Adam: relu and classes, or of one output tanh and squared error."""
    is_smooth = sizes[-1] == 1
    kind: dict[str, Any] = {"activation": "tanh", "loss": "squared_error"} if is_smooth else {}

    def make() -> tuple[tuple[Any, ...], Error]:
        random = np.random.default_rng(0)
        x = random.uniform(-1, 1, (samples, sizes[0])).astype(np.float32)
        z = np.sin(x @ random.uniform(-2, 2, (sizes[0], sizes[-1])).astype(np.float32))
        y = z[:, 0] if is_smooth else np.argmax(z, axis=1)
        members = [fastmlp.MLP(sizes, rng=seed, **kind).parameters for seed in range(networks)]
        return (x, y, members, batch_size, EPOCHS, RATE), _error(x, y, sizes, kind, batch_size)

    one = EPOCHS * count_flops(samples, sizes)
    weights = count_weights(sizes)
    moved = 4 * (samples * sizes[0] + 6 * networks * weights)
    shape = f"{networks} x {'-'.join(map(str, sizes))}, {samples} samples, batch {batch_size}"
    tolerance = TRAINING_TOLERANCE * (len(sizes) - 1)
    own = {"providers": COMPARED, **fields}
    return Case("fit_many", shape, "float32", networks * one, moved, make, tolerance, **own)


def _error(
    x: Array, y: Array, sizes: tuple[int, ...], kind: dict[str, Any], batch_size: int
) -> Error:
    """Compare two networks' changes with those of the reference, each trained alone."""
    expected = {}
    for seed in (0, 7):
        model: Any = fastmlp.reference.MLP(sizes, rng=seed, **kind)
        before = model.flat_parameters.copy()
        model.fit(x, y, epochs=EPOCHS, batch_size=batch_size, learning_rate=RATE, shuffle=False)
        expected[seed] = before, model.flat_parameters - before

    def error(member: Callable[[int], list[Array]]) -> float:
        found = []
        for seed, (before, change) in expected.items():
            parts = [np.asarray(part).ravel() for part in member(seed)]
            found.append(relative_error(np.concatenate(parts) - before, change))
        return max(found)

    return error


def estimator(name: str, samples: int, what: str, settings: dict[str, Any]) -> Case:
    """A fit of an estimator on a smooth function, and how well it knows its samples then."""
    inputs, _, outputs = what.partition("-")
    hidden = settings["hidden_layer_sizes"]
    sizes = (int(inputs), *hidden, int(outputs.partition(" ")[0]))

    def make() -> tuple[tuple[Any, ...], Error]:
        random = np.random.default_rng(0)
        x = random.standard_normal((samples, sizes[0]))
        classes = sizes[-1] if sizes[-1] > 1 else 2
        z = np.tanh(x @ random.standard_normal((sizes[0], classes)) / np.sqrt(sizes[0]))
        y = np.argmax(z, axis=1) if name == "MLPClassifier" else z[:, 0]
        return (name, settings, x, y), lambda fitted: 1 - fitted.score(x, y)

    flops = settings["max_iter"] * count_flops(samples, sizes)
    shape = f"{name} {samples} x {'-'.join(map(str, sizes))}, {settings['max_iter']} epochs"
    found = Case("estimator", shape, "float64", flops, 8 * samples * sizes[0], make, 0.2)
    return replace(found, providers=("fastmlp", "scikit-learn"))


def epochs_of(count: int, *hidden: int, **others: Any) -> dict[str, Any]:
    """Return the settings of an estimator that makes so many epochs."""
    own = {"hidden_layer_sizes": hidden, "max_iter": count, "n_iter_no_change": count}
    return {**own, "random_state": 0, "tol": 0.0, **others}


FULL = [
    fit_many(1000, TINY, 200, 32),
    fit_many(100, TINY, 200, 32, providers=(*COMPARED, "scikit-learn")),
    fit_many(1000, TINY_SMOOTH, 1000, 64),
    estimator("MLPClassifier", 20_000, "30-1", epochs_of(20, 100)),
    estimator("MLPRegressor", 10_000, "16-1", epochs_of(20, 64, 64, activation="tanh")),
    estimator("MLPClassifier", 1797, "64-10 digits' sizes", epochs_of(20, 100)),
]


def curve(full: bool) -> list[Case]:
    """Return the points of the time over the number of networks."""
    counts = (100, 1000, 10_000, 100_000) if full else ()
    cases = [(count, fit_many(count, TINY, 200, 32, providers=("fastmlp",))) for count in counts]
    return [replace(case, series=NETWORKS, value=count) for count, case in cases]

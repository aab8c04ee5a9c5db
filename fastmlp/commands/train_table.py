"""The training on a table: `fastmlp train TABLE --target COLUMN`."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastmlp_kernels.compiling.notices import progress as compiler

from ..checks import Array
from ..choices import LossName
from ..model.draws import bit_generator
from ..model.history import History
from ..model.mlp import MLP
from ..tables.learn import Samples, learn, scale_of
from ..tables.table import Numeric
from .jobs import as_user_error, print_curve, weights_digest

PATIENCE = 20  # epochs


@as_user_error(FloatingPointError, ValueError)
def train_table(
    path: str,
    target: str,
    *,
    drop: Sequence[str] = (),
    task: str | None = None,
    hidden: Sequence[int] = (100,),
    epochs: int = 200,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> tuple[MLP, History]:
    """Train on a table, print its figures; return the model and its history.

    Its `table` has what makes inputs of raw rows. The numbers of a regression are standardized in
    training, and the last layer is then scaled, so that the outputs are the target's own.
    """
    samples = learn(path, target, drop=drop, task=task, seed=seed)
    _print_table(path, samples)
    table, x = samples.table, samples.x
    loss: LossName = "cross_entropy"
    y, (mean, scale) = samples.y, (0.0, 1.0)
    if table.classes is None:
        mean, scale = scale_of(y[samples.training])
        loss, y = "squared_error", ((y - mean) / scale).astype(np.float32)
    outputs = len(table.classes) if table.classes else 1
    rng = bit_generator(seed)
    model = MLP([table.inputs, *hidden, outputs], loss=loss, rng=rng)
    start, compiling = time.perf_counter(), compiler.seconds
    rows, others = samples.training, samples.validation
    history = model.fit(
        x[rows], y[rows], epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
        validation=(x[others], y[others]), patience=PATIENCE, rng=rng, progress=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start - (compiler.seconds - compiling)
    if table.classes is None:
        _scale_outputs(model, mean, scale)
    model.table = table
    print_curve(history)
    _print_figures(model, samples, history, seconds)
    return model, history


def _scale_outputs(model: MLP, mean: float, scale: float) -> None:
    """Make the outputs z of a model z * scale + mean."""
    last = model.parameters[-1].astype(np.float64) * scale
    last[-1] += mean
    model.parameters[-1][...] = last


def _print_table(path: str, samples: Samples) -> None:
    table = samples.table
    numeric = sum(isinstance(column, Numeric) for column in table.columns)
    print(
        f"{path}: {len(samples.x)} rows; columns: {numeric} of numbers, "
        f"{len(table.columns) - numeric} of categories; {table.inputs} inputs"
    )
    missing = [f"{name} {count}" for name, count in samples.missing.items() if count]
    if missing:
        print(f"missing cells, taken as the mean, or as no category: {', '.join(missing)}")
    what = f"a class of {len(table.classes)}" if table.classes else "a number"
    print(f"{table.target}: {what}")


def _print_figures(model: MLP, samples: Samples, history: History, seconds: float) -> None:
    count, best = len(history.loss), history.best_epoch
    kept = "" if best is None else f", kept the best, epoch {best + 1}"
    print(f"trained {'-'.join(map(str, model.sizes))} for {count} epochs in {seconds:.2f} s{kept}")
    score = "accuracy" if samples.table.classes else "R^2"
    print(f"\n{'':<10}  {'rows':>8}  {model.loss_name:>13}  {score:>8}")
    for name, rows in (("training", samples.training), ("validation", samples.validation)):
        loss, value = _figures(model, samples.x[rows], samples.y[rows])
        print(f"{name:<10}  {len(rows):>8}  {loss:>13.6g}  {value:>8.4f}")
    print(f"\nSHA-256 of the weights {weights_digest(model)}")


def _figures(model: MLP, x: Array, y: Any) -> tuple[float, float]:
    if model.loss_name != "cross_entropy":
        y = y.astype(model.dtype)
    return model.loss(x, y), model.score(x, y)

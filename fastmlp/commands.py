"""What the command line does: training on MNIST, and the check of the gradients."""

import copy
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from .checks import Array
from .gradient_check import format_table, gradient_check
from .labels import one_hot
from .loss import compute_loss
from .mlp import MLP, NotebookMLP
from .mnist import CLASSES, mnist_dataset
from .parameters import bit_generator, shuffled
from .training import compute_accuracy, test, train_one_step
from .update import momentum

Root: TypeAlias = str | os.PathLike[str] | None

MOMENTUM = 0.9
# A seed whose curve is near the notebook's: loss 23.6 at epoch 0, accuracy 0.60 by epoch 16.
NOTEBOOK_SEED = 80


class UserError(Exception):
    """What a user can mend: shown as one line, without a traceback."""


@contextmanager
def as_user_error(*kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds, raised inside the block, into UserError."""
    try:
        yield
    except kinds as error:
        raise UserError(str(error)) from error


def train(
    root: Root = None,
    *,
    hidden: Sequence[int] = (128,),
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 0.2,
    seed: int = 0,
) -> tuple[MLP, float]:
    """Train on shuffled batches with momentum, print the test; return the model and its accuracy.

    The learning rate, on a batch's mean loss, falls to 0 in equal steps.
    """
    (x, y), (x_test, y_test) = _dataset(root)
    rng = bit_generator(seed)
    model = MLP([x[0].size, *hidden, CLASSES], rng=rng)
    labels = one_hot(y, CLASSES, np.float32)
    velocity = np.zeros_like(model.flat_parameters)
    batches = -(-len(x) // batch_size)
    # A step of a copy, so that the first use of the kernels, which compiles, is not in the time.
    _step(copy.deepcopy(model), x[:batch_size], labels[:batch_size], velocity.copy(), 0.0)
    start = time.perf_counter()
    for epoch in range(epochs):
        order = shuffled(rng, len(x))
        rates = learning_rate * (1 - (epoch + np.arange(batches) / batches) / epochs)
        _train_epoch(model, x, labels, order, batch_size, rates, velocity, f"{epoch + 1}/{epochs}")
    seconds = time.perf_counter() - start
    loss, accuracy = test(model, x_test, one_hot(y_test, CLASSES, np.float32))
    print(f"trained {epochs} epochs in {seconds:.1f} s")
    print(f"test loss {loss:.4f} ; accuracy {accuracy:.4f}")
    return model, float(accuracy)


def _train_epoch(
    model: MLP,
    x: Array,
    labels: Array,
    order: Array,
    batch_size: int,
    rates: Array,
    velocity: Array,
    name: str,
) -> None:
    """Train one epoch over `order`, with a progress bar called `name`."""
    from tqdm import tqdm

    # Written to a file, each refresh would be a line: there, only the last one.
    interval = 0.1 if sys.stderr.isatty() else float("inf")
    losses, right, seen = 0.0, 0.0, 0
    starts = range(0, len(order), batch_size)
    with tqdm(total=len(order), desc=f"epoch {name}", unit=" images", mininterval=interval) as bar:
        for start, rate in zip(starts, rates.tolist(), strict=True):
            batch = order[start : start + batch_size]
            loss, accuracy = _step(model, x[batch], labels[batch], velocity, rate)
            losses += loss * len(batch)
            right += accuracy * len(batch)
            seen += len(batch)
            bar.set_postfix(
                loss=f"{losses / seen:.4f}", accuracy=f"{right / seen:.4f}", refresh=False
            )
            bar.update(len(batch))


def _step(model: MLP, x: Array, label: Array, velocity: Array, rate: float) -> tuple[float, float]:
    """Make one step on a batch's mean loss; return its loss and accuracy before it."""
    log_prob = model.forward(x)
    model.backward(label * np.float32(1 / len(x)))
    momentum([model.flat_parameters], [model.flat_gradients], [velocity], rate, MOMENTUM)
    return float(compute_loss(log_prob, label)), float(compute_accuracy(log_prob, label))


def train_notebook(
    root: Root = None,
    *,
    epochs: int = 50,
    learning_rate: float = 1e-5,
    seed: int = NOTEBOOK_SEED,
) -> NotebookMLP:
    """Run the notebook's training and print its lines; return the model."""
    (x, y), (x_test, y_test) = _dataset(root)
    model = NotebookMLP(rng=seed)
    if x[0].size != model.sizes[0]:
        raise UserError(
            f"--data: expected images of {model.sizes[0]} pixels, the notebook's, got "
            f"{x[0].size}; leave --notebook out"
        )
    labels, x = one_hot(y), x.astype(model.dtype)
    for epoch in range(epochs):
        loss, accuracy = train_one_step(model, x, labels, learning_rate)
        print("epoch", epoch, ": loss", loss, "; accuracy", accuracy, flush=True)
    loss, accuracy = test(model, x_test, one_hot(y_test))
    print("test loss", loss, "; accuracy", accuracy)
    return model


def check() -> bool:
    """Print the table of the gradient check; return whether all passed."""
    rows = gradient_check()
    print(format_table(rows))
    return all(row.passed for row in rows)


def _dataset(root: Root) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    with as_user_error(OSError, ValueError):
        return mnist_dataset(root)

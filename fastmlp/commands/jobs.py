"""What the command line does: training on MNIST, and the check of the gradients."""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from fastmlp_kernels.compiling.notices import progress as compiler

from ..checks import Array
from ..labels import one_hot
from ..mnist import mnist_dataset
from ..model.curves import as_text
from ..model.draws import bit_generator
from ..model.history import History
from ..model.mlp import MLP, NotebookMLP
from ..model.training import test, train_one_step
from ..operations.gradient_check import format_table, gradient_check

Root: TypeAlias = str | os.PathLike[str] | None

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


@as_user_error(FloatingPointError)
def train(
    root: Root = None,
    *,
    hidden: Sequence[int] = (128,),
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> tuple[MLP, History]:
    """Train on shuffled batches with momentum, print the test; return the model and its history.

    The learning rate, on a batch's mean loss, falls to 0 in equal steps. The SHA-256 of the weights
    is the same on every machine.
    """
    (x, y), test_set = _dataset(root)
    rng = bit_generator(seed)
    with as_user_error(ValueError):
        model = MLP([x[0].size, *hidden, 1 + max(y.max(), test_set[1].max())], rng=rng)
    steps = epochs * -(-len(x) // batch_size)
    start, compiling = time.perf_counter(), compiler.seconds
    history = model.fit(
        x,
        y,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate * (1 - np.arange(steps) / steps),
        optimizer="momentum",
        rng=rng,
        progress=True,
    )
    seconds = time.perf_counter() - start - (compiler.seconds - compiling)
    accuracy = model.score(*test_set)
    print_curve(history)
    print(f"trained {epochs} epochs in {seconds:.2f} s")
    print(f"test loss {model.loss(*test_set):.4f} ; accuracy {accuracy:.4f}")
    print(f"SHA-256 of the weights {weights_digest(model)}")
    return model, history


def print_curve(history: History) -> None:
    """Print the losses as a small curve, on a terminal and where plotext is installed."""
    if sys.stdout is not None and sys.stdout.isatty() and len(history.loss) > 1:
        text = as_text(history, min(72, shutil.get_terminal_size().columns))
        if text is not None:
            print(text)


def weights_digest(model: MLP) -> str:
    """Return the SHA-256 of the parameters' bytes, in little-endian order."""
    values = model.flat_parameters
    return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).hexdigest()


def train_notebook(
    root: Root = None,
    *,
    epochs: int = 50,
    learning_rate: float = 1e-5,
    seed: int = NOTEBOOK_SEED,
) -> tuple[NotebookMLP, History]:
    """Run the notebook's training and print its lines; return the model and its history."""
    (x, y), (x_test, y_test) = _dataset(root)
    model = NotebookMLP(rng=seed)
    if x[0].size != model.sizes[0]:
        raise UserError(
            f"--data: expected images of {model.sizes[0]} pixels, the notebook's, got "
            f"{x[0].size}; leave --notebook out"
        )
    most = max(y.max(), y_test.max())
    if most >= model.sizes[-1]:
        raise UserError(
            f"--data: expected labels 0 to {model.sizes[-1] - 1}, the notebook's, got {most}; "
            "leave --notebook out"
        )
    labels, x = one_hot(y), x.astype(model.dtype)
    history = History()
    for epoch in range(epochs):
        loss, accuracy = train_one_step(model, x, labels, learning_rate)
        print("epoch", epoch, ": loss", loss, "; accuracy", accuracy, flush=True)
        history.loss.append(loss)
        history.accuracy.append(accuracy)
    loss, accuracy = test(model, x_test, one_hot(y_test))
    print_curve(history)
    print("test loss", loss, "; accuracy", accuracy)
    return model, history


def check() -> bool:
    """Print the table of the gradient check; return whether all passed."""
    rows = gradient_check()
    print(format_table(rows))
    return all(row.passed for row in rows)


def _dataset(root: Root) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    with as_user_error(OSError, ValueError):
        sets = mnist_dataset(root)
    for name, (_, labels) in zip(("training", "test"), sets, strict=True):
        if not len(labels):
            raise UserError(f"--data: expected {name} images, got none; use another set")
    return sets

"""What both models, compiled and reference, do alike: fit, score, and the probabilities."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from .checks import Array
from .fit import (
    Epoch,
    History,
    Samples,
    Schedule,
    checked_data,
    checked_schedule,
    composed_epoch,
    sample_losses,
    train,
)
from .parameters import Parameters, Rng, bit_generator


class Estimator(Parameters):
    """Fitting and scoring, on top of what a model defines: layers, head, updates, an epoch."""

    # The operations that make log-probabilities of the logits; the first makes the probabilities.
    _head: ClassVar[tuple[type[Any], ...]]
    _updates: ClassVar[dict[str, Callable[..., None]]]
    # The mean over samples, values (N,).
    _mean: Callable[[Array], Any]
    _last_forward: tuple[list[Array], list[Any]]
    _last_logits: Array

    def forward(self, x: Array) -> Array:
        """Return log_prob (N, classes) for x (N, ...) with `sizes[0]` numbers for each sample.

        It is kept as `log_prob`, which is also `h{layers}_log`. x of a dtype wider than the model's
        is a TypeError, a shape that doesn't fit is a ValueError.
        """
        activations, self._last_logits = self._run_layers(self._inputs(x))
        self.log_prob, head = self._run_head(self._last_logits)
        self._last_forward = activations, head
        return self.log_prob

    def fit(
        self,
        x: Array,
        y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 128,
        learning_rate: float | Array = 1e-3,
        optimizer: str = "adam",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        shuffle: bool = True,
        validation: tuple[Array, ArrayLike] | None = None,
        rng: Rng = None,
        progress: bool = False,
        callback: Callable[[History], object] | None = None,
    ) -> History:
        """Train on batches of x (N, ...) with labels y; return the loss and accuracy of each epoch.

        y: integers (N,) below the number of classes, or one-hot rows. The loss is the mean of a
        batch, of which the last of an epoch may be smaller; batch_size N or more is all at once.
        learning_rate: a number, or one for each step of all epochs. optimizer: "sgd", "momentum"
        (with `momentum`) or "adam" (0.9, 0.999, 1e-8), its state starting at 0 in each call;
        weight_decay: times W, added to the gradient of every parameter. shuffle: a new order in
        each epoch, drawn from `rng`: None, a seed or a PCG64 generator. validation: (x, y) to
        evaluate after each epoch. progress: show a bar. callback: called with the history after
        each epoch; a true result ends the training.

        An epoch is one compiled call, and its bits are those of forward, backward and update for
        each batch. The weights change at the end of an epoch: Ctrl-C leaves them as the last
        finished one did, in a KeyboardInterrupt that names it. TypeError and ValueError name what
        doesn't fit, before anything is written.
        """
        x, labels = checked_data(self, x, y, "y")
        schedule = checked_schedule(
            len(x), epochs, batch_size, learning_rate, optimizer, momentum, weight_decay
        )
        if validation is not None:
            if not isinstance(validation, tuple) or len(validation) != 2:
                got = type(validation).__name__
                raise TypeError(f"validation: expected a pair (x, y), got {got}; pass a tuple")
            validation = checked_data(self, *validation, "validation[1]")
        generator = bit_generator(rng) if shuffle else None
        return train(self, x, labels, schedule, generator, validation, progress, callback)

    def predict_log_proba(self, x: Array) -> Array:
        """Return the log-probabilities (N, classes) for x (N, ...): forward, but nothing is kept.

        Raises what `forward` raises.
        """
        return self._run_head(self._logits(self._inputs(x)))[0]

    def predict_proba(self, x: Array) -> Array:
        """Return the probabilities (N, classes) for x (N, ...). Raises what `forward` raises."""
        operation = self._head[0]()
        y = operation.forward(self._logits(self._inputs(x)))
        return np.asarray(operation.mem.get("p", y))

    def score(self, x: Array, y: ArrayLike) -> float:
        """Return the share of the samples x (N, ...) whose class is their label's.

        y: integers (N,) or one-hot rows. Raises TypeError and ValueError for what doesn't fit.
        """
        x, labels = checked_data(self, x, y, "y")
        return int(np.count_nonzero(self.predict(x) == labels)) / len(x)

    def loss(self, x: Array, y: ArrayLike) -> float:
        """Return the mean over the samples x (N, ...) of -log_prob of their label.

        y: integers (N,) or one-hot rows. Raises TypeError and ValueError for what doesn't fit.
        """
        return self._evaluate(*checked_data(self, x, y, "y"))[0]

    def _evaluate(self, x: Array, labels: Array) -> tuple[float, float]:
        """Return loss and accuracy for what checked_data gives."""
        logits = self._logits(x)
        hits = int(np.count_nonzero(np.argmax(logits, axis=1) == labels))
        losses = sample_losses(self._run_head(logits)[0], labels)
        return float(self._mean(losses)), hits / len(x)

    def _logits(self, x: Array) -> Array:
        """Return the last layer's outputs for x (N, inputs)."""
        return self._run_layers(x)[1]

    def _run_head(self, h: Array) -> tuple[Array, list[Any]]:
        """Return the log-probabilities for the logits h, and the operations that made them."""
        head = [operation() for operation in self._head]
        for operation in head:
            h = operation.forward(h)
        return h, head

    def _train_epoch(self, data: Samples, schedule: Schedule, states: Array, number: int) -> Epoch:
        """Train an epoch on a copy of the parameters: by its operations, one after the other."""
        return composed_epoch(self, data, schedule, states, number)

    @abstractmethod
    def predict(self, x: Array) -> Array:
        """Return the class (N,) of each sample of x (N, ...)."""

    @abstractmethod
    def backward(self, label: Array) -> None:
        """Write the gradients of the last forward's loss to `gradients`."""

    @abstractmethod
    def _run_layers(self, h: Array) -> tuple[list[Array], Array]:
        """Return the inputs of all layers, the first of them h (N, inputs), and the logits."""

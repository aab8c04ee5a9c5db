"""What both models, compiled and reference, do alike: fit, score, and the probabilities."""

from abc import abstractmethod
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..checks import Array, not_finite
from ..plan.ways import STATES
from .fit import Epoch, Request, Samples, composed_epoch, count_hits, sample_losses, train
from .fit_checks import (
    Data,
    Schedule,
    checked_callback,
    checked_data,
    checked_schedule,
    checked_validation,
)
from .history import History
from .optimizer_state import Kept, OptimizerState, checked_state, starting_state
from .parameters import Parameters, Rng, bit_generator
from .stopping import checked_stopping


class Layers(NamedTuple):
    """What a forward pass leaves: each layer's inputs, its activation after it, the logits."""

    inputs: list[Array]
    functions: list[Any]
    logits: Array


class Estimator(Parameters):
    """Fitting and scoring, on top of what a model defines: layers, head, updates, an epoch."""

    # The operations that make log-probabilities of the logits; the first makes the probabilities.
    _head: ClassVar[tuple[type[Any], ...]]
    _updates: ClassVar[dict[str, Callable[..., None]]]
    # The mean over samples, values (N,).
    _mean: Callable[[Array], Any]
    # The sum of the squares of values (N,), in float64.
    _sum_of_squares: Callable[[Array], float]
    _optimizer_state: Kept | None = None
    _last_forward: tuple[Layers, list[Any]]
    _last_logits: Array

    @property
    def optimizer_state(self) -> OptimizerState | None:
        """What the optimizer of the last fit keeps, to resume; None before a fit.

        It is copied and pickled with the model. It can be assigned: None, or one of such a model,
        else it is a TypeError or ValueError. The next fit reads it, not one that a callback is of.
        """
        if self._optimizer_state is None:
            return None
        optimizer, step, flat = self._optimizer_state
        shape = STATES[optimizer], self.flat_parameters.size
        return OptimizerState(optimizer, step, flat.reshape(shape))

    @optimizer_state.setter
    def optimizer_state(self, state: OptimizerState | None) -> None:
        self._optimizer_state = None if state is None else checked_state(self, state)

    def forward(self, x: Array) -> Array:
        """Return log_prob (N, classes) for x (N, ...) with `sizes[0]` numbers for each sample.

        It is kept as `log_prob`, which is also `h{layers}_log`. x of a dtype wider than the model's
        is a TypeError, a shape that doesn't fit is a ValueError.
        """
        layers = self._run_layers(self._inputs(x))
        self._last_logits = layers.logits
        self.log_prob, head = self._run_head(layers.logits)
        self._last_forward = layers, head
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
        max_norm: float | None = None,
        decay_bias: bool = True,
        shuffle: bool = True,
        validation: tuple[Array, ArrayLike] | None = None,
        patience: int | None = None,
        monitor: str = "loss",
        restore_best: bool = True,
        resume: bool = False,
        rng: Rng = None,
        progress: bool = False,
        callback: Callable[[History], object] | None = None,
        check_finite: bool = True,
    ) -> History:
        """Train on batches of x (N, ...) with labels y; return the loss and accuracy of each epoch.

        y: integers (N,) below the number of classes, or one-hot rows. The loss is the mean of a
        batch, of which the last of an epoch may be smaller; batch_size N or more is all at once.
        learning_rate: a number, or one for each step of all epochs. optimizer: "sgd", "momentum" or
        "nesterov" (with `momentum`), "adam" or "adamw" (0.9, 0.999, 1e-8). weight_decay: times W,
        added to the gradient of every parameter; with adamw, learning_rate times that is taken from
        W instead. decay_bias: whether biases decay, too. max_norm: the largest 2-norm of all
        gradients of a step; beyond it they are scaled to it, before any decay. shuffle: a new order
        in each epoch, drawn from `rng`: None, a seed or a PCG64 generator. validation: (x, y) to
        evaluate after each epoch. patience: end when its `monitor`, "loss" or "accuracy", was not
        better than ever for so many epochs; restore_best: leave the weights and optimizer_state of
        the best. resume: go on from `optimizer_state`, where there is one, instead of zeros.
        progress: show a bar. callback: called with the history after each epoch; a true result ends
        the training. check_finite: whether NaN and inf end it, too.

        An epoch is one compiled call, and its bits are those of forward, backward and update for
        each batch. Weights and optimizer_state change at its end: Ctrl-C leaves them as the last
        finished one did, in a KeyboardInterrupt that names it, and so does a loss or a weight that
        isn't finite, in a FloatingPointError whose `history` is that of the epochs before.
        TypeError and ValueError name what doesn't fit, as a NaN in x, before anything is written.
        """
        data = checked_data(self, x, y)
        schedule = checked_schedule(
            len(data.x), epochs, batch_size, learning_rate, optimizer, momentum, weight_decay,
            max_norm, decay_bias,
        )  # fmt: skip
        evaluated = checked_validation(self, validation, check_finite)
        stopping = checked_stopping(self, patience, monitor, restore_best, validation)
        state = starting_state(self, optimizer, resume)
        checked_callback(callback)
        generator = bit_generator(rng) if shuffle else None
        schedule = schedule._replace(done=state[1])
        request = Request(
            data, schedule, state, generator, evaluated, stopping, progress, callback, check_finite
        )
        return train(self, request)

    def partial_fit(
        self,
        x: Array,
        y: ArrayLike,
        *,
        batch_size: int = 128,
        learning_rate: float | Array = 1e-3,
        optimizer: str = "adam",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        decay_bias: bool = True,
        shuffle: bool = True,
        rng: Rng = None,
        check_finite: bool = True,
    ) -> History:
        """Train one epoch on a chunk x (N, ...) with labels y: fit(epochs=1, resume=True).

        `optimizer_state` goes on from chunk to chunk, so one pass over data that is larger than
        memory is a call for each chunk. A generator as `rng` goes on, too; a seed would give each
        chunk the same order. Arguments and errors are those of `fit`.
        """
        return self.fit(
            x, y, epochs=1, batch_size=batch_size, learning_rate=learning_rate,
            optimizer=optimizer, momentum=momentum, weight_decay=weight_decay, max_norm=max_norm,
            decay_bias=decay_bias, shuffle=shuffle, resume=True, rng=rng, check_finite=check_finite,
        )  # fmt: skip

    def predict_log_proba(self, x: Array, *, check_finite: bool = True) -> Array:
        """Return the log-probabilities (N, classes) for x (N, ...): forward, but nothing is kept.

        check_finite: whether NaN and inf in x are a ValueError. Raises what `forward` raises.
        """
        return self._run_head(self._logits(self._samples(x, check_finite)))[0]

    def predict_proba(self, x: Array, *, check_finite: bool = True) -> Array:
        """Return the probabilities (N, classes) for x (N, ...).

        check_finite: whether NaN and inf in x are a ValueError. Raises what `forward` raises.
        """
        operation = self._head[0]()
        y = operation.forward(self._logits(self._samples(x, check_finite)))
        return np.asarray(operation.mem.get("p", y))

    def score(self, x: Array, y: ArrayLike, *, check_finite: bool = True) -> float:
        """Return the share of the samples x (N, ...) whose class is their label's.

        y: integers (N,) or one-hot rows. A sample whose loss is NaN has no class. check_finite:
        whether NaN and inf in x are a ValueError. Raises TypeError and ValueError for what doesn't
        fit.
        """
        data = checked_data(self, x, y)
        return self._accuracy(data, check_finite)

    def loss(self, x: Array, y: ArrayLike, *, check_finite: bool = True) -> float:
        """Return the mean over the samples x (N, ...) of -log_prob of their label.

        y: integers (N,) or one-hot rows. check_finite: whether NaN and inf in x are a ValueError.
        Raises TypeError and ValueError for what doesn't fit.
        """
        data = checked_data(self, x, y)
        if check_finite:
            data.refuse_not_finite()
        return self._evaluate(data.x, data.labels)[0]

    def _samples(self, x: Array, check_finite: bool) -> Array:
        """Return x as a matrix (N, inputs); raise where it doesn't fit, or isn't finite."""
        matrix = self._inputs(x)
        error = not_finite("x", matrix, np.shape(x)) if check_finite else None
        if error is not None:
            raise error
        return matrix

    def _accuracy(self, data: Data, check_finite: bool) -> float:
        """Return what `score` does."""
        if check_finite:
            data.refuse_not_finite()
        return self._evaluate(data.x, data.labels)[1]

    def _evaluate(self, x: Array, labels: Array) -> tuple[float, float]:
        """Return loss and accuracy for the samples x (N, inputs) and their labels (N,)."""
        logits = self._logits(x)
        losses = sample_losses(self._run_head(logits)[0], labels)
        return float(self._mean(losses)), count_hits(logits, losses, labels) / len(x)

    def _is_regression(self) -> bool:
        return False

    def _logits(self, x: Array) -> Array:
        """Return the last layer's outputs for x (N, inputs)."""
        return self._run_layers(x).logits

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
    def predict(self, x: Array, *, check_finite: bool = True) -> Array:
        """Return the class (N,) of each sample of x (N, ...)."""

    @abstractmethod
    def backward(self, label: Array) -> None:
        """Write the gradients of the last forward's loss to `gradients`."""

    @abstractmethod
    def _run_layers(self, h: Array) -> Layers:
        """Return what the layers make of h (N, inputs)."""


# Python's errors for wrong arguments have the qualified name: that of the class users know.
for _class in (Parameters, Estimator):
    for _name, _method in vars(_class).items():
        if isinstance(_method, FunctionType):
            _method.__qualname__, _method.__module__ = f"MLP.{_name}", "fastmlp.model.mlp"

"""What both models, compiled and reference, do alike: fit, score, and the probabilities."""

import os
from abc import abstractmethod
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from ..checks import Array, not_finite, output
from ..choices import Monitor, Optimizer
from ..files.models import save
from ..plan.ways import STATES
from ..reference.losses import Elementary, predictions
from ..sources.answers import answer_in_pieces
from ..sources.samples import checked_shuffle
from ..tables.table import Table
from .draws import Rng
from .fit import Epoch, Layers, Samples, composed_epoch, mean_loss_of, request_of, train
from .fit_checks import Data, Schedule, weighted_data
from .goals import Goal, goal_of, result_of
from .history import History
from .losses import (
    CROSS_ENTROPY,
    REGRESSIONS,
    loss_of,
    output_gradient,
    right_samples,
    sample_losses,
)
from .optimizer_state import Kept, OptimizerState, checked_state
from .parameters import Parameters
from .sample_weights import ClassWeight
from .scores import r2_score, weighted_share


class Estimator(Parameters):
    """Fitting and scoring, on top of what a model defines: layers, head, updates, an epoch."""

    # The operations that make log-probabilities of the logits; the first makes the probabilities.
    _head: ClassVar[tuple[type[Any], ...]]
    _updates: ClassVar[dict[str, Callable[..., None]]]
    # The mean over samples, values (N,).
    _mean: Callable[[Array], Any]
    # The sum of the squares of values (N,), in float64.
    _sum_of_squares: Callable[[Array], float]
    # The columns of the raw table that `fastmlp train TABLE` made the inputs of; None of others.
    table: Table | None = None
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

        It is kept as `log_prob`, which is also `h{layers}_log`. With another loss than
        cross-entropy it is the last layer's outputs (N, outputs). x of a dtype wider than the
        model's is a TypeError, a shape that doesn't fit is a ValueError.
        """
        layers = self._run_layers(self._inputs(x))
        self._last_logits = layers.logits
        y, head = self._run_head(layers.logits)
        self._last_forward = layers, head
        if self.loss_name == CROSS_ENTROPY:
            self.log_prob = y
        return y

    def backward(self, label: Array) -> None:
        """Write the gradients of the loss, summed over the last forward's samples, to `gradients`.

        loss = sum of -log_prob * label; label (N, classes): one-hot rows, or these times a weight
        (1 / N for the mean loss). With another loss than cross-entropy, label is the targets, as
        `fit` takes them. Raises ValueError for another shape, TypeError for values that the model's
        dtype doesn't hold exactly, RuntimeError without a forward.
        """
        self._propagate(output_gradient(self, label))

    def fit(
        self,
        x: Array,
        y: ArrayLike,
        *,
        epochs: int = 10,
        batch_size: int = 128,
        learning_rate: float | Array = 1e-3,
        optimizer: Optimizer = "adam",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        decay_bias: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        shuffle: bool | str = True,
        block_size: int | None = None,
        validation: tuple[Array, ArrayLike] | None = None,
        patience: int | None = None,
        monitor: Monitor = "loss",
        restore_best: bool = True,
        resume: bool = False,
        rng: Rng = None,
        progress: bool = False,
        callback: Callable[[History], object] | None = None,
        check_finite: bool = True,
        comm: Any = None,
        rows: ArrayLike | None = None,
    ) -> History:
        """Train on batches of x (N, ...) with y; return the loss and accuracy of each epoch.

        y: integers (N,) below the number of classes, or one-hot rows; other losses: targets
        (N, outputs), (N,) for one. The loss is the mean of a batch, the last of an epoch may be
        smaller; batch_size N or more is all at once. learning_rate: a number, or one for each step
        of all epochs. optimizer: "sgd", "momentum" or "nesterov" (with `momentum`), "adam" or
        "adamw" (0.9, 0.999, 1e-8). weight_decay: times W, added to the gradient of every parameter;
        with adamw, learning_rate times that is taken from W instead. decay_bias: whether biases
        decay, too. max_norm: the largest 2-norm of all gradients of a step; beyond it they are
        scaled to it, before any decay. sample_weight (N,): how much each sample counts in a mean,
        0: not; class_weight: a dict, an array (classes,) or "balanced", which multiplies it.
        shuffle: a new order in each epoch, drawn from `rng`: None, a seed or a PCG64 generator.
        "blocks": of blocks of block_size samples, then of the samples of some blocks at once; so x
        may stay in files, stores or a pyarrow data set (docs/larger-than-memory.md).
        validation: (x, y) to evaluate after each epoch. patience: end when its `monitor`, "loss" or
        "accuracy", was not better than ever for so many epochs; restore_best: leave the weights and
        optimizer_state of the best. resume: go on from `optimizer_state`, where there is one,
        instead of zeros. progress: show a bar. callback: called with the history after each epoch;
        a true result ends the training. check_finite: whether NaN and inf end it, too.
        comm: a communicator of mpi4py, whose ranks all call this and share each batch; rows: the
        numbers of the rows that x, y and sample_weight of this rank are, where no rank has all.

        An epoch is one compiled call, and its bits are those of forward, backward and update for
        each batch. Weights and optimizer_state change at its end: Ctrl-C leaves them as the last
        finished one did, in a KeyboardInterrupt that names it, and so does a loss or a weight that
        isn't finite, in a FloatingPointError whose `history` is that of the epochs before.
        TypeError and ValueError name what doesn't fit, as a NaN in x, before anything is written.
        """
        settings: dict[str, Any] = dict(
            epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
            optimizer=optimizer, momentum=momentum, weight_decay=weight_decay, max_norm=max_norm,
            decay_bias=decay_bias, shuffle=checked_shuffle(shuffle), block_size=block_size,
            validation=validation, patience=patience, monitor=monitor, restore_best=restore_best,
            resume=resume, rng=rng, progress=progress, callback=callback, check_finite=check_finite,
        )  # fmt: skip
        weights = sample_weight, class_weight
        if comm is not None or rows is not None:
            from ..mpi.fit import fit_together

            return fit_together(self, comm, rows, x, y, weights, settings)
        data = weighted_data(self, x, y, check_finite, *weights, settings["shuffle"])
        return train(self, request_of(self, data, **settings))

    def partial_fit(
        self,
        x: Array,
        y: ArrayLike,
        *,
        batch_size: int = 128,
        learning_rate: float | Array = 1e-3,
        optimizer: Optimizer = "adam",
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        decay_bias: bool = True,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        shuffle: bool | str = True,
        rng: Rng = None,
        check_finite: bool = True,
    ) -> History:
        """Train one epoch on a chunk x (N, ...) with y: fit(epochs=1, resume=True).

        `optimizer_state` goes on from chunk to chunk, so one pass over data that is larger than
        memory is a call for each chunk. A generator as `rng` goes on, too; a seed would give each
        chunk the same order. Arguments and errors are those of `fit`.
        """
        return self.fit(
            x, y, epochs=1, batch_size=batch_size, learning_rate=learning_rate,
            optimizer=optimizer, momentum=momentum, weight_decay=weight_decay, max_norm=max_norm,
            decay_bias=decay_bias, sample_weight=sample_weight, class_weight=class_weight,
            shuffle=shuffle, resume=True, rng=rng, check_finite=check_finite,
        )  # fmt: skip

    def predict(self, x: Array, *, out: Array | None = None, check_finite: bool = True) -> Array:
        """Return the class (N,) of each sample of x (N, ...), as int64: the first largest logit.

        With another loss than cross-entropy, what the outputs say of targets: (N, outputs), (N,)
        for one output. All layers in one call, without the log-probabilities; `log_prob` and what
        backward needs stay those of the last forward. A NaN counts as largest. out: an array of the
        result's shape and dtype, which is written and returned. check_finite: whether NaN and inf
        in x are a ValueError. Raises what `forward` raises, and TypeError or ValueError for another
        `out`, before that is written.
        """
        return self._answer("predict", x, out, check_finite)

    def predict_proba(
        self, x: Array, *, out: Array | None = None, check_finite: bool = True
    ) -> Array:
        """Return the probabilities (N, classes) for x (N, ...).

        With binary_cross_entropy, those of 0 and 1 (N, 2) for one output, those of 1 (N, outputs)
        for many. out, check_finite, errors: as in `predict`, and ValueError for a regression.
        """
        return self._answer("predict_proba", x, out, check_finite)

    def predict_log_proba(
        self, x: Array, *, out: Array | None = None, check_finite: bool = True
    ) -> Array:
        """Return the log-probabilities (N, classes) for x (N, ...); else as `predict_proba`."""
        return self._answer("predict_log_proba", x, out, check_finite)

    def decision_function(
        self, x: Array, *, out: Array | None = None, check_finite: bool = True
    ) -> Array:
        """Return the last layer's outputs (N, outputs) for x (N, ...), (N,) for one output.

        Of classes they are the logits. out, check_finite, errors: as in `predict`.
        """
        return self._answer("decision_function", x, out, check_finite)

    def score(
        self,
        x: Array,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        check_finite: bool = True,
    ) -> float:
        """Return the share of the samples x (N, ...) whose class is y's, or a regression's R^2.

        y, sample_weight, class_weight: as in `fit`. A sample whose loss is NaN has no class.
        check_finite: whether NaN and inf in x and targets are a ValueError. Raises TypeError and
        ValueError for what doesn't fit.
        """
        data = weighted_data(self, x, y, check_finite, sample_weight, class_weight, False)
        if self._has_accuracy:
            right = [self._right(piece, check_finite) for piece in data.pieces()]
            return weighted_share(np.concatenate(right), data.weight)
        if check_finite:
            data.refuse_not_finite()
        logits = np.concatenate([self._logits(piece.x) for piece in data.pieces()])
        predicted = predictions(loss_of(self), logits, self._elementary())
        return r2_score(predicted, data.y, data.weight)

    def loss(
        self,
        x: Array,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight = None,
        check_finite: bool = True,
    ) -> float:
        """Return the mean over the samples x (N, ...) of their losses.

        y, sample_weight, class_weight: as in `fit`. check_finite: whether NaN and inf in x and
        targets are a ValueError. Raises TypeError and ValueError for what doesn't fit.
        """
        data = weighted_data(self, x, y, check_finite, sample_weight, class_weight, False)
        if check_finite:
            data.refuse_not_finite()
        return self._evaluate(data)[0]

    def save(self, path: str | os.PathLike[str], *, optimizer_state: bool = False) -> None:
        """Write the model to a file of safetensors, which `fastmlp.load` reads.

        It holds the weights and what the model was made with (docs/files.md); optimizer_state:
        whether that of the last `fit`, too. A file in its place is replaced when all is written.
        Raises ValueError for weights that aren't finite, TypeError for a class of your own, and
        OSError as `open` does, the old file being whole then.
        """
        save(self, path, optimizer_state)

    def _answer(self, method: str, x: Array, out: Array | None, check_finite: bool) -> Array:
        """Return what a method of predictions asks for, in `out` if given."""
        read = answer_in_pieces(self, method, x, out, check_finite)
        if read is not None:
            return read
        goal, rows = goal_of(self, method), self._inputs(x)
        target = self._target(out, goal, rows)
        if check_finite:
            self._refuse_not_finite(x, rows)
        result = result_of(self, goal, self._logits(rows))
        if out is None or target is None:
            return result
        target[...] = result
        return out

    def _target(self, out: Array | None, goal: Goal, rows: Array) -> Array | None:
        """Return `out` as a view of our own, or raise where a goal's result doesn't fit in it."""
        if out is None:
            return None
        return output(out, (len(rows), *goal.shape), goal.dtype, x=rows)

    def _refuse_not_finite(self, x: Array, rows: Array) -> None:
        """Raise where x, whose samples are the rows (N, inputs), isn't finite."""
        error = not_finite("x", rows, np.shape(x))
        if error is not None:
            raise error

    def _trains_together(self) -> bool:
        """Whether `fit_many` has a compiled way for it."""
        return False

    def _predicts_together(self, method: str) -> bool:
        """Whether many such models answer in one compiled call."""
        return False

    @property
    def _has_accuracy(self) -> bool:
        return self.loss_name not in REGRESSIONS

    def _right(self, data: Data, check_finite: bool) -> Array:
        """Return which samples (N,) have the class that y says."""
        if check_finite:
            data.refuse_not_finite()
        logits = self._logits(data.x)
        losses = sample_losses(self, self._run_head(logits)[0], data.y)
        return right_samples(self, logits, losses, data.y)

    def _evaluate(self, data: Data) -> tuple[float, float | None]:
        """Return the weighted loss, and the accuracy of what isn't a regression."""
        loss, hits = mean_loss_of(self, data)
        return loss, hits / len(data.x) if self._has_accuracy else None

    def _losses(self, x: Array, y: Array) -> tuple[Array, int]:
        """Return the losses (N,) of x (N, inputs), and how many are right, if that can be said."""
        logits = self._logits(x)
        losses = sample_losses(self, self._run_head(logits)[0], y)
        if not self._has_accuracy:
            return losses, 0
        return losses, int(np.count_nonzero(right_samples(self, logits, losses, y)))

    def _logits(self, x: Array) -> Array:
        """Return the last layer's outputs for x (N, inputs)."""
        return self._run_layers(x).logits

    def _run_head(self, h: Array) -> tuple[Array, list[Any]]:
        """Return the log-probabilities for the logits h, and the operations that made them.

        Another loss than cross-entropy has none of these.
        """
        head = [operation() for operation in self._head]
        if self.loss_name != CROSS_ENTROPY:
            return h, []
        for operation in head:
            h = operation.forward(h)
        return h, head

    def _train_epoch(self, data: Samples, schedule: Schedule, states: Array, number: int) -> Epoch:
        """Train an epoch on a copy of the parameters: by its operations, one after the other."""
        return composed_epoch(self, data, schedule, states, number)

    @abstractmethod
    def _propagate(self, g: Array) -> None:
        """Write the gradients to `gradients`, by that of the last layer's outputs (N, outputs)."""

    @abstractmethod
    def _elementary(self) -> Elementary:
        """Return the functions that losses call."""

    @abstractmethod
    def _run_layers(self, h: Array) -> Layers:
        """Return what the layers make of h (N, inputs)."""


# Python's errors for wrong arguments have the qualified name: that of the class users know.
for _class in (Parameters, Estimator):
    for _name, _method in vars(_class).items():
        if isinstance(_method, FunctionType):
            _method.__qualname__, _method.__module__ = f"MLP.{_name}", "fastmlp.model.mlp"

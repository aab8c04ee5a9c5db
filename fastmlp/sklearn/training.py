"""What scikit-learn does around its epochs: rates, scores, what ends a training, the best weights.

Each epoch is fastmlp's own, one compiled call; the kernels keep the optimizer's state.
"""

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import ConvergenceWarning

from ..checks import Array, all_finite
from ..model.draws import shuffled
from ..model.fit import Keeper, Samples
from ..model.fit_checks import Schedule
from ..model.optimizer_state import Kept
from ..model.scores import r2_score, weighted_share
from ..plan.ways import STATES
from .batches import Batches
from .inputs import Table, dense, in_blocks, rows_of_block, split

if TYPE_CHECKING:
    from .base import BaseMLP

SMALLEST_RATE = 1e-6  # of learning_rate="adaptive"
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and "
    "need to be preprocessed."
)


def train(
    estimator: "BaseMLP", table: Table, generator: np.random.PCG64, incremental: bool
) -> None:
    """Run the epochs of `fit`, or the one of `partial_fit`, by a stochastic solver."""
    held_out = None
    if estimator.early_stopping:
        if incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        seed = int(generator.random_raw()) >> 33
        two_classes = estimator._has_classes and estimator.n_outputs_ == 1
        table, held_out = split(table, estimator.validation_fraction, two_classes, seed)
    model = estimator._model
    epochs = Epochs(estimator, table, _batch_size(estimator.batch_size, len(table.y)))
    keeper, best = Keeper(model, 0), model.flat_parameters.copy()
    state = _start(estimator, incremental)
    _start_figures(estimator)
    try:
        estimator.n_iter_ = 0
        for _ in range(1 if incremental else estimator.max_iter):
            order = shuffled(generator, len(table.y)) if estimator.shuffle else None
            parameters, state, loss = epochs.run(order, state, estimator._rate)
            if not all_finite(parameters):
                raise ValueError(NOT_FINITE)
            keeper.keep(estimator.n_iter_ + 1, parameters, state)
            _note(estimator, loss, len(table.y))
            if held_out is None:
                _watch_loss(estimator)
            elif _watch_score(estimator, held_out):
                best = parameters
            state = _with_rate(state, estimator, _scheduled(estimator))
            if estimator._no_improvement_count > estimator.n_iter_no_change:
                rate = _after_no_improvement(estimator)
                if rate is None:
                    break
                state = _with_rate(state, estimator, rate)
                estimator._no_improvement_count = 0
            if not incremental and estimator.n_iter_ == estimator.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and "
                    "the optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=5,
                )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=5)
    if held_out is not None and estimator.restore_best:
        keeper.keep(estimator.n_iter_, best, state)


class Epochs:
    """The epochs over some samples; each starts from the model's parameters and leaves them."""

    def __init__(self, estimator: "BaseMLP", table: Table, batch_size: int) -> None:
        self.estimator, self.model, self.batch_size = estimator, estimator._model, batch_size
        self.y, self.samples = table.y, len(table.y)
        # A sparse matrix whose rows are too many is made dense for some batches at once.
        self.X, self.part = table.X, self.samples
        if issparse(table.X):
            self.part = max(1, rows_of_block(table.X) // batch_size) * batch_size
            if self.part >= self.samples:
                self.X, self.part = dense(table.X), self.samples
        self.batches = Batches(self.model, self.y, table.weight, batch_size, estimator.alpha)
        self.squares = self.batches.squares(self.model.flat_parameters)

    def run(self, order: Array | None, state: Kept, rate: float) -> tuple[Array, Kept, float]:
        """Return the parameters, the state and the loss after an epoch at a rate."""
        visit, y = self.batches.visit(order), self.y if order is None else self.y[order]
        optimizer, done, states = state[0], state[1], state[2].copy()
        scales, decays = visit.scales, visit.decays
        worker, losses = self.model if self.part >= self.samples else self.model._worker(), []
        for first in range(0, self.samples, self.part):
            mine = slice(first, first + self.part)
            steps = slice(first // self.batch_size, -(-mine.stop // self.batch_size))
            X, place = self._samples(order, mine)
            samples = Samples(X, y[mine], place, None if scales is None else scales[mine])
            schedule = self._schedule(optimizer, done + steps.start, rate, decays[steps])
            epoch = worker._train_epoch(samples, schedule, states, 0)
            losses.append(epoch.losses)
            if worker is not self.model:
                worker.flat_parameters[...] = epoch.parameters
        # W^2 changes little in an epoch: between its ends, as if in a line.
        before, self.squares = self.squares, self.batches.squares(epoch.parameters)
        with np.errstate(invalid="ignore"):
            squares = before + (self.squares - before) * (np.arange(len(decays)) / len(decays))
        factor = self.batches.loss_factor
        loss = self.batches.loss(visit, order, np.concatenate(losses), squares, factor)
        return epoch.parameters, (optimizer, done + len(decays), states), loss

    def _samples(self, order: Array | None, mine: slice) -> tuple[Array, Array | None]:
        """Return an array of samples, and the order in which it is visited; None: as it lies."""
        if not issparse(self.X):
            return self.X, order
        return dense(self.X[mine] if order is None else self.X[order[mine]]), None

    def _schedule(self, optimizer: str, done: int, rate: float, decays: Array) -> Schedule:
        estimator = self.estimator
        return Schedule(
            optimizer, np.full(len(decays), rate), estimator.momentum, decays, self.batch_size, 1,
            rate, {}, math.inf, not estimator.alpha > 0, done,
            estimator.beta_1, estimator.beta_2, estimator.epsilon,
        )  # fmt: skip


def _batch_size(batch_size: Any, samples: int) -> int:
    if batch_size == "auto":
        return min(200, samples)
    if batch_size > samples:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=6,
        )
    return min(int(batch_size), samples)


def _start(estimator: "BaseMLP", incremental: bool) -> Kept:
    """Return the state to start from: that of the last partial_fit, if it is this optimizer's."""
    model, optimizer = estimator._model, "adam"
    if estimator.solver == "sgd":
        optimizer = "nesterov" if estimator.nesterovs_momentum else "momentum"
        if estimator.momentum == 0:
            optimizer = "sgd"
    kept = model._optimizer_state
    goes_on = incremental and kept is not None and kept[0] == optimizer
    changes = estimator.solver == "sgd" and estimator.learning_rate != "constant"
    if not (goes_on and changes):
        estimator._rate = float(estimator.learning_rate_init)
    if goes_on and kept is not None:
        return kept
    return optimizer, 0, np.zeros(STATES[optimizer] * model.flat_parameters.size, model.dtype)


def _start_figures(estimator: "BaseMLP") -> None:
    """Make what a training is watched by, unless it goes on from another that had the same."""
    own, watches_scores = estimator.__dict__, estimator.early_stopping
    own.setdefault("loss_curve_", [])
    if "best_loss_" not in own or (own["best_loss_"] is None) != watches_scores:
        estimator.best_loss_ = None if watches_scores else np.inf
        estimator.validation_scores_ = [] if watches_scores else None
        estimator.best_validation_score_ = -np.inf if watches_scores else None


def _note(estimator: "BaseMLP", loss: float, samples: int) -> None:
    """Count an epoch, and keep its loss."""
    estimator.n_iter_ += 1
    estimator.t_ += samples
    estimator.loss_ = loss
    estimator.loss_curve_.append(loss)
    if estimator.verbose:
        print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")


def _watch_loss(estimator: "BaseMLP") -> None:
    """Count the epochs whose loss isn't lower than the lowest by tol."""
    is_no_better = estimator.loss_ > estimator.best_loss_ - estimator.tol
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if is_no_better else 0
    if estimator.loss_ < estimator.best_loss_:
        estimator.best_loss_ = estimator.loss_


def _watch_score(estimator: "BaseMLP", held_out: Table) -> bool:
    """Count the epochs whose score isn't higher than the best by tol; tell of a new best one."""
    score = _score(estimator, held_out)
    estimator.validation_scores_.append(score)
    if estimator.verbose:
        print(f"Validation score: {score:f}")
    is_no_better = score < estimator.best_validation_score_ + estimator.tol
    estimator._no_improvement_count = estimator._no_improvement_count + 1 if is_no_better else 0
    if score > estimator.best_validation_score_:
        estimator.best_validation_score_ = score
        return True
    return False


def _score(estimator: "BaseMLP", table: Table) -> float:
    """Return the accuracy, of all labels at once if there are many, or R^2."""
    model = estimator._model
    predicted = in_blocks(lambda X: model.predict(X, check_finite=False), table.X)
    if not estimator._has_classes:
        return r2_score(predicted.reshape(table.y.shape), table.y, table.weight)
    right = predicted.reshape(table.y.shape) == table.y
    return weighted_share(right.reshape(len(right), -1).all(axis=1), table.weight)


def _scheduled(estimator: "BaseMLP") -> float:
    """Return the rate of the next epoch: learning_rate_init / (t_ + 1)^power_t for invscaling."""
    if estimator.solver != "sgd" or estimator.learning_rate != "invscaling":
        return estimator._rate
    # By fastmlp's own functions: a library's power has other bits on other machines.
    elementary = estimator._model._elementary()
    log = elementary.log(np.array([estimator.t_ + 1.0]))
    return float(estimator.learning_rate_init * elementary.exp(-estimator.power_t * log)[0])


def _after_no_improvement(estimator: "BaseMLP") -> float | None:
    """Return the rate to go on with; None where the training ends."""
    what = "Validation score" if estimator.early_stopping else "Training loss"
    message = (
        f"{what} did not improve more than tol={estimator.tol:f} for "
        f"{estimator.n_iter_no_change} consecutive epochs."
    )
    rate: float | None = None
    if estimator.solver != "sgd" or estimator.learning_rate != "adaptive":
        message += " Stopping."
    elif estimator._rate <= SMALLEST_RATE:
        message += " Learning rate too small. Stopping."
    else:
        rate = estimator._rate / 5
        message += f" Setting learning rate to {rate:f}"
    if estimator.verbose:
        print(message)
    return rate


def _with_rate(state: Kept, estimator: "BaseMLP", rate: float) -> Kept:
    """Return the state for another rate, which the estimator has from now on.

    scikit-learn's velocity has the rates of its steps in it, fastmlp's is multiplied by the rate.
    """
    optimizer, done, states = state
    if rate == estimator._rate:
        return state
    if optimizer in ("momentum", "nesterov"):
        with np.errstate(all="ignore"):
            factor = states.dtype.type(np.float64(estimator._rate) / rate)
            states = states * factor if np.isfinite(factor) else np.zeros_like(states)
    estimator._rate = rate
    estimator._model._optimizer_state = state = optimizer, done, states
    return state

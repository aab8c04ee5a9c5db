"""Training a model over epochs: the loop, and an epoch as its operations."""

import math
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..arithmetic_mode import is_numpy
from ..checks import Array, all_finite
from ..sources.blocks import Blocks, blocks_of
from ..sources.means import Mean, first_wrong
from ..sources.rows import Rows
from ..sources.samples import kernels_y
from ..sources.windows import units_of, windows
from .draws import Rng, bit_generator, shuffled
from .fit_checks import (
    Data,
    Schedule,
    checked_callback,
    checked_schedule,
    checked_validation,
)
from .history import History
from .losses import right_samples, sample_losses, scaled_gradient
from .optimizer_state import Kept, starting_state
from .parameters import lent
from .progress import progress_bar
from .sample_weights import scales, weighted
from .stopping import Watch, checked_watch
from .updating import update

if TYPE_CHECKING:
    from .estimator import Estimator


class Layers(NamedTuple):
    """What a forward pass leaves: each layer's inputs, its activation after it, the logits."""

    inputs: list[Array]
    functions: list[Any]
    logits: Array


class Epoch(NamedTuple):
    """What an epoch of training gives; losses and hits are from before each sample's step.

    hits: how many samples were right; 0 of a regression.
    """

    parameters: Array
    losses: Array
    hits: int


class Trained(NamedTuple):
    """What an epoch of all samples gives; losses: of samples that are read, their mean so far."""

    parameters: Array
    losses: Array | Mean
    hits: int
    loss: float


class Samples(NamedTuple):
    """What an epoch visits: x (N, inputs); the order, None: as x lies; in the order, what is y's.

    y: labels (N,) or targets (N, outputs). scales (N,): each sample's part in its batch, None:
    equal parts.
    """

    x: Array
    y: Array
    order: Array | None
    scales: Array | None = None


class Request(NamedTuple):
    """What a call of `fit` asks for, all of it checked. state: the one to start from.

    watch: what ends the training in time, if anything; it notes the best epoch. blocks: those whose
    order is drawn instead of the samples'. train_epoch: in place of the model's own `_train_epoch`,
    where other processes have a part in it.
    """

    data: Data
    schedule: Schedule
    state: Kept
    generator: np.random.PCG64 | None
    validation: Data | None
    watch: Watch | None
    progress: bool
    callback: Callable[[History], object] | None
    check_finite: bool
    blocks: Blocks | None = None
    train_epoch: "TrainEpoch | None" = None


TrainEpoch = Callable[[Samples, Schedule, Array, int], Epoch]


def request_of(
    model: "Estimator",
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float | Array,
    optimizer: str,
    momentum: float,
    weight_decay: float,
    max_norm: float | None,
    decay_bias: bool,
    shuffle: bool | str,
    block_size: int | None,
    validation: tuple[Array, ArrayLike] | None,
    patience: int | None,
    monitor: str,
    restore_best: bool,
    resume: bool,
    rng: Rng,
    progress: bool,
    callback: Callable[[History], object] | None,
    check_finite: bool,
) -> Request:
    """Return what `fit`'s arguments ask for, or raise; data: its samples, all that y is of."""
    schedule = checked_schedule(
        len(data.y), epochs, batch_size, learning_rate, optimizer, momentum, weight_decay,
        max_norm, decay_bias,
    )  # fmt: skip
    blocks = blocks_of((len(data.y), model.sizes[0]), shuffle, block_size)
    evaluated = checked_validation(model, validation, check_finite, False)
    watch = checked_watch(model, patience, monitor, restore_best, validation)
    state = starting_state(model, optimizer, resume)
    checked_callback(callback)
    generator = bit_generator(rng) if shuffle else None
    return Request(
        data, schedule._replace(done=state[1]), state, generator, evaluated, watch, progress,
        callback, check_finite, blocks,
    )  # fmt: skip


class Keeper:
    """Gives a model the weights and the optimizer's state of an epoch: both, or neither."""

    def __init__(self, model: "Estimator", finished: int) -> None:
        self.attributes = vars(model)
        self.finished = finished  # epochs: the model is as the last of them left it

    def keep(self, finished: int, parameters: Array, state: Kept) -> None:
        """Write them to the model; an interrupt comes when all is written."""
        try:
            lent(self.attributes)[...] = parameters
            self.attributes["_optimizer_state"] = state
            self.finished = finished
        except KeyboardInterrupt:
            self.keep(finished, parameters, state)
            raise


def train(
    model: "Estimator", request: Request, history: History | None = None, first: int = 0
) -> History:
    """Run the epochs of `fit` on what it has checked.

    history, first: of a training that has come so far, and goes on with this epoch.
    """
    model._refuse_read_only()
    # Else an epoch's weights tell: of NaN or inf in x, a row of W1 becomes it, as 0 * NaN is
    # NaN. A look at x takes up to a third of an epoch. But NumPy's BLAS may pass over zeros.
    if request.check_finite and is_numpy():
        request.data.refuse_not_finite()
    schedule, keeper, history = request.schedule, Keeper(model, first), history or History()
    watch = request.watch
    try:
        with progress_bar(schedule.epochs) if request.progress else nullcontext() as show:
            _train(model, request, keeper, history, show, first)
        if watch is not None and watch.kept is not None and history.best_epoch is not None:
            keeper.keep(history.best_epoch + 1, *watch.kept)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"fit: interrupted; the model is as epoch {keeper.finished} of {schedule.epochs} left "
            "it"
        ) from None
    return history


def _train(
    model: "Estimator",
    request: Request,
    keeper: Keeper,
    history: History,
    show: Callable[..., None] | None,
    first: int,
) -> None:
    """Run the epochs until the last, or until one ends them."""
    data, schedule, state, generator, validation, watch = request[:6]
    samples_each, steps = len(data.y), len(schedule.steps(0))
    before = generator.state if generator is not None else None
    for number in range(first, schedule.epochs):
        start = time.perf_counter()
        # An epoch writes to states of its own: one that is refused leaves those before it.
        states = state[2].copy()
        try:
            epoch = _run_epoch(model, request, states, number)
            is_finite = math.isfinite(epoch.loss) and all_finite(epoch.parameters)
            if request.check_finite and not is_finite:
                raise _refusal(model, request, state, number, epoch, history)
        except Exception:
            if generator is not None and before is not None and number == 0:
                generator.state = before
            raise
        state = schedule.optimizer, state[1] + steps, states
        # The model changes here only: an interrupt leaves it as an epoch has left it.
        keeper.keep(number + 1, epoch.parameters, state)
        history.seconds.append(time.perf_counter() - start)
        history.loss.append(epoch.loss)
        if model._has_accuracy:
            history.accuracy.append(epoch.hits / samples_each)
        over = False
        if validation is not None:
            loss, accuracy = model._evaluate(validation)
            history.validation_loss.append(loss)
            if accuracy is not None:
                history.validation_accuracy.append(accuracy)
            if watch is not None:
                over = watch.is_over(history, number, epoch.parameters, state)
        if show is not None:
            show(history.last())
        if (request.callback is not None and request.callback(history)) or over:
            break


def _run_epoch(model: "Estimator", request: Request, states: Array, number: int) -> Trained:
    """Train an epoch on a copy of the parameters."""
    data, schedule, generator, blocks = (
        request.data, request.schedule, request.generator, request.blocks
    )  # fmt: skip
    if isinstance(data.x, Rows):
        return _epoch_in_windows(model, data.x, request, states, number)
    order = None
    if generator is not None:
        order = shuffled(generator, len(data.y)) if blocks is None else blocks.order(generator)
    samples, weight = _visited(data, order, schedule.batch_size)
    epoch = (request.train_epoch or model._train_epoch)(samples, schedule, states, number)
    return Trained(*epoch, float(model._mean(weighted(epoch.losses, weight))))


def _epoch_in_windows(
    model: "Estimator", rows: Rows, request: Request, states: Array, number: int
) -> Trained:
    """Do the same over samples that are read: the epoch of a window is one over its samples."""
    data, schedule, generator, blocks = (
        request.data, request.schedule, request.generator, request.blocks
    )  # fmt: skip
    order = None
    if generator is not None and blocks is None:
        order = shuffled(generator, len(rows))
    worker, mean, hits = model._worker(), Mean(model.dtype), 0
    kept: list[tuple[Array, Array]] = []  # losses and weights, whose mean needs the sum of all
    step = schedule.steps(number).start
    units = units_of(rows, blocks, generator, order)
    with closing(windows(rows, units, schedule.batch_size)) as visited:
        for x, inside, places in visited:
            y, weight, scale = kernels_y(data.y[places]), None, None
            if data.weight is not None:
                weight = data.weight[places]
                scale = scales(weight, schedule.batch_size, model.dtype)
            stop = step - (-len(y) // schedule.batch_size)
            part = schedule.part(step, stop)
            epoch = worker._train_epoch(Samples(x, y, inside, scale), part, states, 0)
            worker.flat_parameters[...] = epoch.parameters
            mean.add(epoch.losses)
            if weight is not None:
                kept.append((epoch.losses, weight))
            hits, step = hits + epoch.hits, stop
    loss = mean.value()
    if kept:
        losses, weights = map(np.concatenate, zip(*kept, strict=True))
        loss = float(model._mean(weighted(losses, weights)))
    return Trained(worker.flat_parameters, mean, hits, loss)


def _visited(data: Data, order: Array | None, batch_size: int) -> tuple[Samples, Array | None]:
    """Return what an epoch visits in an order, and the weights in that order; None: none."""
    y, weight, scale = data.y, data.weight, None
    if order is not None:
        y, weight = y[order], None if weight is None else weight[order]
    if weight is not None:
        scale = scales(weight, batch_size, data.x.dtype)
    return Samples(data.x, y, order, scale), weight


def _refusal(
    model: "Estimator",
    request: Request,
    state: Kept,
    number: int,
    epoch: Trained,
    history: History,
) -> Exception:
    """Return the error of an epoch whose loss or weights aren't finite: x's, if x isn't.

    state: that from before the epoch.
    """
    error, schedule = request.data.not_finite(), request.schedule
    if error is not None:
        return error
    wrong, steps = first_wrong(epoch.losses), schedule.steps(number)
    step = len(steps) - 1 if wrong is None else wrong // schedule.batch_size
    loss = epoch.loss
    weights = epoch.parameters[~np.isfinite(epoch.parameters)]
    got = f"a weight of {weights[0]}" if math.isfinite(loss) else f"a loss of {loss}"
    mend = "lower it or scale x"
    if wrong is not None and steps[step] == 0:  # no rate had a part in it
        mend = "scale x or make the model anew"
    if not all_finite(state[2]):
        mend = "pass resume=False, as optimizer_state wasn't finite before"
    if not all_finite(model.flat_parameters):
        mend = "make the model anew, as its weights weren't finite before"
    diverged = FloatingPointError(
        f"fit: expected finite losses and weights, got {got} in epoch {number + 1} of "
        f"{schedule.epochs}, in step {step + 1} of {len(steps)}, at a learning_rate of "
        f"{schedule.rates[steps[step]]}; {mend}, or pass check_finite=False to train on; the model "
        f"is as {f'epoch {number} left it' if number else 'it was'}"
    )
    diverged.history = history  # type: ignore[attr-defined]
    return diverged


def mean_loss_of(model: "Estimator", data: Data) -> tuple[float, int]:
    """Return the weighted mean of the samples' losses, and how many samples are right."""
    if not isinstance(data.x, Rows):
        losses, hits = model._losses(data.x, data.y)
        return float(model._mean(weighted(losses, data.weight))), hits
    mean, kept, hits = Mean(model.dtype), [], 0
    for piece in data.pieces():
        losses, right = model._losses(piece.x, piece.y)
        mean.add(losses)
        if data.weight is not None:
            kept.append(losses)
        hits += right
    if data.weight is None:
        return mean.value(), hits
    return float(model._mean(weighted(np.concatenate(kept), data.weight))), hits


def composed_epoch(
    model: "Estimator", data: Samples, schedule: Schedule, states: Array, number: int
) -> Epoch:
    """One epoch as forward, backward and update for each batch: the definition of an epoch."""
    x, y, order, scales = data
    worker = model._worker()
    state = [[half] for half in states.reshape(-1, worker.flat_parameters.size)]
    losses, hits = [], 0
    for batch, step in enumerate(schedule.steps(number)):
        mine = slice(batch * schedule.batch_size, (batch + 1) * schedule.batch_size)
        expected = y[mine]
        outputs = worker.forward(x[mine] if order is None else x[order[mine]])
        losses.append(sample_losses(worker, outputs, expected))
        if model._has_accuracy:
            right = right_samples(worker, worker._last_logits, losses[-1], expected)
            hits += int(np.count_nonzero(right))
        scale = np.full(len(expected), 1 / len(expected), model.dtype)
        if scales is not None:
            scale = scales[mine]
        worker._propagate(scaled_gradient(worker, expected, scale))
        update(worker, schedule, state, step)
    return Epoch(worker.flat_parameters, np.concatenate(losses), hits)

"""Training a model over epochs: the loop, an epoch as its operations, the history."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checks import Array, all_finite
from ..labels import one_hot
from ..plan.ways import STATES
from .fit_checks import BETA1, BETA2, EPSILON, Data, Schedule
from .parameters import shuffled
from .progress import progress_bar

if TYPE_CHECKING:
    from .estimator import Estimator


@dataclass
class History:
    """What `fit` returns: a list for each figure, with an element for each epoch.

    loss, accuracy: means over the epoch's samples, each from before its step. validation_loss,
    validation_accuracy: after the epoch, empty without `validation`. seconds: of training alone.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Epoch(NamedTuple):
    """What an epoch of training gives; losses and hits are from before each sample's step."""

    parameters: Array
    losses: Array
    hits: int


class Samples(NamedTuple):
    """What an epoch visits: x (N, inputs); its labels in the order; the order, None: as x lies."""

    x: Array
    labels: Array
    order: Array | None


def train(
    model: "Estimator",
    data: Data,
    schedule: Schedule,
    generator: np.random.PCG64 | None,
    validation: Data | None,
    progress: bool,
    callback: Callable[[History], object] | None,
    check_finite: bool,
) -> History:
    """Run the epochs of `fit` on what it has checked."""
    history, finished = History(), 0
    x, labels = data.x, data.labels
    before = generator.state if generator is not None else None
    states = np.zeros(STATES[schedule.optimizer] * model.flat_parameters.size, model.dtype)
    try:
        with progress_bar(schedule.epochs) if progress else nullcontext() as show:
            for number in range(schedule.epochs):
                start = time.perf_counter()
                order = None if generator is None else shuffled(generator, len(x))
                samples = Samples(x, labels if order is None else labels[order], order)
                epoch = model._train_epoch(samples, schedule, states, number)
                loss = float(model._mean(epoch.losses))
                if check_finite and not (math.isfinite(loss) and all_finite(epoch.parameters)):
                    if generator is not None and before is not None and number == 0:
                        generator.state = before
                    raise _refusal(model, data, schedule, number, epoch, loss, history)
                # The model changes here only: an interrupt leaves it as an epoch has left it.
                model.flat_parameters[...] = epoch.parameters
                finished = number + 1
                history.seconds.append(time.perf_counter() - start)
                history.loss.append(loss)
                history.accuracy.append(epoch.hits / len(x))
                if validation is not None:
                    loss, accuracy = model._evaluate(validation.x, validation.labels)
                    history.validation_loss.append(loss)
                    history.validation_accuracy.append(accuracy)
                if show is not None:
                    show(_last(history))
                if callback is not None and callback(history):
                    break
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"fit: interrupted; the model is as epoch {finished} of {schedule.epochs} left it"
        ) from None
    return history


def _refusal(
    model: "Estimator",
    data: Data,
    schedule: Schedule,
    number: int,
    epoch: Epoch,
    loss: float,
    history: History,
) -> Exception:
    """Return the error of an epoch whose loss or weights aren't finite: x's, if x isn't."""
    error = data.not_finite()
    if error is not None:
        return error
    wrong, steps = np.flatnonzero(~np.isfinite(epoch.losses)), schedule.steps(number)
    step = int(wrong[0]) // schedule.batch_size if wrong.size else len(steps) - 1
    weights = epoch.parameters[~np.isfinite(epoch.parameters)]
    got = f"a weight of {weights[0]}" if math.isfinite(loss) else f"a loss of {loss}"
    mend = "lower it or scale x"
    if wrong.size and steps[step] == 0:  # no rate had a part in it
        mend = "scale x or make the model anew"
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


def composed_epoch(
    model: "Estimator", data: Samples, schedule: Schedule, states: Array, number: int
) -> Epoch:
    """One epoch as forward, backward and update for each batch: the definition of an epoch."""
    x, labels, order = data
    worker = model._worker()
    parameters, gradients = worker.flat_parameters, worker.flat_gradients
    state = [[half] for half in states.reshape(-1, parameters.size)]
    losses, hits = [], 0
    for batch, step in enumerate(schedule.steps(number)):
        mine = slice(batch * schedule.batch_size, (batch + 1) * schedule.batch_size)
        label = labels[mine]
        log_prob = worker.forward(x[mine] if order is None else x[order[mine]])
        losses.append(sample_losses(log_prob, label))
        hits += count_hits(worker._last_logits, losses[-1], label)
        scale = model.dtype.type(1 / len(label))
        worker.backward(one_hot(label, model.sizes[-1], model.dtype) * scale)
        with np.errstate(all="ignore"):
            if schedule.weight_decay != 0:
                decay = model.dtype.type(schedule.weight_decay)
                gradients[...] = gradients + decay * parameters
        rate = float(schedule.rates[step])
        more: tuple[Any, ...] = {
            "sgd": (rate,),
            "momentum": (*state, rate, schedule.momentum),
            "adam": (*state, step + 1, rate, BETA1, BETA2, EPSILON),
        }[schedule.optimizer]
        model._updates[schedule.optimizer]([parameters], [gradients], *more)
    return Epoch(parameters, np.concatenate(losses), hits)


def sample_losses(log_prob: Array, labels: Array) -> Array:
    """Return 0 - log_prob[label] for each row, which is rowsum(-log_prob * one-hot) if finite."""
    return np.asarray(0 - log_prob[np.arange(len(labels)), labels])


def count_hits(logits: Array, losses: Array, labels: Array) -> int:
    """Return how many samples have their label as first largest logit, and a loss that's no NaN."""
    right = np.argmax(logits, axis=1) == labels
    return int(np.count_nonzero(right & ~np.isnan(losses)))


def _last(history: History) -> dict[str, str]:
    """Return the last epoch's figures for the progress bar."""
    figures = {
        name: values[-1] for name, values in vars(history).items() if values and name != "seconds"
    }
    return {name.replace("validation_", "val_"): f"{value:.4f}" for name, value in figures.items()}

"""Training a model over epochs: the checks, the schedule of the steps, the loop, the history."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from fastmlp_kernels.weight_update import CONSTANTS, OPTIMIZERS
from numpy.typing import ArrayLike

from .checks import Array, dtype_error, integer, plain_array, shape_error
from .labels import class_labels, one_hot
from .parameters import shuffled
from .progress import progress_bar
from .update_checks import decay_rate, real_number

if TYPE_CHECKING:
    from .estimator import Estimator

# How many arrays of state each update keeps, of the size of the parameters.
STATES = {"sgd": 0, "momentum": 1, "adam": 2}
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as Kingma & Ba (2015) propose


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


class Schedule(NamedTuple):
    """The steps of a training: rates has an element for each step of all epochs."""

    optimizer: str
    rates: Array
    momentum: float
    weight_decay: float
    batch_size: int
    epochs: int

    def steps(self, epoch: int) -> range:
        """Return the numbers of an epoch's steps, counted from the first epoch on."""
        each = len(self.rates) // self.epochs
        return range(epoch * each, (epoch + 1) * each)

    def constants(self, epoch: int) -> Array:
        """Return what the kernel needs: (steps, 8) float64, weight decay and the update's own.

        sgd: (rate,); momentum: (rate, momentum); Adam: (b1, 1 - b1, b2, 1 - b2, s, c, epsilon).
        """
        steps = self.steps(epoch)
        rates = self.rates[steps.start : steps.stop]
        constants = np.zeros((len(steps), CONSTANTS))
        constants[:, 0] = self.weight_decay
        if self.optimizer == "adam":
            # accumulate multiplies one after the other, as the powers are defined.
            b1, b2 = (
                np.multiply.accumulate(np.full(steps.stop, beta))[steps.start :]
                for beta in (BETA1, BETA2)
            )
            constants[:, 1:5] = BETA1, 1 - BETA1, BETA2, 1 - BETA2
            constants[:, 5], constants[:, 6], constants[:, 7] = (
                rates / (1 - b1),
                np.sqrt(1 - b2),
                EPSILON,
            )
        else:
            constants[:, 1], constants[:, 2] = rates, self.momentum
        return constants


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
    x: Array,
    labels: Array,
    schedule: Schedule,
    generator: np.random.PCG64 | None,
    validation: tuple[Array, Array] | None,
    progress: bool,
    callback: Callable[[History], object] | None,
) -> History:
    """Run the epochs of `fit` on what it has checked."""
    history, finished = History(), 0
    states = np.zeros(STATES[schedule.optimizer] * model.flat_parameters.size, model.dtype)
    try:
        with progress_bar(schedule.epochs) if progress else nullcontext() as show:
            for number in range(schedule.epochs):
                start = time.perf_counter()
                order = None if generator is None else shuffled(generator, len(x))
                data = Samples(x, labels if order is None else labels[order], order)
                epoch = model._train_epoch(data, schedule, states, number)
                # The model changes here only: an interrupt leaves it as an epoch has left it.
                model.flat_parameters[...] = epoch.parameters
                finished = number + 1
                history.seconds.append(time.perf_counter() - start)
                history.loss.append(float(model._mean(epoch.losses)))
                history.accuracy.append(epoch.hits / len(x))
                if validation is not None:
                    loss, accuracy = model._evaluate(*validation)
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


def composed_epoch(
    model: "Estimator", data: Samples, schedule: Schedule, states: Array, number: int
) -> Epoch:
    """One epoch as forward, backward and update for each batch: the definition of an epoch."""
    x, labels, order = data
    worker = copy.deepcopy(model)
    parameters, gradients = worker.flat_parameters, worker.flat_gradients
    state = [[half] for half in states.reshape(-1, parameters.size)]
    losses, hits = [], 0
    for batch, step in enumerate(schedule.steps(number)):
        mine = slice(batch * schedule.batch_size, (batch + 1) * schedule.batch_size)
        label = labels[mine]
        log_prob = worker.forward(x[mine] if order is None else x[order[mine]])
        losses.append(sample_losses(log_prob, label))
        right = np.argmax(worker._last_logits, axis=1) == label
        hits += int(np.count_nonzero(right & ~np.isnan(losses[-1])))
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


def checked_schedule(
    samples: int,
    epochs: object,
    batch_size: object,
    learning_rate: object,
    optimizer: object,
    momentum: object,
    weight_decay: object,
) -> Schedule:
    """Return the schedule of `fit`'s arguments, or raise."""
    if not isinstance(optimizer, str) or optimizer not in STATES:
        raise shape_error("optimizer", f"one of {[*OPTIMIZERS]}", repr(optimizer), "pass 'adam'")
    epochs, batch_size = _count("epochs", epochs), min(_count("batch_size", batch_size), samples)
    decay = real_number("weight_decay", weight_decay)
    if not 0 <= decay < math.inf:
        raise shape_error("weight_decay", "0 or more", decay, "pass 0 for none, 1e-4 is usual")
    steps = epochs * -(-samples // batch_size)
    rates = _rates(learning_rate, steps, epochs)
    return Schedule(optimizer, rates, decay_rate("momentum", momentum), decay, batch_size, epochs)


def _rates(learning_rate: Any, steps: int, epochs: int) -> Array:
    """Return a float64 for each step."""
    rates = plain_array("learning_rate", learning_rate)
    if rates.dtype.kind not in "fiu":
        raise dtype_error(
            "learning_rate", "a real number, or one for each step", rates.dtype, "pass 1e-3"
        )
    if rates.shape not in ((), (steps,)):
        raise shape_error(
            "learning_rate",
            f"a number, or shape ({steps},) for {epochs} epochs of {steps // epochs} steps",
            f"shape {rates.shape}",
            "pass one rate for each step of all epochs",
        )
    rates = np.ascontiguousarray(np.broadcast_to(rates, steps), np.float64)
    if not np.all(np.isfinite(rates)):
        raise shape_error(
            "learning_rate", "finite numbers", rates[~np.isfinite(rates)][0], "lower it"
        )
    return rates


def checked_data(model: "Estimator", x: Array, y: ArrayLike, names: str) -> tuple[Array, Array]:
    """Return x (N, inputs) as the kernel takes it and the labels (N,), N >= 1, or raise."""
    x = np.ascontiguousarray(model._inputs(x), model.dtype)
    labels = class_labels(names, y, model.sizes[-1], len(x))
    if len(x) == 0:
        raise shape_error("x", "at least one sample", f"shape {x.shape}", "pass some")
    return x, labels


def _count(name: str, value: object) -> int:
    count = integer(name, value)
    if count < 1:
        raise shape_error(name, "1 or more", count, f"pass {name}=10")
    return count


def _last(history: History) -> dict[str, str]:
    """Return the last epoch's figures for the progress bar."""
    figures = {
        name: values[-1] for name, values in vars(history).items() if values and name != "seconds"
    }
    return {name.replace("validation_", "val_"): f"{value:.4f}" for name, value in figures.items()}

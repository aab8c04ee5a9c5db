"""What `fit` and `score` check, and what comes of it: the samples, the schedule of the steps."""

import math
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from fastmlp_kernels.plans.record import CONSTANTS_EACH
from numpy.typing import ArrayLike

from ..checks import Array, dtype_error, not_finite, plain_array, positive, shape_error
from ..mends import usual
from ..operations.update_checks import decay_rate, real_number, weight_decay_number
from ..plan.ways import STATES
from ..schedules import count_steps
from ..sources.rows import Rows
from ..sources.samples import kernels_y, narrow_y, rows_of, values_of
from .losses import checked_y
from .sample_weights import ClassWeight, weight_of

if TYPE_CHECKING:
    from .estimator import Estimator

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's, as Kingma & Ba (2015) propose
MOST_STEPS = 4096  # whose constants are made at once
MOST_POWERS = 1 << 16  # behind it, 1 - beta^t is 1 for both betas; greater ones have all


class Data(NamedTuple):
    """Samples that fit a model: x (N, inputs) as kernels take it, and what is y's, N >= 1.

    name, given: what errors call the x that was passed, and itself. y: labels (N,), or targets
    (N, outputs). weight: float64 (N,), None: all 1. Where x are Rows, which are read in pieces and
    checked then, labels are of a narrow dtype.
    """

    name: str
    given: Any
    x: Any
    y: Array
    weight: Array | None = None

    def pieces(self) -> "Iterator[Data]":
        """Return the samples, those of Rows in pieces: each until the next one is asked for."""
        if not isinstance(self.x, Rows):
            yield self
            return
        with closing(self.x.pieces()) as pieces:
            for start, x in pieces:
                y = kernels_y(self.y[start : start + len(x)])
                yield Data(self.name, self.given, x, y)

    def not_finite(self) -> ValueError | None:
        """Return the error of the first number of x that isn't finite, if there is one."""
        if isinstance(self.x, Rows):
            return None  # what has been read is finite
        return not_finite(self.name, self.x, np.shape(self.given))

    def refuse_not_finite(self) -> None:
        """Raise it."""
        error = self.not_finite()
        if error is not None:
            raise error


class Schedule(NamedTuple):
    """The steps of a training: rates has an element for each step of all epochs.

    weight_decay: one, or one for each step of all epochs.
    """

    optimizer: str
    rates: Array
    momentum: float
    weight_decay: float | Array
    batch_size: int
    epochs: int
    largest_rate: float  # without its sign
    kept: dict[int, Array]  # the constants of some epochs
    max_norm: float  # inf for none
    decay_bias: bool  # true without decay
    done: int = 0  # steps that the optimizer has made before
    beta1: float = BETA1
    beta2: float = BETA2
    epsilon: float = EPSILON

    def rides(self, dtype: np.dtype[Any]) -> bool:
        """Return whether an update is W - rate * gradient, with finite rates of a dtype."""
        # Rounded to float32, a number is infinite from its largest and half of the last place on.
        limit = 2.0**128 - 2.0**103 if dtype.itemsize == 4 else math.inf
        simple = self.optimizer == "sgd" and self.max_norm == math.inf
        return simple and self.largest_rate < limit and not np.any(self.weight_decay)

    def decay(self, step: int) -> float:
        """Return the weight decay of a step, counted from the first epoch on."""
        decay = self.weight_decay
        return float(decay[step]) if isinstance(decay, np.ndarray) else decay

    def steps(self, epoch: int) -> range:
        """Return the numbers of an epoch's steps, counted from the first epoch on."""
        each = len(self.rates) // self.epochs
        return range(epoch * each, (epoch + 1) * each)

    def part(self, start: int, stop: int) -> "Schedule":
        """Return some steps as an epoch, the only one."""
        return self._replace(
            rates=self.rates[start:stop], epochs=1, kept={}, done=self.done + start
        )

    def constants(self, epoch: int) -> Array:
        """Return what the kernel needs: (steps, 8) float64, weight decay and the update's own.

        sgd: (rate,); momentum and nesterov: (rate, momentum); Adam and AdamW: (b1, 1 - b1, b2,
        1 - b2, s, c, epsilon). AdamW has in place of weight decay what it keeps of W.
        """
        # Of some epochs at once: one by one, they took a tenth of the time of a small one.
        each = len(self.rates) // self.epochs
        epochs = max(1, MOST_STEPS // each)
        group, number = divmod(epoch, epochs)
        if group not in self.kept:
            last = min((group + 1) * epochs, self.epochs)
            self.kept.clear()
            self.kept[group] = self._constants(range(group * epochs * each, last * each))
        return self.kept[group][number * each : (number + 1) * each]

    def _constants(self, steps: range) -> Array:
        rates = self.rates[steps.start : steps.stop]
        constants = self.without_rates(steps)
        decay = self.weight_decay
        if isinstance(decay, np.ndarray):
            decay = decay[steps.start : steps.stop]
        constants[:, 0] = decay
        if self.optimizer == "adamw":
            with np.errstate(over="ignore"):
                constants[:, 0] = 1 - rates * decay
        if self.optimizer in ("adam", "adamw"):
            constants[:, 5] = rates / constants[:, 5]
        else:
            constants[:, 1] = rates
        return constants

    def without_rates(self, steps: range) -> Array:
        """Return the constants of steps that no rate and no decay is in yet: s is 1 - b1^t."""
        constants = np.zeros((len(steps), CONSTANTS_EACH))
        if self.optimizer in ("adam", "adamw"):
            b1, b2 = (
                powers(beta, range(self.done + steps.start + 1, self.done + steps.stop + 1))
                for beta in (self.beta1, self.beta2)
            )
            constants[:, 1:5] = self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2
            constants[:, 5], constants[:, 6], constants[:, 7] = (
                1 - b1,
                np.sqrt(1 - b2),
                self.epsilon,
            )
        else:
            constants[:, 2] = self.momentum
        return constants


def powers(base: float, exponents: range) -> Array:
    """Return base^t for each t >= 1, by repeated multiplication; behind MOST_POWERS, its power."""
    first, last = exponents.start, exponents.stop - 1
    count = 1 << last.bit_length()
    table = _powers(base, min(count, MOST_POWERS) if base <= BETA2 else count)
    if last <= len(table):
        return np.asarray(table[first - 1 : last])
    return np.asarray(table[np.minimum(np.arange(first, last + 1), len(table)) - 1])


@lru_cache(16)
def _powers(base: float, count: int) -> Array:
    return np.multiply.accumulate(np.full(count, base))  # one after the other


def checked_data(
    model: "Estimator",
    x: Array,
    y: ArrayLike,
    check_finite: bool,
    names: tuple[str, str] = ("x", "y"),
    shuffle: bool | str | None = None,
) -> Data:
    """Return the samples x (N, ...) with the labels or targets y of N samples, or raise.

    check_finite: whether targets have to be finite; x isn't looked at. shuffle: how samples are
    visited, which may then stay where they lie; None: all shall be in memory.
    """
    if shuffle is not None:
        rows, y = rows_of(model, x, y, check_finite, names, shuffle)
        if rows is not None:
            return Data(names[0], x, rows, narrow_y(model, names[1], y, len(rows), check_finite))
    matrix = np.ascontiguousarray(model._inputs(x, names[0]), model.dtype)
    expected = checked_y(model, names[1], y, len(matrix), check_finite)
    if len(matrix) == 0:
        raise shape_error(names[0], "at least one sample", f"shape {matrix.shape}", "give some")
    return Data(names[0], x, matrix, expected, None)


def weighted_data(
    model: "Estimator",
    x: Array,
    y: ArrayLike,
    check_finite: bool,
    sample_weight: ArrayLike | None,
    class_weight: ClassWeight,
    shuffle: bool | str | None = None,
) -> Data:
    """Return the same with the weights of the samples, those of their classes in them.

    shuffle: as in checked_data.
    """
    data = checked_data(model, x, y, check_finite, shuffle=shuffle)
    if shuffle is not None and sample_weight is not None:
        sample_weight = values_of(x, sample_weight)
    return data._replace(weight=weight_of(model, data.y, sample_weight, class_weight))


def checked_validation(
    model: "Estimator", validation: object, check_finite: bool, shuffle: bool | None = None
) -> Data | None:
    """Return the samples of the pair `validation`, None if there is none, or raise.

    shuffle: False where they may stay where they lie.
    """
    if validation is None:
        return None
    if not isinstance(validation, tuple) or len(validation) != 2:
        got = type(validation).__name__
        raise TypeError(f"validation: expected a pair (x, y), got {got}; pass validation=(x, y)")
    names = "validation[0]", "validation[1]"
    data = checked_data(model, *validation, check_finite, names=names, shuffle=shuffle)
    if check_finite:
        data.refuse_not_finite()
    return data


def checked_callback(callback: object, arguments: str = "the history") -> None:
    """Raise where it is neither None nor a function of these arguments."""
    if callback is not None and not callable(callback):
        raise TypeError(
            f"callback: expected a function of {arguments}, got {type(callback).__name__}; "
            "pass callback=None for none"
        )


def checked_schedule(
    samples: int,
    epochs: object,
    batch_size: object,
    learning_rate: object,
    optimizer: object,
    momentum: object,
    weight_decay: object,
    max_norm: object = None,
    decay_bias: object = True,
) -> Schedule:
    """Return the schedule of `fit`'s arguments, or raise."""
    if not isinstance(optimizer, str) or optimizer not in STATES:
        raise shape_error(
            "optimizer", f"one of {[*STATES]}", repr(optimizer), "pass optimizer='adam'"
        )
    epochs = positive("epochs", epochs)
    batch_size = min(positive("batch_size", batch_size), samples)
    decay = weight_decay_number(weight_decay)
    norm = math.inf if max_norm is None else real_number("max_norm", max_norm)
    if not norm > 0:
        raise shape_error("max_norm", "a number above 0, or None", norm, usual("max_norm"))
    if not isinstance(decay_bias, bool | np.bool):
        got = type(decay_bias).__name__
        raise dtype_error("decay_bias", "True or False", got, "pass decay_bias=False")
    spares = not decay_bias and decay > 0
    steps = count_steps(samples, epochs, batch_size)
    rates = _rates(learning_rate, steps, epochs)
    mu, largest = decay_rate("momentum", momentum), float(np.abs(rates).max())
    return Schedule(
        optimizer, rates, mu, decay, batch_size, epochs, largest, {}, norm, not spares
    )  # fmt: skip


def checked_rate(learning_rate: Any) -> float:
    """Return one learning rate for all steps, or raise."""
    return float(_rates(learning_rate, 1, 1)[0])


def _rates(learning_rate: Any, steps: int, epochs: int) -> Array:
    """Return a float64 for each step."""
    rates = plain_array("learning_rate", learning_rate)
    if rates.dtype.kind not in "fiu":
        raise dtype_error(
            "learning_rate",
            "a real number, or one for each step",
            rates.dtype,
            usual("learning_rate"),
        )
    if rates.shape not in ((), (steps,)):
        raise shape_error(
            "learning_rate",
            f"a number, or shape ({steps},) for {epochs} epochs of {steps // epochs} steps",
            f"shape {rates.shape}",
            f"pass np.repeat(learning_rate, {steps // epochs})"
            if rates.shape == (epochs,)
            else "give one rate for each step of all epochs",
        )
    rates = np.full(steps, rates, np.float64)  # a copy, as the labels are
    wrong = ~(np.isfinite(rates) & (rates >= 0))
    if np.any(wrong):
        raise shape_error(
            "learning_rate", "finite numbers of 0 or more", rates[wrong][0], usual("learning_rate")
        )
    return rates

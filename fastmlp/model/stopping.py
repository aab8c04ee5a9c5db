"""The end of a training in time: the best epoch by validation, and how long ago it was."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..checks import Array, positive, shape_error
from .history import History
from .optimizer_state import Kept

if TYPE_CHECKING:
    from .estimator import Estimator

MONITORS = ("loss", "accuracy")


class Stopping(NamedTuple):
    """When a training ends: after `patience` epochs without a better figure of validation."""

    patience: int
    monitor: str
    restore_best: bool


def checked_watch(
    model: "Estimator", patience: object, monitor: object, restore_best: bool, validation: object
) -> "Watch | None":
    """Return what watches a training as `fit`'s arguments say, None without patience, or raise."""
    if not isinstance(monitor, str) or monitor not in MONITORS:
        raise shape_error("monitor", f"one of {[*MONITORS]}", repr(monitor), "pass monitor='loss'")
    if patience is None:
        return None
    epochs = positive("patience", patience)
    if validation is None:
        raise ValueError(
            "patience: expected validation to watch, got none; pass validation=(x, y) of samples "
            "that aren't trained on, or patience=None"
        )
    if monitor == "accuracy" and not model._has_accuracy:
        raise ValueError(
            "monitor: expected 'loss', as a regression has no accuracy, got 'accuracy'; "
            "pass monitor='loss'"
        )
    return Watch(Stopping(epochs, monitor, bool(restore_best)))


@dataclass
class Watch:
    """The best epoch so far; `kept`: its weights and its optimizer's state."""

    stopping: Stopping
    figure: float = -math.inf  # the larger, the better
    kept: tuple[Array, Kept] | None = None

    def is_over(self, history: History, number: int, parameters: Array, state: Kept) -> bool:
        """Look at an epoch that has been evaluated; return whether the training shall end."""
        patience, _, restore_best = self.stopping
        figure = self.figure_of(history, -1)
        if figure > self.figure:  # which no NaN is
            self.figure, history.best_epoch = figure, number
            self.kept = (parameters, state) if restore_best else None
        best = -1 if history.best_epoch is None else history.best_epoch
        return number - best >= patience

    def figure_of(self, history: History, epoch: int) -> float:
        """Return what an epoch is judged by, the larger, the better."""
        if self.stopping.monitor == "accuracy":
            return history.validation_accuracy[epoch]
        return -history.validation_loss[epoch]

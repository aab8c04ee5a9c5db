"""What a training tells: the figures of each epoch."""

from dataclasses import dataclass, field
from typing import Any

from . import curves


@dataclass
class History:
    """What `fit` returns: a list for each figure, with an element for each epoch.

    loss, accuracy: means over the epoch's samples, each from before its step, the loss' by their
    weights. validation_loss, validation_accuracy: after the epoch, empty without `validation`.
    Regressions have no accuracy: these lists stay empty. seconds: of training alone.
    best_epoch: with `patience`, the place in these lists of the best epoch, the first of equal
    ones; None without, and where every figure was NaN. error: of `fit_many`, why it ended early.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    error: str | None = None

    def last(self) -> dict[str, str]:
        """Return the last epoch's figures for the progress bar."""
        return {
            name.replace("validation_", "val_"): f"{values[-1]:.4f}"
            for name, values in vars(self).items()
            if name != "seconds" and isinstance(values, list) and values
        }

    def plot(self, figure: Any = None) -> Any:
        """Draw loss and, where there is one, accuracy of each epoch; return matplotlib's axes.

        figure: the one to draw into; by default pyplot's new one, which `pyplot.show()` shows.
        Raises ImportError without matplotlib: pip install 'fastmlp[plot]'.
        """
        return curves.draw(self, figure)

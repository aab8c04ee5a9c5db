"""The bars of `fit` and `fit_many`, on stderr: one that is closed or breaks ends the bar alone."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastmlp_kernels.compiling.notices import progress as compiling


@contextmanager
def progress_bar(epochs: int, name: str = "fit") -> Iterator[Callable[..., None]]:
    """Show a bar in the block; it gives show(figures, epochs=1), which moves the bar."""
    bar = _quietly(lambda: _open(epochs, name), None)

    def show(figures: dict[str, str], epochs: int = 1) -> None:
        if bar is not None:
            bar.set_postfix(figures, refresh=False)
            _quietly(lambda: bar.update(epochs), bar)

    if bar is not None:
        _quietly(bar.refresh, bar)
    before, compiling.shown = compiling.shown, True
    try:
        yield show
    finally:
        compiling.shown = before
        if bar is not None:
            _quietly(bar.close, bar)


def _open(epochs: int, name: str) -> Any:
    if sys.stderr is None:
        return None
    from tqdm import tqdm  # 20 ms of a first step that shows no bar

    # Written to a file, each refresh would be a line: there, only the last one.
    interval = 0.1 if sys.stderr.isatty() else math.inf
    # With a delay it shows nothing while it is being made, half of which could not be ended.
    return tqdm(total=epochs, desc=name, unit=" epochs", mininterval=interval, delay=1e-9)


def _quietly(act: Callable[[], Any], bar: Any) -> Any:
    """Return act(); after an error of the stream, None, and the bar writes nothing more."""
    try:
        return act()
    except (OSError, ValueError):  # ValueError: the stream is closed
        if bar is not None:
            bar.disable = True
        return None

"""The bar of `fit`, on stderr; a stderr that is closed or breaks ends the bar, not the training."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(epochs: int) -> Iterator[Callable[[dict[str, str]], None]]:
    """Show a bar in the block; it gives what moves the bar by an epoch, beside these figures."""
    bar = _quietly(lambda: _open(epochs), None)

    def show(figures: dict[str, str]) -> None:
        if bar is not None:
            bar.set_postfix(figures, refresh=False)
            _quietly(bar.update, bar)

    if bar is not None:
        _quietly(bar.refresh, bar)
    try:
        yield show
    finally:
        if bar is not None:
            _quietly(bar.close, bar)


def _open(epochs: int) -> Any:
    if sys.stderr is None:
        return None
    from tqdm import tqdm  # 20 ms of a first step that shows no bar

    # Written to a file, each refresh would be a line: there, only the last one.
    interval = 0.1 if sys.stderr.isatty() else math.inf
    # With a delay it shows nothing while it is being made, half of which could not be ended.
    return tqdm(total=epochs, desc="fit", unit=" epochs", mininterval=interval, delay=1e-9)


def _quietly(act: Callable[[], Any], bar: Any) -> Any:
    """Return act(); after an error of the stream, None, and the bar writes nothing more."""
    try:
        return act()
    except (OSError, ValueError):  # ValueError: the stream is closed
        if bar is not None:
            bar.disable = True
        return None

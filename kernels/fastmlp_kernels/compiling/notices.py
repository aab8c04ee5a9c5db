"""What compiling tells: two lines of logging and, where one was asked for, a bar between them."""

import atexit
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

ANNOUNCED_SECONDS = 1.0  # of compiling, before anything is said

logger = logging.getLogger("fastmlp.kernels")
log_once = cache(logger.info)


class Progress:
    """How many kernels are compiled or loaded, of those that are known to be needed.

    shown: whether a terminal gets a bar. lock: of the bar, which a thread of its own opens; a fork
    waits for it, too.
    """

    def __init__(self) -> None:
        self.shown = False
        self.expected = self.done = 0
        self.seconds = 0.0
        self.folder: Callable[[], object] = str
        self.bar: Any = None
        self.timer: threading.Timer | None = None
        self.lock = threading.Lock()

    def begin(self) -> None:
        """Say in a second, if the kernel hasn't ended by then, that something is compiled."""
        if self.timer is None:
            left = max(0.0, ANNOUNCED_SECONDS - self.seconds)
            self.timer = threading.Timer(left, self.announce)
            self.timer.daemon = True
            with suppress(RuntimeError):  # no thread to be had is no reason to stop
                self.timer.start()

    def end(self, seconds: float) -> None:
        """Count a kernel."""
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()
        with self.lock:
            self.seconds, self.done = self.seconds + seconds, self.done + 1
            self._show()

    def close(self) -> None:
        """End the count."""
        with self.lock, suppress(OSError, ValueError):
            self.expected = self.done = 0
            bar, self.bar = self.bar, None
            if bar is not None:
                bar.close()

    def announce(self) -> None:
        """Log that something is compiled, and show how much is left."""
        log_once(f"compiling kernels for this CPU, once: they are kept in {self.folder()}")
        _log_at_exit(self)
        wanted = self.shown and self.expected > self.done
        with self.lock, suppress(OSError, ValueError, AttributeError):
            if self.bar is None and wanted and sys.stderr.isatty():
                from tqdm import tqdm  # 20 ms

                self.bar = tqdm(desc="fastmlp: compiling", unit=" kernels", leave=False, total=1)
                self._show()

    def _show(self) -> None:
        with suppress(OSError, ValueError):
            if self.bar is not None:
                self.bar.n, self.bar.total = self.done, max(self.expected, self.done)
                self.bar.refresh()


@cache
def _log_at_exit(progress: Progress) -> None:
    atexit.register(lambda: logger.info("compiling took %.1f s", progress.seconds))


progress = Progress()


@contextmanager
def expect_kernels(count: int) -> Iterator[None]:
    """Ask for up to so many kernels in the block: the bar counts them."""
    progress.expected = progress.done + count
    try:
        yield
    finally:
        progress.close()

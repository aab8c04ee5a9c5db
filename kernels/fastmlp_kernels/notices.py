"""What compiling tells the user on stderr: two lines, and on a terminal a bar between them."""

import atexit
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

ANNOUNCED_SECONDS = 1.0  # of compiling, before anything is said


@cache
def tell_once(message: str) -> None:
    """Print a line to stderr, the first time that it is asked for."""
    if sys.stderr is not None:  # print would take stdout
        with suppress(OSError, ValueError):  # no stderr to write to is no reason to stop
            print(f"fastmlp: {message}", file=sys.stderr, flush=True)


class Progress:
    """How many kernels are compiled or loaded, of those that are known to be needed.

    lock: of the bar, which a thread of its own opens; a fork waits for it, too.
    """

    def __init__(self) -> None:
        self.expected = self.done = 0
        self.seconds = 0.0
        self.folder: Callable[[], object] = str
        self.bar: Any = None
        self.lock = threading.Lock()

    def begin(self) -> threading.Timer:
        """Say in a second, if that isn't cancelled, that something is compiled."""
        timer = threading.Timer(max(0.0, ANNOUNCED_SECONDS - self.seconds), self.announce)
        timer.daemon = True
        with suppress(RuntimeError):  # no thread to be had is no reason to stop
            timer.start()
        return timer

    def end(self, timer: threading.Timer, seconds: float) -> None:
        """Count a kernel."""
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
        """Say that something is compiled, and, on a terminal, how much is left."""
        with self.lock, suppress(OSError, ValueError, AttributeError):
            tell_once(f"compiling kernels for this CPU, once: they are kept in {self.folder()}")
            _tell_at_exit(self)
            if self.bar is None and self.expected > self.done and sys.stderr.isatty():
                from tqdm import tqdm  # 20 ms

                self.bar = tqdm(desc="fastmlp: compiling", unit=" kernels", leave=False, total=1)
                self._show()

    def _show(self) -> None:
        with suppress(OSError, ValueError):
            if self.bar is not None:
                self.bar.n, self.bar.total = self.done, max(self.expected, self.done)
                self.bar.refresh()


@cache
def _tell_at_exit(progress: Progress) -> None:
    atexit.register(lambda: tell_once(f"compiling took {progress.seconds:.1f} s"))


progress = Progress()

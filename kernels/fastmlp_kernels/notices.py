"""What compiling tells the user on stderr: two lines, and on a terminal a bar between them."""

import atexit
import sys
import threading
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
    """How many kernels are compiled or loaded, of those that are known to be needed."""

    def __init__(self) -> None:
        self.expected = self.done = 0
        self.seconds = 0.0
        self.folder: object = None
        self.bar: Any = None

    def begin(self) -> threading.Timer:
        """Say in a second, if that isn't cancelled, that something is compiled."""
        timer = threading.Timer(max(0.0, ANNOUNCED_SECONDS - self.seconds), self.announce)
        timer.daemon = True
        timer.start()
        return timer

    def end(self, timer: threading.Timer, seconds: float) -> None:
        """Count a kernel."""
        timer.cancel()
        self.seconds, self.done = self.seconds + seconds, self.done + 1
        if self.bar is not None:
            self.show()
        if self.done >= self.expected:
            self.expected = self.done = 0
            bar, self.bar = self.bar, None
            if bar is not None:
                with suppress(OSError, ValueError):
                    bar.close()

    def announce(self) -> None:
        """Say that something is compiled, and, on a terminal, how much is left."""
        tell_once(f"compiling kernels for this CPU, once: they are kept in {self.folder}")
        _tell_at_exit(self)
        with suppress(OSError, ValueError, AttributeError):
            if self.bar is None and sys.stderr.isatty() and self.expected > self.done:
                from tqdm import tqdm  # 20 ms

                self.bar = tqdm(desc="fastmlp: compiling", unit=" kernels", leave=False, total=1)
                self.show()

    def show(self) -> None:
        """Draw the bar anew."""
        with suppress(OSError, ValueError):
            self.bar.n, self.bar.total = self.done, max(self.expected, self.done)
            self.bar.refresh()


@cache
def _tell_at_exit(progress: Progress) -> None:
    atexit.register(lambda: tell_once(f"compiling took {progress.seconds:.1f} s"))


progress = Progress()

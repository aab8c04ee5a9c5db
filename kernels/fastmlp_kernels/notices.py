"""What compiling tells the user: one line each on stderr, once."""

import sys
from contextlib import suppress
from functools import cache


@cache
def tell_once(message: str) -> None:
    """Print a line to stderr, the first time that it is asked for."""
    if sys.stderr is not None:  # print would take stdout
        with suppress(OSError, ValueError):  # no stderr to write to is no reason to stop
            print(f"fastmlp: {message}", file=sys.stderr, flush=True)

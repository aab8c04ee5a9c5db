"""What all commands' options share: the parser, and the types of their values."""

import argparse
import sys
from collections.abc import Iterable
from typing import Any, NoReturn, TypeAlias

from ..startup import USER_ERROR, tell


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr, without the usage."""

    def error(self, message: str) -> NoReturn:
        """End with the message and the exit code of a user's error."""
        self.exit(USER_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own fails where the stream is closed, or hides that it is full.
        if file is sys.stdout is not None:
            file.write(message)
        else:
            tell(message.rstrip())


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values, as two columns."""
    found = list(rows)
    width = max(len(name) for name, _ in found)
    for name, value in found:
        print(f"{name:<{width}}  {value}")


def count(text: str) -> int:
    """Return an integer of 1 or more."""
    return _integer(text, 1)


def seed(text: str) -> int:
    """Return an integer of 0 or more."""
    return _integer(text, 0)


def sizes(text: str) -> tuple[int, ...]:
    """Return the sizes of a network, such as 784-100-10."""
    found = tuple(count(part) for part in text.split("-"))
    if len(found) < 2:
        raise argparse.ArgumentTypeError(f"expected two sizes or more, got {text!r}")
    return found


def positive(text: str) -> float:
    """Return a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _integer(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected an integer of {least} or more, got {text!r}")
    return int(text)

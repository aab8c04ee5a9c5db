"""The command line: `fastmlp train`, `predict`, `show`, and those for machine and developers."""

import sys
from collections.abc import Sequence

import fastmlp

from ..arithmetic_mode import get_arithmetic
from ..startup import USER_ERROR, tell, write_nothing_more
from . import machine, predict, show, train
from .jobs import UserError, as_user_error
from .options import Parser

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
NO_READER = 141  # 128 + SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 for a failed check, 2 for a user's error.

    `arguments` are those after the program's name, by default the process's own.
    """
    name = "fastmlp"
    try:
        try:
            options = _parser().parse_args(arguments)
            name = f"fastmlp {options.command}"
            with as_user_error(ValueError):
                get_arithmetic()
            code: int = options.run(options)
            return code
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except UserError as error:
        tell(f"{name}: error: {' '.join(str(error).split())}")
        return USER_ERROR
    except KeyboardInterrupt:
        tell(f"\n{name}: interrupted")
        return INTERRUPTED
    except OSError as error:
        write_nothing_more()
        if isinstance(error, BrokenPipeError):
            return NO_READER
        tell(f"{name}: error: {error}")
        return USER_ERROR


def _parser() -> Parser:
    parser = Parser(
        prog="fastmlp",
        description="Train small multilayer perceptrons on a CPU: compiled, "
        "with the same bits on every machine.",
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    names = "train|predict|show|check|info|compile|plan|bench"
    commands = parser.add_subparsers(dest="command", required=True, metavar=names)
    train.add(commands)
    predict.add(commands)
    show.add(commands)
    machine.add(commands)
    return parser

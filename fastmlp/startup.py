"""Errors of the command line while it is still importing: one line instead of a traceback.

Nothing in the package can catch what its own import raises; the hook of uncaught exceptions can. It
is set only where the process is the command line, `fastmlp` or `python -m fastmlp`.
"""

import sys
from pathlib import Path
from types import TracebackType

USER_ERROR = 2  # the exit code of argparse, too


def is_command_line() -> bool:
    """Tell whether this process was started as `fastmlp` or as `python -m fastmlp`."""
    program = sys.argv[0] if sys.argv else ""
    # While Python looks for the module that -m names, the name of the program is "-m".
    if program == "-m":
        return "fastmlp" in sys.orig_argv
    return Path(program).stem == "fastmlp"


def show_in_one_line(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Show Ctrl-C, and a wrong environment variable of ours, in one line; all else as usual."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nfastmlp: interrupted", file=sys.stderr)  # Python then ends as SIGINT would
    elif issubclass(kind, ValueError) and str(error).startswith("FASTMLP_"):
        print(f"fastmlp: error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR)
    else:
        sys.__excepthook__(kind, error, traceback)


if is_command_line():
    sys.excepthook = show_in_one_line

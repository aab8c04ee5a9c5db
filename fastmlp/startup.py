"""What the command line needs before its imports: errors in one line, an end with its reader.

Nothing in the package can catch what its own import raises; the hook of uncaught exceptions can. It
is set only where the process is the command line, `fastmlp` or `python -m fastmlp`; so is the
signal by which a shell's own tools end when nobody reads what they write. There, what the package
logs is shown, too: a library call prints nothing.
"""

import logging
import os
import signal
import sys
from contextlib import suppress
from types import TracebackType

from fastmlp_kernels.compiling.notices import progress

USER_ERROR = 2  # the exit code of argparse, too


def is_command_line() -> bool:
    """Tell whether this process was started as `fastmlp` or as `python -m fastmlp`."""
    program = sys.argv[0] if sys.argv else ""
    # While Python looks for the module that -m names, the name of the program is "-m".
    if program == "-m":
        return "fastmlp" in sys.orig_argv
    return os.path.splitext(os.path.basename(program))[0] == "fastmlp"


def tell(message: str) -> None:
    """Print a message to stderr, where there is one that takes it."""
    if sys.stderr is not None:  # print would take stdout instead
        with suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)


def end_with_the_reader() -> None:
    """End this process, as a shell's own tools do, when what it writes to has no reader left."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def write_nothing_more() -> None:
    """Give what stdout still holds to nobody: at Python's end it would fail again."""
    with suppress(OSError, AttributeError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def show_in_one_line(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Show Ctrl-C, and a wrong environment variable of ours, in one line; all else as usual."""
    if issubclass(kind, KeyboardInterrupt):
        tell("\nfastmlp: interrupted")  # Python then ends as SIGINT would
    elif issubclass(kind, ValueError) and str(error).startswith("FASTMLP_"):
        tell(f"fastmlp: error: {error}")
        raise SystemExit(USER_ERROR)
    else:
        sys.__excepthook__(kind, error, traceback)


class _Teller(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(f"fastmlp: {record.getMessage()}")


def show_the_log() -> None:
    """Show on stderr what is logged, and a bar while kernels are compiled."""
    logger = logging.getLogger("fastmlp")
    logger.setLevel(logging.INFO)
    logger.addHandler(_Teller())
    progress.shown = True


if is_command_line():
    show_the_log()
    sys.excepthook = show_in_one_line
    end_with_the_reader()

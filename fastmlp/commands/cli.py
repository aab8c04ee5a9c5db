"""The command line: `fastmlp train`, `check`, `info`, `compile`, `plan` and `bench`."""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import fastmlp

from ..arithmetic_mode import get_arithmetic
from ..plan.ways import STATES
from ..startup import USER_ERROR, tell, write_nothing_more
from ..thread_limits import default_limit
from .jobs import UserError, as_user_error

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
NO_READER = 141  # 128 + SIGPIPE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line on stderr, without the usage."""
        self.exit(USER_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own fails where the stream is closed, or hides that it is full.
        if file is sys.stdout is not None:
            file.write(message)
        else:
            tell(message.rstrip())


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


def _parser() -> _Parser:
    parser = _Parser(
        prog="fastmlp",
        description="Train small multilayer perceptrons on a CPU: compiled, "
        "with the same bits on every machine.",
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="train|check|info|compile|plan|bench"
    )
    _add_train(commands)
    check = commands.add_parser(
        "check",
        help="check every gradient against finite differences",
        description="Check the gradient of every operation, and of their chain, against finite "
        "differences in float64 (and PyTorch, where it is installed). Exits 1 on failure.",
    )
    check.set_defaults(run=_check)
    info = commands.add_parser(
        "info",
        help="show CPU, threads, cache folder, versions and arithmetic",
        description="Show what fastmlp computes with: CPU, vector width, threads, threading "
        "layer, the folder of compiled kernels, versions and arithmetic.",
    )
    info.set_defaults(run=_info)
    info.add_argument(
        "--clear-cache", action="store_true", help="first empty the folder of compiled kernels"
    )
    compiling = commands.add_parser(
        "compile",
        help="compile all kernels beforehand, for images and clusters",
        description="Compile all kernels for this CPU, or for narrower vectors, and keep them in "
        "the folder that `fastmlp info` shows. Set NUMBA_CACHE_DIR for another folder, and "
        "NUMBA_CPU_NAME and NUMBA_CPU_FEATURES for another CPU.",
    )
    compiling.set_defaults(run=_compile)
    compiling.add_argument(
        "--dtype", nargs="+", choices=["float32", "float64"], default=[], help="default both"
    )
    compiling.add_argument(
        "--vector-bits",
        nargs="+",
        type=int,
        choices=[512, 256, 128, 0],
        default=[],
        help="default the widest of this CPU; 0: without its fused multiply-add",
    )
    _add_plan(commands)
    _add_bench(commands)
    return parser


def _add_plan(commands: "argparse._SubParsersAction[_Parser]") -> None:
    plan = commands.add_parser(
        "plan",
        help="show how a training is planned: its stages, tasks, operations and memory",
        description="Show how an epoch is planned on this CPU, as a table: stage by stage, the "
        "tasks that threads share, their operations, and the memory.",
    )
    plan.set_defaults(run=_plan)
    plan.add_argument("sizes", type=_sizes, metavar="SIZES", help="such as 784-100-10")
    plan.add_argument("--batch-size", type=_count, metavar="N", help="default 128")
    plan.add_argument("--samples", type=_count, metavar="N", help="default 60000")
    plan.add_argument("--optimizer", choices=list(STATES), help="default adam")
    plan.add_argument("--dtype", choices=["float32", "float64"], help="default float32")
    plan.add_argument(
        "--zeros", action="store_true", help="inputs that are mostly zeros, as in images"
    )


def _plan(options: argparse.Namespace) -> int:
    from .show_plan import show_plan

    names = ("samples", "batch_size", "optimizer", "dtype", "zeros")
    given = {name: value for name in names if (value := getattr(options, name))}
    show_plan(options.sizes, **given)
    return 0


def _add_train(commands: "argparse._SubParsersAction[_Parser]") -> None:
    train = commands.add_parser(
        "train",
        help="train a network on MNIST",
        description="Train a network on MNIST and print its loss and accuracy for the test images, "
        "and the SHA-256 of its weights, which is the same on every machine.",
    )
    train.set_defaults(run=_train)
    train.add_argument(
        "--notebook",
        action="store_true",
        help="run the notebook's own job: 784-100-10 in float64, weights normal(0, 1), all images "
        "in every step (50 epochs, learning rate 1e-5 on the summed loss)",
    )
    train.add_argument("--epochs", type=_count, metavar="N", help="default 5; 50 with --notebook")
    train.add_argument(
        "--batch-size", type=_count, metavar="N", help="images in a step, default 64"
    )
    train.add_argument(
        "--learning-rate",
        type=_positive,
        metavar="RATE",
        help="at the start, falling to 0 in equal steps; default 0.1 on the mean loss of a batch, "
        "with momentum 0.9. With --notebook: 1e-5 throughout",
    )
    train.add_argument(
        "--hidden",
        type=_count,
        nargs="*",
        metavar="N",
        help="outputs of each hidden layer, default 128; none for a linear model",
    )
    train.add_argument(
        "--seed",
        type=_seed,
        metavar="N",
        help="of the initial weights and of the shuffles, default 0; 80 with --notebook, a seed "
        "whose curve is near the notebook's",
    )
    train.add_argument(
        "--threads",
        type=_count,
        metavar="N",
        help="default: all cores",
    )
    train.add_argument(
        "--data",
        type=Path,
        metavar="ROOT",
        help="folder of the four MNIST files; default: those in the package",
    )


def _add_bench(commands: "argparse._SubParsersAction[_Parser]") -> None:
    bench = commands.add_parser(
        "bench",
        help="measure fastmlp beside other libraries and the machine's limits",
        description="Measure fastmlp beside the libraries that are installed (pip install "
        "'fastmlp[bench]' for all of them) and beside the machine's own limits. Prints the table, "
        "and writes it as CSV and JSON, with pictures where matplotlib is installed. Takes about "
        "two minutes; the kernels' first compilation comes on top.",
    )
    bench.set_defaults(run=_bench)
    bench.add_argument(
        "--full", action="store_true", help="all rows and curves: a quarter of an hour"
    )
    bench.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains this")
    bench.add_argument(
        "--threads", type=_count, metavar="N", help="of every library, default all cores"
    )
    bench.add_argument(
        "--output", default="fastmlp-bench", metavar="FOLDER", help="default fastmlp-bench"
    )
    checkout = bench.add_mutually_exclusive_group()
    checkout.add_argument(
        "--update-readme",
        action="store_true",
        help="in a checkout: write bench/results, docs/pictures and the README's part instead",
    )
    checkout.add_argument(
        "--check",
        action="store_true",
        help="in a checkout: exit 1 where the ratios to NumPy and to the machine's limit are below "
        "0.85 of the committed ones",
    )


def _bench(options: argparse.Namespace) -> int:
    from fastmlp_bench.run import launch

    names = ("full", "only", "threads", "output", "update_readme", "check")
    return launch({name: getattr(options, name) for name in names})


def _train(options: argparse.Namespace) -> int:
    from . import jobs

    with jobs.as_user_error(ValueError):
        fastmlp.set_num_threads(options.threads or fastmlp.get_num_threads())
    given = {
        name: value
        for name in ("epochs", "learning_rate", "seed", "batch_size", "hidden")
        if (value := getattr(options, name)) is not None
    }
    if not options.notebook:
        jobs.train(options.data, **given)
        return 0
    for name in ("batch_size", "hidden"):
        if name in given:
            raise UserError(
                f"--{name.replace('_', '-')}: expected without --notebook, whose job is fixed; "
                "leave one of them out"
            )
    jobs.train_notebook(options.data, **given)
    return 0


def _check(options: argparse.Namespace) -> int:
    from . import jobs

    return 0 if jobs.check() else 1


def _compile(options: argparse.Namespace) -> int:
    from .compile_kernels import compile_kernels

    return compile_kernels(options.dtype, options.vector_bits)


def _info(options: argparse.Namespace) -> int:
    import llvmlite
    import numba
    import numpy
    from fastmlp_kernels.cache import cache_folder, clear_folder, folder_size
    from fastmlp_kernels.cpu import cpu_name, vector_bits
    from numba.np.ufunc.parallel import threading_layer

    bits, limit = vector_bits(), default_limit()
    if options.clear_cache:
        clear_folder()
    numba.get_num_threads()  # starts the threads, without which there is no threading layer
    rows = {
        "CPU": f"{cpu_name()}, {os.cpu_count()} cores",
        "vectors": f"{bits} bits, fused multiply-add" if bits else "no fused multiply-add",
        "threads": f"{limit.threads}, by {limit.name}",
        "threading layer": threading_layer(),
        "arithmetic": get_arithmetic(),
        "compiled kernels": f"{cache_folder()}, {folder_size() / 1e6:.1f} MB",
        "fastmlp": f"{fastmlp.__version__}, {Path(fastmlp.__file__).parent}",
        "Python": f"{platform.python_version()}, {platform.platform()}",
        "NumPy": numpy.__version__,
        "Numba": f"{numba.__version__}, llvmlite {llvmlite.__version__}",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    return 0


def _count(text: str) -> int:
    return _integer(text, 1)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(_count(part) for part in text.split("-"))
    if len(sizes) < 2:
        raise argparse.ArgumentTypeError(f"expected two sizes or more, got {text!r}")
    return sizes


def _seed(text: str) -> int:
    return _integer(text, 0)


def _integer(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected an integer of {least} or more, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value

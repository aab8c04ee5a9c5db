"""Commands about the machine, and for developers: check, info, compile, plan and bench."""

import argparse
import os
import platform
from pathlib import Path

import fastmlp

from ..arithmetic_mode import get_arithmetic
from ..plan.ways import STATES
from ..thread_limits import default_limit
from .options import Commands, count, print_rows, sizes


def add(commands: Commands) -> None:
    """Add the commands to the parser's."""
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


def _add_plan(commands: Commands) -> None:
    plan = commands.add_parser(
        "plan",
        help="show how a training is planned: its stages, tasks, operations and memory",
        description="Show how an epoch is planned on this CPU, as a table: stage by stage, the "
        "tasks that threads share, their operations, and the memory.",
    )
    plan.set_defaults(run=_plan)
    plan.add_argument("sizes", type=sizes, metavar="SIZES", help="such as 784-100-10")
    plan.add_argument("--batch-size", type=count, metavar="N", help="default 128")
    plan.add_argument("--samples", type=count, metavar="N", help="default 60000")
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


def _add_bench(commands: Commands) -> None:
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
        "--threads", type=count, metavar="N", help="of every library, default all cores"
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
    from fastmlp_kernels.compiling.cpu import cpu_name, vector_bits
    from fastmlp_kernels.compiling.folder import cache_folder, clear_folder, folder_size
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
    print_rows(rows.items())
    return 0

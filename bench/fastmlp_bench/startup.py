"""Start-up: from the start of a process to the end of its first training step.

`python -m fastmlp_bench.startup MODULE` is one such process; it imports what the provider needs.
"""

import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any

NUMBA = "import numba"
CASE = ("start-up", "to the first training step", "float32")  # operation, shape, dtype
SIZES, BATCH = (784, 100, 10), 128


def first_step(module: str) -> None:
    """Make one training step with a provider, as a program's first."""
    import numpy as np

    train = importlib.import_module(f"fastmlp_bench.providers.{module}").train
    random = np.random.default_rng(0)
    x = random.random((BATCH, SIZES[0]), np.float32)
    y = random.integers(0, SIZES[-1], BATCH)
    parameters = [
        random.standard_normal((rows + 1, columns), np.float32) * np.float32(0.05)
        for rows, columns in pairwise(SIZES)
    ]
    made = train(x, y, parameters, BATCH, 0.01)
    call = next(iter(made.values())) if isinstance(made, dict) else made
    call()


def commands() -> dict[str, list[str]]:
    """Return the process of each provider that trains, and one that only imports Numba.

    The notebook's operations come from fastmlp here, which would count its import: NumPy lean
    stands for NumPy.
    """
    from .providers import PROVIDERS

    found = {
        name: [sys.executable, "-m", "fastmlp_bench.startup", provider.module]
        for name, provider in PROVIDERS.items()
        if provider.trains and not provider.missing() and name != "numpy notebook"
    }
    return found | {NUMBA: [sys.executable, "-c", "import numba"]}


def measure_startup(
    full: bool,
    rounds: int,
    threads: int,
    failed: dict[str, str],
    done: Callable[[], Any],
    names: Iterable[str],
) -> list[dict[str, Any]]:
    """Return a row for each provider of `names` that trains, and for `import numba` alone."""
    from .measure import statistics
    from .timing import interleaved, seconds_per_call

    started = {name: command for name, command in commands().items() if name in (*names, NUMBA)}
    calls: dict[str, Callable[[], None]] = {}
    first = {}
    for name, command in started.items():
        try:
            first[name] = seconds_per_call(partial(_run, command))
        except subprocess.CalledProcessError as error:
            failed[f"{name}, start-up"] = error.stderr.decode().strip().split("\n")[-1]
        else:
            calls[name] = partial(_run, command)
    seconds = interleaved(calls, rounds, done)
    if full and "fastmlp" in calls:
        with tempfile.TemporaryDirectory() as folder:
            cold = partial(_run, started["fastmlp"], NUMBA_CACHE_DIR=folder)
            first["fastmlp"] = seconds_per_call(cold)
    shared = {
        **dict(zip(("operation", "shape", "dtype"), CASE, strict=True)),
        **{"series": "", "value": 0, "form": "", "threads": threads},
        **dict.fromkeys(("flops", "bytes", "limit", "of_limit", "peak_flops", "bandwidth")),
    }
    return [
        shared
        | {"provider": name, "first_call": first[name]}
        | statistics(values, seconds.get("fastmlp"))
        for name, values in seconds.items()
    ]


def _run(command: list[str], **settings: str) -> None:
    # Installed packages have their bytecode; a checkout shall have it, too, after its first run.
    variables = {name: os.environ[name] for name in os.environ if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, env=variables | settings, check=True, capture_output=True)


if __name__ == "__main__":
    first_step(sys.argv[1])

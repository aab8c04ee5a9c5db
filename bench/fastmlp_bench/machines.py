"""One training by many ranks of MPI: measured on this machine, and a simulation of many machines.

    python -m fastmlp_bench.machines docs/pictures/machines.svg

It prints the tables of docs/several-machines.md and draws its picture, which is a simulation: the
page's cost model for machines that nobody has measured. Without a path it only measures; with
`--simulate` before the path it only draws.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastmlp

from .environment import cores
from .plots import SETTINGS, plain_numbers

SIZES = (784, 100, 10)
BATCHES = (2048, 16384)
SAMPLES = 49152
RANKS = (1, 2, 3, 4)
ROUNDS, EPOCHS = 5, 4
LEAF = 256
MACHINES = tuple(2**k for k in range(11))


class Cost(NamedTuple):
    """What the model goes by: FLOP/s and bytes/s of a machine, and seconds of a message."""

    flops: float
    bandwidth: float
    latency: float


# Between processes of one machine: some GB/s through memory, and what a word of two ranks took.
HERE = (4e9, 8e-6)
# The page's example: 500 GFLOP/s, Ethernet of 10 Gbit/s.
EXAMPLE = Cost(500e9, 10e9 / 8, 20e-6)


def weights(sizes: tuple[int, ...]) -> int:
    """Return the parameters of a network."""
    return sum((sizes[k] + 1) * sizes[k + 1] for k in range(len(sizes) - 1))


def step(cost: Cost, parameters: int, batch: int, machines: int) -> float:
    """Return the seconds of a step of float32, as docs/several-machines.md writes them."""
    leaves = math.ceil(math.ceil(batch / LEAF) / machines)  # of the one that has the most
    computing = 6 * parameters * LEAF * leaves / cost.flops
    exchange = 8 * parameters * (machines - 1) / (machines * cost.bandwidth)
    return computing + exchange + 3 * cost.latency * math.ceil(math.log2(machines))


def expected(alone: float, batch: int, ranks: int) -> float:
    """Return what the model says of an epoch by ranks of one thread, from that of one thread."""
    steps, parameters = SAMPLES // batch, weights(SIZES)
    flops = 6 * parameters * SAMPLES / alone * min(1, cores() / ranks)
    return steps * step(Cost(flops, *HERE), parameters, batch, ranks)


def draw(path: str) -> None:
    """Draw how much faster many machines are than one, by the model."""
    import matplotlib
    from matplotlib.figure import Figure

    parameters = weights(SIZES)
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axis = figure.subplots()
        for batch in (4096, 16384, 65536, 262144):
            machines = [count for count in MACHINES if count * LEAF <= batch]
            alone = step(EXAMPLE, parameters, batch, 1)
            times = [alone / step(EXAMPLE, parameters, batch, count) for count in machines]
            axis.plot(machines, times, "o-", label=f"batch {batch:,}")
        axis.plot(MACHINES, MACHINES, "k--", linewidth=1, label="as many times as machines")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        plain_numbers(axis)
        axis.set_xlabel("machines")
        axis.set_ylabel("times the speed of one")
        axis.set_title("A simulation of the cost model, not a measurement", color="C3")
        axis.grid(True, alpha=0.3)
        axis.legend()
        figure.suptitle(
            f"{'-'.join(map(str, SIZES))}, float32; 500 GFLOP/s a machine, 10 Gbit/s, 20 us",
            fontsize=9,
        )
        figure.savefig(path, metadata={"Date": None})


def samples(has_zeros: bool) -> tuple[Any, Any]:
    """Return MNIST's samples, or as many that have no zeros."""
    (x, y), _ = fastmlp.mnist_dataset()
    places = np.arange(SAMPLES) % len(x)
    x, y = x.reshape(len(x), -1).astype(np.float32)[places], y[places]
    return (x if has_zeros else x + np.float32(0.5)), y


def work(batch: int, has_zeros: bool, by_ranks: bool) -> None:
    """Print the seconds of the quickest epoch, of rank 0 by ranks."""
    comm = None
    if by_ranks:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
    x, y = samples(has_zeros)
    model = fastmlp.MLP(SIZES, rng=0)
    how: Any = {"batch_size": batch, "optimizer": "sgd", "rng": 1, "comm": comm}
    model.fit(x, y, epochs=1, **how)
    history = model.fit(x, y, epochs=EPOCHS, **how)
    if comm is None or comm.Get_rank() == 0:
        print(min(history.seconds))


def run(batch: int, has_zeros: bool, threads: int, ranks: int) -> float:
    """Return the seconds of an epoch: of `fit` with so many threads, or by ranks of one each."""
    arguments = json.dumps([batch, has_zeros, ranks > 0])
    command = [sys.executable, "-m", "fastmlp_bench.machines", "work", arguments]
    if ranks:
        mpiexec = Path(sys.executable).parent / "mpiexec"
        command = [str(mpiexec), "-n", str(ranks), *command]
    told = subprocess.run(
        command, env=os.environ | {"FASTMLP_NUM_THREADS": str(threads)}, check=True, text=True,
        stdout=subprocess.PIPE, timeout=300,
    )  # fmt: skip
    return float(told.stdout)


def measure() -> None:
    """Print the table of one machine, from interleaved rounds."""
    ways = {"1 thread": (1, 0), "2 threads": (2, 0)}
    ways |= {f"{ranks} rank{'s' * (ranks > 1)}": (1, ranks) for ranks in RANKS}
    print("| samples, batch | " + " | ".join(ways) + " | 2 ranks to 2 threads |")
    print("|" + "---|" * (len(ways) + 2))
    for has_zeros in (True, False):
        for batch in BATCHES:
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    seconds[name].append(run(batch, has_zeros, *way))
            pairs = zip(seconds["2 threads"], seconds["2 ranks"], strict=True)
            rates = sorted(threads / ranks for threads, ranks in pairs)
            each = " | ".join(f"{1e3 * min(one):.0f} ms" for one in seconds.values())
            print(
                f"| {'MNIST' if has_zeros else 'without zeros'}, {batch:,} | {each} | "
                f"{min(seconds['2 threads']) / min(seconds['2 ranks']):.2f}; "
                f"{statistics.median(rates):.2f} ({rates[0]:.2f} to {rates[-1]:.2f}) |"
            )
            alone = min(seconds["1 thread"])
            model = " | ".join(f"{1e3 * expected(alone, batch, ranks):.0f} ms" for ranks in RANKS)
            print(f"| the model | | | {model} | |", flush=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["work"]:
        work(*json.loads(arguments[1]))
    else:
        if arguments[:1] != ["--simulate"]:
            measure()
        if arguments and not arguments[-1].startswith("-"):
            draw(arguments[-1])

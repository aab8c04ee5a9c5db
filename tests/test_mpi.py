"""fit(comm=): the ranks of mpiexec have the bits of one process, and end together."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import mpi_worker
import numpy as np
import pytest
from helpers import floats

from fastmlp.mpi import tree

RANKS = [1, 2, 3, 5, 8]
SECONDS = 240  # a rank that hangs fails; ranks may have kernels to compile, on a busy machine


def mpiexec(ranks, *arguments):
    """What so many ranks of Python print."""
    command = [Path(sys.executable).parent / "mpiexec", "-n", str(ranks), sys.executable]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=SECONDS + 20, check=False,
        env=os.environ | {"FASTMLP_NUM_THREADS": "1", "MPIEXEC_TIMEOUT": str(SECONDS)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def ran(ranks):
    """What the ranks' run of mpi_worker.py tells."""
    alone()  # compiles most kernels, for which ranks have no time
    return json.loads(mpiexec(ranks, mpi_worker.__file__))


@cache
def alone():
    return mpi_worker.trainings()


# What fit raises: where the last rank alone fails, on all for a difference, and anyway.
OF_ONE = {
    "callback": ("ValueError", "boom"),
    "step": ("MemoryError", "no room"),
    "x of one": ("ValueError", "x: expected (samples, ...) with 12 numbers"),
    "numbers of one": ("ValueError", "x[0, 0]: expected finite numbers, got nan"),
}
ON_ALL = {
    "learning_rate": "learning_rate: expected the same on all ranks, got 0.25 on rank 0 and 0.5 on",
    "samples": "samples: expected the same on all ranks, got 5137 on rank 0 and 5136 on rank",
    "y": "y: expected the same on all ranks",
    "rng": "rng: expected the same on all ranks",
    "weights": "weights: expected the same on all ranks",
    "sizes": "sizes: expected the same on all ranks, got (12, 5) on rank 0 and (12, 6) on rank",
    "shuffle": "shuffle: expected the same on all ranks, got False on rank 0 and True on rank",
    "validation": "validation_loss after epoch 1: expected the same on all ranks",
    "changed": "weights after epoch 2: expected the same on all ranks",
    "small": "batch_size: expected {least} or more, 256 samples for each of {ranks} ranks, got",
    "few": "batch_size: expected {least} or more, 256 samples for each of {ranks} ranks, got 200",
    "twice": "rows: expected each of 0 .. {most} once, for the",
    "rows of some": "rows: expected it on all ranks or on none, got none on rank",
}
ALWAYS = {
    "floats": ("TypeError", "rows: expected integers, got float64"),
    "diverged": ("FloatingPointError", "fit: expected finite losses and weights, got a loss of"),
    "comm": ("TypeError", "comm: expected a communicator of mpi4py, got str"),
    "rows alone": ("ValueError", "rows: expected None without comm"),
    "numpy": ("ValueError", "arithmetic: expected 'portable' with comm"),
}
LATER = ("callback", "validation", "changed")  # when a first epoch has changed the model


@pytest.mark.parametrize("ranks", RANKS)
def test_ranks_have_the_bits_of_one_process(ranks):
    found = ran(ranks)["trainings"]
    assert found == {name: alone()[name] for name in found}
    assert len(found) == (len(alone()) if ranks <= 3 else 10)


@pytest.mark.parametrize("ranks", RANKS[1:])
def test_an_error_ends_all_ranks(ranks):
    told = ran(ranks)["errors"]
    last = told[-1]
    for name, (kind, text) in OF_ONE.items():
        assert last[name][:2] == [kind, last[name][1]]
        assert last[name][1].startswith(text)
        for rank in told[:-1]:
            message = f"fit: rank {ranks - 1} of {ranks} raised {kind}: {last[name][1]}"
            assert rank[name][:2] == ["RuntimeError", message]
    words = {"least": 256 * ranks, "ranks": ranks, "most": ranks * mpi_worker.SAMPLES - 1}
    expected = {name: ("ValueError", text.format(**words)) for name, text in ON_ALL.items()}
    for name, (kind, text) in (expected | ALWAYS).items():
        assert all(rank[name] == told[0][name] for rank in told), name
        assert told[0][name][0] == kind, name
        assert told[0][name][1].startswith(text)
    for rank in told:
        assert {name for name, (*_, changed) in rank.items() if changed} == {*LATER}


def test_one_rank_has_nothing_to_share():
    (told,) = ran(1)["errors"]
    assert told["small"][0] == "nothing"  # whatever the batch
    assert told["callback"][:2] == ["ValueError", "boom"]


@pytest.mark.parametrize("ranks", RANKS)
def test_ranks_without_a_seed_shuffle_alike(ranks):
    assert ran(ranks)["orders"] == 1


@pytest.mark.parametrize("ranks", RANKS)
def test_an_interrupt_of_one_rank_ends_all(ranks):
    within, in_callback = ran(ranks)["epochs"]  # what the models are, the worker has compared
    assert within >= 2
    assert in_callback == 2


# Rank 1 leaves an exchange in its middle, for which nothing else can be done.
BROKEN = """
from mpi4py import MPI
import numpy as np, fastmlp
from fastmlp.mpi import ranks
if MPI.COMM_WORLD.rank == 1:
    ranks.Ranks._sum_by_halves = lambda *_: 1 / 0
fastmlp.MLP([3, 2], rng=0).fit(
    np.ones((512, 3), np.float32), np.zeros(512, int), batch_size=512, rng=0, comm=MPI.COMM_WORLD
)
"""


def test_a_broken_exchange_aborts_all_ranks():
    with pytest.raises(AssertionError, match="ZeroDivisionError") as raised:
        mpiexec(2, "-c", BROKEN)
    assert "MPI_Abort" in str(raised.value)  # not the limit in time


def test_the_pages_example_runs(tmp_path):
    page = (Path(__file__).parents[1] / "docs/several-machines.md").read_text()
    (example,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    (tmp_path / "train.py").write_text(example)
    mpiexec(2, "-m", "mpi4py", tmp_path / "train.py")


def test_the_subtrees_of_ranks_make_the_tree():
    values = floats(0, (70,), np.float32)  # whose sum depends on the order
    for ranks in range(1, 10):
        for leaves in range(1, 70):
            shares = tree.subtrees(leaves, ranks)
            runs = [run for of_rank in shares for run in of_rank]
            assert [leaf for run in runs for leaf in run] == [*range(leaves)]
            assert max(sum(map(len, one)) for one in shares) - leaves // ranks <= 1
            sums = {run: total(values[run.start : run.stop]) for run in runs}
            assert tree.add(range(leaves), sums) == total(values[:leaves])
            if tree.is_even(leaves, ranks):
                assert {len(one) for one in shares} == {1}


def total(values):
    """The sum by the tree of docs/arithmetic.md."""
    if len(values) == 1:
        return values[0]
    half = 1
    while 2 * half < len(values):
        half *= 2
    return total(values[:half]) + total(values[half:])

"""Threads: how many, and what holds in Python threads and forked children."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import assert_same_bits, floats, with_threads

import fastmlp
from fastmlp.reference.matmul import matmul

ROOT = Path(__file__).parents[1]

IN_A_FORKED_CHILD = """
import os, numpy as np, fastmlp
x, W = np.ones((64, 300), np.float32), np.ones((300, 64), np.float32)
fastmlp.threads.SMALLEST_PARALLEL_WORK = 0
fastmlp.Matmul().forward(x, W)
child = os.fork()
if child == 0:
    right = (fastmlp.Matmul().forward(x, W) == 300).all() and fastmlp.get_num_threads() == 1
    os._exit(0 if right else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

IN_MANY_PYTHON_THREADS = """
import numpy as np, fastmlp
from concurrent.futures import ThreadPoolExecutor
x, W = np.ones((64, 300), np.float32), np.ones((300, 64), np.float32)
fastmlp.threads.SMALLEST_PARALLEL_WORK = 0
call = lambda _: (fastmlp.Matmul().forward(x, W) == 300).all()
right = call(0)
with ThreadPoolExecutor(6) as pool:
    print(right and all(pool.map(call, range(300))))
"""


def _run(script, **environment):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    run = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
    )
    return run.returncode, run.stdout.strip(), run.stderr


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_many_python_threads_at_once(layer):
    code, printed, errors = _run(IN_MANY_PYTHON_THREADS, NUMBA_THREADING_LAYER=layer)
    assert (code, printed) == (0, "True"), errors


def test_a_forked_child_stays_serial_and_right():
    code, printed, errors = _run(IN_A_FORKED_CHILD)
    assert (code, printed) == (0, "0"), errors


def test_calls_at_once_have_the_bits_they_have_alone():
    x, W = floats(1, (8, 70, 300), "f4"), floats(2, (300, 50), "f4")
    with with_threads(2), ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda one: fastmlp.Matmul().forward(one, W), x))
    for one, y in zip(x, results, strict=True):
        assert_same_bits(y, matmul(one, W))


@pytest.mark.parametrize(
    ("count", "kind", "message"),
    [
        (0, ValueError, "num_threads: expected 1 to"),
        (10_000, ValueError, "num_threads: expected 1 to .* NUMBA_NUM_THREADS"),
        (1.5, TypeError, "num_threads: expected an integer, got float"),
        (True, TypeError, "num_threads: expected an integer, got bool"),
    ],
)
def test_errors_say_expected_got_and_mend(count, kind, message):
    before = fastmlp.get_num_threads()
    with pytest.raises(kind, match=message):
        fastmlp.set_num_threads(count)
    assert fastmlp.get_num_threads() == before

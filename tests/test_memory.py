"""Memory: nothing is read or written outside of arrays, and no call keeps any."""

import ctypes
import importlib
import mmap
import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from helpers import DTYPES, floats, with_threads
from numpy.lib.stride_tricks import as_strided

import fastmlp

HERE = Path(__file__).parent
MANY = 10_000  # calls, of several operations each
LARGE = 200_000  # samples of an epoch
# Around vectors, tiles, packed tails, blocks of rows and leaves; with B packed and in place.
SHAPES = [
    (1, 17, 1), (1, 257, 101), (1, 3, 9), (7, 1, 17), (7, 17, 52), (7, 257, 65), (2, 3, 2),
    (13, 300, 33), (200, 17, 3), (200, 257, 9), (193, 20, 101), (48, 30, 100), (65, 256, 16),
    (40, 2000, 9), (3, 4700, 5),
]  # fmt: skip


def run_all(place, M, K, N, dtype):
    """Every operation, with each array of its arguments where `place` puts it."""
    seeds = iter(range(100))

    def array(*shape):
        return place(floats(next(seeds), shape, dtype))

    x, W, b, grad_y, y = array(M, K), array(K, N), array(N), array(M, N), array(M, N)
    for operation in (fastmlp.Matmul(), fastmlp.MatmulRelu()):
        operation.forward(x, W, out=y)
        operation.backward(grad_y)
        operation.forward(array(K, M).T, array(N, K).T, out=y)
        operation.backward(array(N, M).T)
    operation.forward(x, W, b, out=y)
    operation.backward(grad_y)
    for name in ("Relu", "Log", "Softmax", "LogSoftmax", "Tanh", "Gelu"):
        operation = getattr(fastmlp, name)()
        operation.forward(y)
        operation.backward(grad_y)
    fastmlp.compute_loss(y, grad_y)
    fastmlp.compute_accuracy(y, grad_y)
    lists = [[array(K, N), array(N)] for _ in range(4)]
    fastmlp.sgd(*lists[:2], 0.1)
    fastmlp.momentum(*lists[:3], 0.1, 0.9)
    fastmlp.nesterov(*lists[:3], 0.1, 0.9)
    fastmlp.adam(*lists, 1, 0.1)
    fastmlp.adamw(*lists, 2, 0.1)
    model = fastmlp.MLP([K, N, 3], dtype=dtype, rng=0)
    for buffer in ("flat_parameters", "flat_gradients"):
        vars(model)[buffer] = place(vars(model)[buffer])
    model._name_views()
    model.forward(x)
    model.backward(place(np.ones((M, 3), dtype)))
    model.predict(x)
    for method in (model.predict_proba, model.predict_log_proba, model.decision_function):
        method(x)
        method(x, out=place(np.zeros((M, 3), dtype)), check_finite=False)
    for outputs in (1, 5):
        binary = fastmlp.MLP([K, outputs], rng=0, dtype=dtype, loss="binary_cross_entropy")
        for method in (binary.predict, binary.predict_proba, binary.predict_log_proba):
            method(x)
    fastmlp.train_one_step(model, x, array(M, 3))
    classes = place(np.arange(M) % 3)
    for optimizer in ("sgd", "momentum", "adam"):
        model.fit(x, classes, epochs=1, batch_size=60, optimizer=optimizer, rng=1)
    how = {"optimizer": "adamw", "max_norm": 0.1, "weight_decay": 0.1, "decay_bias": False}
    model.fit(x, classes, epochs=1, batch_size=60, rng=1, **how)


class Fenced:
    """Puts copies of arrays against pages that may be neither read nor written."""

    def __init__(self, at_the_end):
        self.at_the_end = at_the_end
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        self.protect = lambda start: protect(ctypes.c_void_p(start), mmap.PAGESIZE, 0)

    def __call__(self, array):
        page = mmap.PAGESIZE
        inside = -(-max(array.nbytes, 1) // page) * page
        memory = mmap.mmap(-1, inside + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for fence in (start, start + page + inside):
            assert self.protect(fence) == 0, os.strerror(ctypes.get_errno())
        first = page + (inside - array.nbytes if self.at_the_end else 0)
        copy = np.frombuffer(memory, array.dtype, array.size, first).reshape(array.shape)
        copy[...] = array
        return copy


def run_fenced():
    empty = np.empty
    for num_threads, dtype, at_the_end in product((1, 2), DTYPES, (False, True)):
        place = Fenced(at_the_end)
        with with_threads(num_threads):
            for shape in SHAPES:
                run_all(np.copy, *shape, dtype)  # compiles, before results are fenced, too
                np.empty = lambda shape, dtype=float, place=place: place(np.zeros(shape, dtype))
                run_all(place, *shape, dtype)
                np.empty = empty
        if num_threads == 1:
            for shape in SHAPES:
                run_all(np.copy, *shape, dtype)
                run_all(place, *shape, dtype)  # straight to the kernels, which make the results
    print("all inside")


def run_behind_the_end():
    x = as_strided(Fenced(True)(np.ones(5, np.float32)), (1, 6), (24, 4))
    fastmlp.Matmul().forward(x, np.ones((6, 2), np.float32))


def run_many_times():
    """Print by how many bytes a call of each operation lets the process grow."""
    x, W, b, grad_y = (floats(1, shape, "f4") for shape in ((2, 20), (20, 9), (9,), (2, 9)))
    model, label = fastmlp.MLP([20, 9, 3], rng=0), np.ones((2, 3), np.float32)
    lists = [[W.copy()] for _ in range(4)]
    operations = [fastmlp.Relu(), fastmlp.Log(), fastmlp.Softmax(), fastmlp.LogSoftmax()]
    operations += [fastmlp.Tanh(), fastmlp.Gelu(), fastmlp.Identity()]
    affine = fastmlp.MatmulRelu()

    def elementwise():
        for operation in operations:
            operation.forward(x)
            operation.backward(x)

    def products():
        affine.forward(x, W, b)
        affine.backward(grad_y)

    def updates():
        fastmlp.sgd(*lists[:2], 0.1)
        fastmlp.momentum(*lists[:3], 0.1, 0.9)
        fastmlp.adam(*lists, 1, 0.1)

    def refusals():
        with suppress(ValueError):
            affine.forward(x, grad_y)

    def models():
        fastmlp.train_one_step(model, x, label)
        model.predict(x)
        fastmlp.compute_accuracy(model.log_prob, np.array([0, 2]))

    def fits():
        model.fit(x, np.array([0, 2]), epochs=1, rng=1)

    for calls in (elementwise, products, updates, refusals, models, fits):
        for _ in range(1000):
            calls()
        before = peak_bytes()
        for _ in range(MANY):
            calls()
        print(calls.__name__, round((peak_bytes() - before) / MANY, 1))


def peak_bytes():
    """The most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, ru_maxrss starts with what the parent had
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run_epoch():
    """Print by how many bytes an epoch over 100 MB of samples lets the process grow."""
    importlib.import_module("numba")  # a long fit imports it for threads, which takes 17 MB

    x = np.ones((LARGE, 128), np.float32)
    labels = np.arange(LARGE) % 10
    model = fastmlp.MLP([128, 32, 10], rng=0)
    model.fit(x[:200], labels[:200], epochs=1, rng=0)
    before = peak_bytes()
    model.fit(x, labels, epochs=2, rng=0)
    model.fit(x, labels, epochs=1, batch_size=LARGE, rng=0)
    print(peak_bytes() - before)


def run_without_room():
    """Print by how many bytes a product without room for its second result lets NumPy's grow."""
    fastmlp.set_num_threads(1)
    matmul = fastmlp.Matmul()
    x, W, grad_y = (np.ones(shape, "f4") for shape in ((512, 4096), (4096, 1500), (512, 1500)))
    matmul.mem = {"x": x, "W": W}
    results = [matmul.backward(grad_y), matmul.backward(grad_y)]
    tracemalloc.start()
    grown = []
    for _ in range(2):  # NumPy counts what it did not get at the address 0: once
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2 * x.nbytes, resource.RLIM_INFINITY))
        with suppress(MemoryError):
            while True:  # what was free before is there, too
                before = tracemalloc.get_traced_memory()[0]
                results.append(matmul.backward(grad_y))
        grown.append(tracemalloc.get_traced_memory()[0] - before)
    print(grown[1])


def _run(function):
    """The run of one of the functions above in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", f"import test_memory; test_memory.{function.__name__}()"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
    )


def test_nothing_is_read_or_written_outside_of_arrays():
    run = _run(run_fenced)
    assert (run.returncode, run.stdout) == (0, "all inside\n"), run.stderr


def test_the_test_above_can_fail():
    assert _run(run_behind_the_end).returncode == -signal.SIGSEGV


def test_no_call_keeps_memory():
    run = _run(run_many_times)
    grown = dict(line.split() for line in run.stdout.splitlines())
    assert len(grown) == 6, run.stderr
    # The smallest array takes 100 bytes and more.
    assert {name: size for name, size in grown.items() if float(size) > 50} == {}


def test_an_epoch_takes_memory_for_a_batch_not_for_the_samples():
    run = _run(run_epoch)
    assert run.returncode == 0, run.stderr
    # Draws, order, labels and losses take 44 bytes a sample while they are made; x takes 512.
    assert 0 < int(run.stdout) < 80 * LARGE


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_no_room_for_a_result_leaves_none_of_the_others():
    run = _run(run_without_room)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 100_000  # the first takes 8 MB

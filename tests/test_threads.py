"""Threads: how many, and what holds in Python threads and forked children."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers import all_checked, assert_same_bits, floats, with_threads

import fastmlp
from fastmlp import operations, reference, threads
from fastmlp.model import mlp
from fastmlp.reference.matmul import matmul

# A process of its own, which a mistake would end; it prints the parts that went wrong.
START = """
import multiprocessing, os, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import numba, numpy as np, fastmlp
from test_threads import product

def in_a_child(*settings):
    child = os.fork()
    if child == 0:
        for setting in settings:
            fastmlp.set_num_threads(setting)
        os._exit(0 if product() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
FORKED_FIRST = """
print([in_a_child(), in_a_child(2), product(), in_a_child(), in_a_child(2)].count(False))
"""
ALL_ELSE = """
@numba.njit(parallel=True, nogil=True)
def users_own(count):
    total = 0
    for i in numba.prange(count):
        total += i % 3
    return total

def users_own_is_right(*_):
    return users_own(999) == 999

def at_once(many, in_threads, here):
    with ThreadPoolExecutor(many) as pool:
        others = [pool.submit(in_threads) for _ in range(500)]
        right = all(here() for _ in range(500))
        return right and all(other.result() for other in others)

def in_processes(method):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        return all(pool.map(product, range(20))) and product()

with ThreadPoolExecutor(6) as pool:
    right = {"first calls of many threads": all(pool.map(product, range(60)))}
right["the main thread among others"] = at_once(3, product, product)
users_own(9)
right["beside a user's parallel function"] = at_once(1, users_own_is_right, product)
right["the other way round"] = at_once(1, product, users_own_is_right)
right["in forked children"] = in_a_child() and in_a_child(2)
with ThreadPoolExecutor(3) as pool:
    right["in children of threads"] = all(pool.map(lambda _: in_a_child(), range(6)))
right["in a pool of forked processes"] = in_processes("fork")
right["in a pool of spawned processes"] = in_processes("spawn")
print([name for name, is_right in right.items() if not is_right])
# Python ends the process while a call is under way.
threading.Thread(target=lambda: [product() for _ in range(10**6)], daemon=True).start()
"""


def product(*_):
    """Whether a product and an epoch of training, both shared among threads, are right."""
    x, W = np.ones((64, 300), np.float32), np.ones((300, 64), np.float32)
    threads.SMALLEST_PARALLEL_WORK = 0
    right = (fastmlp.Matmul().forward(x, W) == 300).all()
    return bool(right) and loss(fastmlp, x) == loss_of_the_reference()


def loss(module, x):
    return module.MLP([300, 8, 2], rng=0).fit(x, np.arange(64) % 2, epochs=1, rng=0).loss


@cache
def loss_of_the_reference():
    return loss(reference, np.ones((64, 300), np.float32))


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
@pytest.mark.parametrize(
    ("script", "printed"), [(FORKED_FIRST, "0"), (ALL_ELSE, "[]")], ids=["fork first", "all else"]
)
def test_right_and_never_an_abort(script, printed, layer):
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", START + script],
        env=os.environ | {"PYTHONPATH": paths, "NUMBA_THREADING_LAYER": layer},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout.strip()) == (0, printed), run.stderr


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


def reshaping(monkeypatch, module, arrays, last="threads_for"):
    """Give the arrays other shapes where an operation has called the last of its checks."""
    original = getattr(module, last)

    def checked(*arguments):
        result = original(*arguments)
        for array in arrays:
            array.shape = (1, array.size, 1, 1)
        return result

    monkeypatch.setattr(module, last, checked)


@pytest.mark.filterwarnings("ignore:Setting the shape")
def test_shapes_that_change_after_the_checks(monkeypatch):
    """Kernels trust shapes: they get views that nobody else has."""
    x, W, b, g = (floats(1, shape, np.float32) for shape in ((6, 4), (4, 3), (3,), (6, 3)))
    model = fastmlp.MLP([4, 3, 2], rng=0)
    classes = model.predict(x)
    for module, kind, forward, grad_y in [
        (operations.relu, fastmlp.Relu, (x,), x),
        (operations.log, fastmlp.Log, (x,), x),
        (operations.softmax, fastmlp.Softmax, (x,), x),
        (operations.log_softmax, fastmlp.LogSoftmax, (x,), x),
        (operations.activations, fastmlp.Tanh, (x,), x),
        (operations.matmul, fastmlp.Matmul, (x, W), g),
        (operations.matmul_relu, fastmlp.MatmulRelu, (x, W, b), g),
    ]:
        quiet, shaken = kind(), kind()
        last = "product_shapes"
        if not hasattr(module, last):
            module, last = operations.rowwise, "threads_for"
        y, grads = quiet.forward(*forward), quiet.backward(grad_y)
        given = [array.copy() for array in forward]
        with all_checked(), monkeypatch.context() as patch:
            reshaping(patch, module, given, last)
            assert_same_bits(shaken.forward(*given).ravel(), y.ravel())
        shaken.forward(*forward)
        again = grad_y.copy()
        with all_checked(), monkeypatch.context() as patch:
            reshaping(patch, module, [again], last)
            found = shaken.backward(again)
        pairs = zip(found, grads, strict=True) if isinstance(grads, tuple) else [(found, grads)]
        for one, other in pairs:
            assert_same_bits(one.ravel(), other.ravel())
    rows = x.copy()
    with monkeypatch.context() as patch:
        reshaping(patch, mlp, [rows])
        assert_same_bits(model.predict(rows), classes)
    model.flat_parameters.shape = (1, -1)
    given = []
    train = mlp.epochs.train

    def watched(x, order, y, steps, weights, *more):
        given.append(weights.parameters.ndim)
        return train(x, order, y, steps, weights, *more)

    monkeypatch.setattr(mlp.epochs, "train", watched)
    model.fit(x, np.arange(6) % 2, epochs=1)
    assert given == [1]

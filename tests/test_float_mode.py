"""A library that changed the CPU's mode of arithmetic, in any thread, changes none of our bits.

Such as one linked with -ffast-math, or torch.set_flush_denormal: subnormal numbers become zeros.
"""

import json
import platform
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numba
import numpy as np
import pytest
from digests import OPERATIONS, digests, update
from fastmlp_kernels.arithmetic.float_mode import CHANGES_BITS, get_mode, set_mode
from helpers import DTYPES, assert_same_bits, floats, specials, with_threads

import fastmlp
from fastmlp import reference

COMMITTED = json.loads((Path(__file__).parent / "digests.json").read_text())
ARM64 = platform.machine().lower() in ("aarch64", "arm64")
FLUSHING = 1 << 24 if ARM64 else 0x8040
UPWARD = 1 << 22 if ARM64 else 0x4000

TINY = {np.float32: 1e-38, np.float64: 1e-307}


@numba.njit(parallel=True)
def modes_of_threads(modes, change, bits):
    for thread in numba.prange(modes.size):
        if change:
            set_mode(get_mode() & ~CHANGES_BITS | bits)
        modes[thread] = get_mode()


def modes_of_all_threads(change=False, bits=0):
    """The modes of this thread and of Numba's others, after these bits were set if `change`."""
    modes = np.zeros(numba.config.NUMBA_NUM_THREADS, np.int64)
    numba.set_num_threads(len(modes))
    modes_of_threads(modes, change, bits)
    return modes


@contextmanager
def mode_of_all_threads(bits):
    try:
        assert np.all(modes_of_all_threads(True, bits) & CHANGES_BITS == bits)
        yield
        assert np.all(modes_of_all_threads() & CHANGES_BITS == bits), "the mode was not restored"
    finally:
        modes_of_all_threads(True, 0)


def run(operation, inputs, grad_y):
    """Forward and backward of one operation: a tuple of arrays."""
    y, gradients = operation.forward(*inputs), operation.backward(grad_y)
    return (y, *gradients) if isinstance(gradients, tuple) else (y, gradients)


def products(package, dtype):
    scale = dtype(TINY[dtype])
    x, W, b = (
        floats(1, (70, 33), dtype) * scale,
        floats(2, (33, 20), dtype),
        floats(3, (20,), dtype),
    )
    tall, ones = floats(4, (6001, 4), dtype) * scale, np.ones((4, 3), dtype)
    yield partial(run, package.Matmul(), (x, W), floats(5, (70, 20), dtype) * scale)
    yield partial(run, package.MatmulRelu(), (x, W, b), floats(6, (70, 20), dtype) * scale)
    yield partial(run, package.Matmul(), (tall, ones), np.ones((6001, 3), dtype))


def rows(package, dtype):
    low = floats(7, (40, 12), dtype, 2, 4) + dtype(np.log(TINY[dtype]))
    special = np.ones((40, 1), dtype) * specials(dtype)
    kinds = package.Relu, package.Log, package.Softmax, package.LogSoftmax
    for kind in (*kinds, package.Tanh, package.Logistic, package.Silu):
        for x in (low, special, floats(8, (40, 12), dtype) * dtype(TINY[dtype])):
            operation = kind()
            operation.epsilon = TINY[dtype] / 4
            yield partial(run, operation, (x,), x[::-1] * dtype(0.5))


def updates(package, dtype):
    tiny = TINY[dtype]
    p, g, v, m, square = (floats(seed, (31, 17), dtype) * dtype(tiny) for seed in range(9, 14))
    square = abs(square)

    def run_all():
        package.sgd([p], [g], 0.25)
        package.momentum([p], [g], [v], 0.25, 0.5)
        package.adam([p], [g], [m], [square], 1, 0.001, epsilon=tiny / 4)
        package.nesterov([p], [g], [v], 0.25, 0.5)
        package.adamw([p], [g], [m], [square], 2, 0.001, epsilon=tiny / 4)
        package.sgd([p], [p.copy()], tiny / 4)
        return p, v, m, square

    yield run_all


def models(package, dtype):
    scale = dtype(TINY[dtype])
    model, x = package.MLP([33, 20, 10], dtype=dtype, rng=1), floats(15, (64, 33), dtype)
    label, log_prob = (floats(seed, (64, 10), dtype) * scale / 64 for seed in (16, 17))
    ones = np.ones_like(log_prob)

    def step():
        model.forward(x)
        model.backward(label)
        loss = package.compute_loss(log_prob, ones)
        return model.log_prob, *model.gradients, np.array(loss)

    yield step


def training(package, dtype):
    labels, tiny = np.arange(90) % 10, TINY[dtype]
    for optimizer, scale, learning_rate in (
        *((optimizer, tiny, 0.01) for optimizer in ("sgd", "momentum", "adam")),
        ("sgd", 1, tiny / 8),
    ):
        x = floats(18, (90, 12), dtype) * dtype(scale)
        model = package.MLP([12, 10], dtype=dtype, rng=1)
        model.flat_parameters[...] = 0

        how = {"optimizer": optimizer, "learning_rate": learning_rate}
        if optimizer == "momentum":
            how["max_norm"] = tiny / 4

        def run_all(model=model, x=x, how=how):
            model.fit(x, labels, epochs=1, batch_size=40, rng=2, **how)
            return (model.flat_parameters,)

        yield run_all


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operations", [products, rows, updates, models, training])
def test_subnormal_numbers_are_kept(operations, dtype, num_threads):
    with np.errstate(all="ignore"), with_threads(num_threads):
        expected = [call() for call in operations(reference, dtype)]
        calls = list(operations(fastmlp, dtype))
        with mode_of_all_threads(FLUSHING):
            results = [call() for call in calls]
    subnormal = 0
    for arrays, references in zip(results, expected, strict=True):
        for actual, exact in zip(arrays, references, strict=True):
            assert_same_bits(actual, exact)
            subnormal += np.count_nonzero(abs(exact[exact != 0]) < np.finfo(dtype).tiny)
    assert subnormal > 10  # else this would test nothing


@pytest.mark.parametrize("value", [1e-40, -1e-45])
def test_a_conversion_by_numpy_is_refused_where_it_would_flush(value):
    model, W = fastmlp.MLP([3, 2], dtype=np.float64), np.eye(3)
    ones, x = np.ones((2, 3), np.float32), np.full((2, 3), value, np.float32)
    narrow, label = fastmlp.MLP([3, 2]), x[:, :2].astype(np.float64)
    swapped, four = x.astype(">f4"), np.full((4, 2), value, np.float32)
    model.forward(ones), narrow.forward(ones)
    calls = [
        lambda: fastmlp.Matmul().forward(x, W),
        lambda: fastmlp.Matmul().forward(swapped, W),
        lambda: model.forward(x),
        lambda: model.predict(x),
        lambda: model.backward(x[:, :2]),
        lambda: narrow.backward(label),
        lambda: setattr(model, "W1", four),
    ]
    with mode_of_all_threads(FLUSHING):
        for call in calls:
            with pytest.raises(RuntimeError, match="expected a thread that keeps subnormal"):
                call()
        for harmless in (ones, ones * 0, np.ones((2, 3), int), x.astype(">f8")):
            assert model.predict(harmless).shape == (2,)
    for call in calls:
        call()


# Under another direction of rounding NumPy draws other weights, and Python has other powers of
# Adam's beta: only what the kernels compute is right then.
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize(
    ("bits", "operations"),
    [(FLUSHING, OPERATIONS), (UPWARD, OPERATIONS[: OPERATIONS.index(update)])],
    ids=["flushing", "rounding upward"],
)
def test_the_digests_are_the_committed_ones(bits, operations, num_threads):
    with with_threads(num_threads), mode_of_all_threads(bits):
        found = digests(operations=operations)
    assert len(found) == 2 * len(operations)
    assert found == {name: COMMITTED[name] for name in found}


@pytest.mark.parametrize(("bits", "result"), [(FLUSHING, 0), (0, 2.0**-149)])
def test_the_modes_of_this_test_do_what_they_say(bits, result):
    least = np.array([2.0**-149], np.float32)
    with mode_of_all_threads(bits):
        assert (least * np.float32(1)).view(np.int32) == (result > 0)

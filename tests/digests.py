"""SHA-256 of every operation's results for fixed inputs: the same on every machine and setting.

`python tests/digests.py` prints them as JSON; `tests/digests.json` holds what they must be. With
the argument `cells` it prints them for each number of threads, each layout of the inputs and a
forked child; with `reference`, those of fastmlp.reference. The inputs come from integer operations
on PCG64's raw draws, every NaN counts as one NaN.
"""

import hashlib
import json
import os
import sys
from functools import partial

import numba
import numpy as np
from helpers import DTYPES, bits, floats, layouts, specials, with_threads

import fastmlp
from fastmlp import reference

PRODUCTS = [(1, 1, 1), (7, 300, 33), (33, 785, 20), (70, 520, 12), (5, 0, 3), (5, 4700, 18)]
ROWS = [(5, 1), (33, 10), (4, 300), (0, 7)]


def digest(*arrays):
    """Hash dtype, shape and bits of the arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str} {array.shape}".encode() + bits(array).tobytes())
    return sha.hexdigest()


def matmul(package, dtype, place):
    for seed, (M, K, N) in enumerate(PRODUCTS):
        operation = package.Matmul()
        x, W = floats(seed, (M, K), dtype), floats(seed + 10, (K, N), dtype)
        yield operation.forward(place(x), place(W))
        yield from operation.backward(place(floats(seed + 20, (M, N), dtype)))


def matmul_relu(package, dtype, place):
    for seed, (M, K, N) in enumerate(PRODUCTS):
        operation = package.MatmulRelu()
        x, W = floats(seed, (M, K), dtype), floats(seed + 10, (K, N), dtype)
        yield operation.forward(place(x), place(W), place(floats(seed + 30, (N,), dtype)))
        yield from operation.backward(place(floats(seed + 20, (M, N), dtype)))


def _elementwise(operation, dtype, place):
    x, grad_y = (array.reshape(1, -1) for array in np.meshgrid(specials(dtype), specials(dtype)))
    for values, gradient in [(x, grad_y)] + [
        (floats(seed, shape, dtype, -20, 6), floats(seed + 1, shape, dtype))
        for seed, shape in enumerate(ROWS)
    ]:
        yield operation.forward(place(values))
        yield operation.backward(place(gradient))


def relu(package, dtype, place):
    yield from _elementwise(package.Relu(), dtype, place)


def activations(package, dtype, place):
    for name in ("Tanh", "Logistic", "Silu", "Gelu", "LeakyRelu", "Identity"):
        yield from _elementwise(getattr(package, name)(), dtype, place)


def softmax(package, dtype, place):
    yield from _elementwise(package.Softmax(), dtype, place)


def log(package, dtype, place):
    yield from _elementwise(package.Log(), dtype, place)


def log_softmax(package, dtype, place):
    yield from _elementwise(package.LogSoftmax(), dtype, place)


def update(package, dtype, place):
    def writable(array):
        placed = place(array)
        return placed if placed.flags.writeable else array

    shapes = [(31, 17), (5,), (0, 3)]
    params = [writable(floats(seed, shape, dtype)) for seed, shape in enumerate(shapes)]
    grads = [place(floats(seed + 10, param.shape, dtype)) for seed, param in enumerate(params)]
    states = [[writable(np.zeros(param.shape, dtype)) for param in params] for _ in range(3)]
    for step in (1, 2, 3):
        package.sgd(params, grads, 0.01)
        package.momentum(params, grads, states[0], 0.01, 0.9)
        package.adam(params, grads, states[1], states[2], step, 0.001)
        yield from params
    for state in states:
        yield from state


def mlp(package, dtype, place):
    model = package.MLP([300, 16, 33, 10], bias=[True, False, True], dtype=dtype, rng=1)
    yield from model.parameters
    x, labels = place(floats(40, (210, 300), dtype)), place(package.one_hot(np.arange(210) % 10))
    for _ in range(3):
        loss, accuracy = package.train_one_step(model, x, labels, learning_rate=1e-4)
        yield np.array([loss])
        yield np.array([accuracy])
    yield model.log_prob
    yield model.predict(x)
    yield model.predict(x[:50])
    yield model.predict(x[:1])
    yield from model.parameters


def fit(package, dtype, place):
    labels = np.arange(4500) * 7 % 10
    for optimizer, sizes, samples, batch_size in [
        ("sgd", [30, 16, 33, 10], 333, 70),
        ("momentum", [30, 16, 33, 10], 333, 70),
        ("adam", [30, 16, 33, 10], 333, 70),
        ("adam", [6, 10], 4500, 4500),  # leaves that threads share
    ]:
        x = place(floats(50, (samples, sizes[0]), dtype))
        model = package.MLP(sizes, dtype=dtype, rng=1)
        how = {"batch_size": batch_size, "optimizer": optimizer, "weight_decay": 1e-3}
        history = model.fit(x, labels[:samples], epochs=2, rng=1, **how)
        yield from model.parameters
        yield np.array([history.loss, history.accuracy])


def fit_by_each(package, sizes, x, batch_size):
    """An epoch by each optimizer."""
    for optimizer in ("sgd", "momentum", "adam"):
        model = package.MLP(sizes, dtype=x.dtype, rng=1)
        how = {"epochs": 1, "batch_size": batch_size, "optimizer": optimizer, "rng": 1}
        history = model.fit(x, np.arange(len(x)) % sizes[-1], **how)
        yield from model.parameters
        yield np.array([history.loss, history.accuracy])


def fit_zeros(package, dtype, place):
    """Training whose first layer passes over the zeros of x."""
    samples, sizes = 150, [200, 90, 5]
    kept = np.random.PCG64(60).random_raw(samples * sizes[0]) % np.uint64(10) < 2
    x = np.where(kept.reshape(samples, -1), floats(61, (samples, sizes[0]), dtype), dtype(0))
    yield from fit_by_each(package, sizes, place(x), 64)


def fit_hidden(package, dtype, place):
    """Training whose hidden layer passes over the zeros that relu makes, of a dense x."""
    samples, sizes = 180, [130, 128, 130, 5]
    x = floats(62, (samples, sizes[0]), dtype, -3, 1)
    yield from fit_by_each(package, sizes, place(x), 20)


def nesterov_and_adamw(package, dtype, place):
    """The updates of version 2."""
    p, g, velocity, m, v = (floats(70 + seed, (31, 17), dtype) for seed in range(5))
    np.abs(v, out=v)
    for step in (1, 2, 3):
        package.nesterov([p], [place(g)], [velocity], 0.01, 0.9)
        package.adamw([p], [place(g)], [m], [v], step, 0.01)
    yield from (p, velocity, m, v)


def fit_clipped(package, dtype, place):
    """Training with a limit for the gradients' norm; biases don't decay."""
    for optimizer, sizes, samples, batch_size in [
        ("nesterov", [200, 90, 10], 75, 8),  # layers go by columns
        ("adamw", [6, 10], 2200, 2200),  # leaves that threads share
    ]:
        x, labels = place(floats(80, (samples, sizes[0]), dtype)), np.arange(samples) * 7 % 10
        model = package.MLP(sizes, dtype=dtype, rng=1)
        how = {"batch_size": batch_size, "optimizer": optimizer, "weight_decay": 0.1}
        model.fit(x, labels, epochs=2, rng=1, max_norm=1, decay_bias=False, **how)
        yield from model.parameters


def fit_losses(package, dtype, place):
    """Training by each loss of targets, of one output and of three, with and without weights."""
    losses = "squared_error", "absolute_error", "huber", "poisson", "binary_cross_entropy"
    weight = np.abs(floats(73, (90,), np.float64))
    weight[::4] = 0
    for number, loss in enumerate(("cross_entropy", *losses)):
        for outputs in (1, 3):
            if loss == "cross_entropy" and outputs == 1:
                continue
            x, y = floats(70, (90, 12), dtype, -3, 1), floats(71, (90, outputs), dtype, -3, 2)
            y = {"cross_entropy": np.arange(90) % 3, "poisson": np.floor(np.abs(y))}.get(loss, y)
            y = (y > 0).astype(dtype) if loss == "binary_cross_entropy" else y
            model = package.MLP([12, 9, outputs], dtype=dtype, rng=number, loss=loss)
            how = {"sample_weight": weight if outputs == 3 else None, "batch_size": 32}
            history = model.fit(place(x), place(y), epochs=2, learning_rate=0.01, rng=1, **how)
            yield from model.parameters
            yield np.array([history.loss, history.accuracy or history.loss])
            yield model.predict(x)
            yield np.array([model.loss(x, y, sample_weight=weight), model.score(x, y)])


OPERATIONS = [
    matmul,
    matmul_relu,
    relu,
    activations,
    softmax,
    log,
    log_softmax,
    update,
    mlp,
    fit,
    fit_zeros,
    fit_hidden,
    nesterov_and_adamw,
    fit_clipped,
    fit_losses,
]


def digests(package=fastmlp, place=lambda array: array, operations=OPERATIONS):
    """All digests: {"operation dtype": hash}; `place` gives each input its place in memory."""
    with np.errstate(all="ignore"):
        return {
            f"{operation.__name__} {np.dtype(dtype)}": digest(*operation(package, dtype, place))
            for operation in operations
            for dtype in DTYPES
        }


def in_a_forked_child():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(digests()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return json.loads(found)


def cells():
    """The digests for each number of threads, each layout of the inputs, and a forked child."""
    found = {}
    for num_threads in range(1, min(3, numba.config.NUMBA_NUM_THREADS) + 1):
        with with_threads(num_threads):
            found_here = digests()
        layer = f" of {numba.threading_layer()}" if num_threads > 1 else ""
        found[f"{num_threads} threads{layer}"] = found_here
    for layout, _ in layouts(np.zeros((1, 1))):
        found[layout] = digests(place=lambda array, layout=layout: dict(layouts(array))[layout])
    if hasattr(os, "fork"):
        found["a forked child"] = in_a_forked_child()
    return found


if __name__ == "__main__":
    shown = {"cells": cells, "reference": partial(digests, reference), "": digests}
    print(json.dumps(shown["".join(sys.argv[1:])](), indent=1))

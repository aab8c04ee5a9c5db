"""SHA-256 of every operation's results for fixed inputs: the same on every machine and setting.

`python tests/digests.py` prints them as JSON; `tests/digests.json` holds what they must be. The
inputs come from integer operations on PCG64's raw draws, every NaN counts as one NaN.
"""

import hashlib
import json

import numpy as np
from helpers import DTYPES, bits, floats, specials

import fastmlp

PRODUCTS = [(1, 1, 1), (7, 300, 33), (33, 785, 20), (70, 520, 12), (5, 0, 3), (5, 4700, 18)]
ROWS = [(5, 1), (33, 10), (4, 300), (0, 7)]


def digest(*arrays):
    """Hash dtype, shape and bits of the arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str} {array.shape}".encode() + bits(array).tobytes())
    return sha.hexdigest()


def matmul(dtype):
    for seed, (M, K, N) in enumerate(PRODUCTS):
        operation = fastmlp.Matmul()
        yield operation.forward(floats(seed, (M, K), dtype), floats(seed + 10, (K, N), dtype))
        yield from operation.backward(floats(seed + 20, (M, N), dtype))


def matmul_relu(dtype):
    for seed, (M, K, N) in enumerate(PRODUCTS):
        operation = fastmlp.MatmulRelu()
        b = floats(seed + 30, (N,), dtype)
        yield operation.forward(floats(seed, (M, K), dtype), floats(seed + 10, (K, N), dtype), b)
        yield from operation.backward(floats(seed + 20, (M, N), dtype))


def _elementwise(operation, dtype):
    x, grad_y = (array.reshape(1, -1) for array in np.meshgrid(specials(dtype), specials(dtype)))
    for values, gradient in [(x, grad_y)] + [
        (floats(seed, shape, dtype, -20, 6), floats(seed + 1, shape, dtype))
        for seed, shape in enumerate(ROWS)
    ]:
        yield operation.forward(values)
        yield operation.backward(gradient)


def relu(dtype):
    yield from _elementwise(fastmlp.Relu(), dtype)


def softmax(dtype):
    yield from _elementwise(fastmlp.Softmax(), dtype)


def log(dtype):
    yield from _elementwise(fastmlp.Log(), dtype)


def log_softmax(dtype):
    yield from _elementwise(fastmlp.LogSoftmax(), dtype)


def update(dtype):
    params = [floats(seed, shape, dtype) for seed, shape in enumerate([(31, 17), (5,), (0, 3)])]
    grads = [floats(seed + 10, param.shape, dtype) for seed, param in enumerate(params)]
    states = [[np.zeros_like(param) for param in params] for _ in range(3)]
    for step in (1, 2, 3):
        fastmlp.sgd(params, grads, 0.01)
        fastmlp.momentum(params, grads, states[0], 0.01, 0.9)
        fastmlp.adam(params, grads, states[1], states[2], step, 0.001)
        yield from params
    for state in states:
        yield from state


def mlp(dtype):
    model = fastmlp.MLP([300, 16, 33, 10], bias=[True, False, True], dtype=dtype, rng=1)
    yield from model.parameters
    x, labels = floats(40, (210, 300), dtype), fastmlp.one_hot(np.arange(210) % 10)
    for _ in range(3):
        loss, accuracy = fastmlp.train_one_step(model, x, labels, learning_rate=1e-4)
        yield np.array([loss])
        yield np.array([accuracy])
    yield model.log_prob
    yield model.predict(x)
    yield model.predict(x[:50])
    yield model.predict(x[:1])
    yield from model.parameters


OPERATIONS = [matmul, matmul_relu, relu, softmax, log, log_softmax, update, mlp]


def digests():
    """All digests: {"operation dtype": hash}."""
    with np.errstate(all="ignore"):
        return {
            f"{operation.__name__} {np.dtype(dtype)}": digest(*operation(dtype))
            for operation in OPERATIONS
            for dtype in DTYPES
        }


if __name__ == "__main__":
    print(json.dumps(digests(), indent=1))

"""fastmlp.reference: plain NumPy with fastmlp's bits. It checks the others, and is slow."""

from typing import Any

import numpy as np

from fastmlp import reference

from . import LEARNING_RATE, MOMENTUM, Array, Call


def layer(x: Array, W: Array, b: Array) -> Call:
    return lambda: reference.MatmulRelu().forward(x, W, b)


def matmul(x: Array, W: Array) -> Call:
    return lambda: reference.Matmul().forward(x, W)


def _forward_and_backward(operation: Any, x: Array, grad_y: Array) -> Call:
    return lambda: (operation.forward(x), operation.backward(grad_y))


def relu(x: Array, grad_y: Array) -> Call:
    return _forward_and_backward(reference.Relu(), x, grad_y)


def softmax(x: Array, grad_y: Array) -> Call:
    return _forward_and_backward(reference.Softmax(), x, grad_y)


def log(x: Array, grad_y: Array) -> Call:
    return _forward_and_backward(reference.Log(), x, grad_y)


def log_softmax(x: Array, grad_y: Array) -> Call:
    return _forward_and_backward(reference.LogSoftmax(), x, grad_y)


def predict(x: Array, parameters: list[Array]) -> Call:
    sizes = [len(W) - 1 for W in parameters] + [parameters[-1].shape[1]]
    model = reference.MLP(sizes, dtype=parameters[0].dtype, rng=0)
    for W, start in zip(model.parameters, parameters, strict=True):
        W[...] = start
    return lambda: model.predict(x)


def sgd(p: Array, g: Array) -> Call:
    p = p.copy()

    def call() -> Array:
        reference.sgd([p], [g], LEARNING_RATE)
        return p

    return call


def momentum(p: Array, g: Array) -> Call:
    p, velocity = p.copy(), np.zeros_like(p)

    def call() -> Array:
        reference.momentum([p], [g], [velocity], LEARNING_RATE, MOMENTUM)
        return p

    return call


def adam(p: Array, g: Array) -> Call:
    p, m, v, step = p.copy(), np.zeros_like(p), np.zeros_like(p), 0

    def call() -> Array:
        nonlocal step
        step += 1
        reference.adam([p], [g], [m], [v], step, LEARNING_RATE)
        return p

    return call

"""fastmlp itself."""

from typing import Any

import numpy as np

import fastmlp

from . import LEARNING_RATE, MOMENTUM, Array, Call


def layer(x: Array, W: Array, b: Array) -> Call:
    operation, out = fastmlp.MatmulRelu(), np.empty((len(x), W.shape[1]), x.dtype)
    return lambda: operation.forward(x, W, b, out=out)


def matmul(x: Array, W: Array) -> Call:
    operation, out = fastmlp.Matmul(), np.empty((len(x), W.shape[1]), x.dtype)
    return lambda: operation.forward(x, W, out=out)


def _forward_and_backward(operation: Any, x: Array, grad_y: Array) -> Call:
    return lambda: (operation.forward(x), operation.backward(grad_y))


def relu(x: Array, grad_y: Array) -> Call:
    return _forward_and_backward(fastmlp.Relu(), x, grad_y)


def softmax(x: Array, grad_y: Array) -> Call:
    return _forward_and_backward(fastmlp.Softmax(), x, grad_y)


def log(x: Array, grad_y: Array) -> Call:
    return _forward_and_backward(fastmlp.Log(), x, grad_y)


def log_softmax(x: Array, grad_y: Array) -> Call:
    return _forward_and_backward(fastmlp.LogSoftmax(), x, grad_y)


def model_of(parameters: list[Array]) -> fastmlp.MLP:
    """Return a model that starts from copies of `parameters`."""
    sizes = [len(W) - 1 for W in parameters] + [parameters[-1].shape[1]]
    model = fastmlp.MLP(sizes, dtype=parameters[0].dtype, rng=0)
    for W, start in zip(model.parameters, parameters, strict=True):
        W[...] = start
    return model


def predict(x: Array, parameters: list[Array]) -> Call:
    model = model_of(parameters)
    return lambda: model.predict(x)


def sgd(p: Array, g: Array) -> Call:
    p = p.copy()

    def call() -> Array:
        fastmlp.sgd([p], [g], LEARNING_RATE)
        return p

    return call


def momentum(p: Array, g: Array) -> Call:
    p, velocity = p.copy(), np.zeros_like(p)

    def call() -> Array:
        fastmlp.momentum([p], [g], [velocity], LEARNING_RATE, MOMENTUM)
        return p

    return call


def adam(p: Array, g: Array) -> Call:
    p, m, v, step = p.copy(), np.zeros_like(p), np.zeros_like(p), 0

    def call() -> Array:
        nonlocal step
        step += 1
        fastmlp.adam([p], [g], [m], [v], step, LEARNING_RATE)
        return p

    return call


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    model = model_of(parameters)

    def call() -> list[Array]:
        model.fit(
            x,
            y,
            epochs=1,
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer="sgd",
            shuffle=False,
        )
        return [part for W in model.parameters for part in (W[:-1], W[-1])]

    return call

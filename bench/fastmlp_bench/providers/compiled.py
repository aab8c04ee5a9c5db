"""fastmlp itself."""

from typing import Any

import numpy as np

import fastmlp

from . import Array, Call
from .package import ACTIVATIONS, Package


def layer(x: Array, W: Array, b: Array) -> Call:
    operation, out = fastmlp.MatmulRelu(), np.empty((len(x), W.shape[1]), x.dtype)
    return lambda: operation.forward(x, W, b, out=out)


def matmul(x: Array, W: Array) -> Call:
    operation, out = fastmlp.Matmul(), np.empty((len(x), W.shape[1]), x.dtype)
    return lambda: operation.forward(x, W, out=out)


_package = Package(fastmlp)
relu, log = _package.relu, _package.log
tanh, logistic, silu, gelu, leaky_relu = map(_package.activation, ACTIVATIONS)
softmax, log_softmax = _package.softmax, _package.log_softmax
predict, predict_proba = _package.predict, _package.predict_proba
sgd, momentum, nesterov = _package.sgd, _package.momentum, _package.nesterov
adam, adamw = _package.adam, _package.adamw


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    model = _package.model_of(parameters)

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


def regress(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    model = _package.model_of(parameters, activation="tanh", loss="squared_error")

    def call() -> list[Array]:
        model.fit(
            x, y, epochs=1, batch_size=batch_size, learning_rate=learning_rate, optimizer="adam",
            shuffle=False, resume=True,
        )  # fmt: skip
        return [part for W in model.parameters for part in (W[:-1], W[-1])]

    return call


def fit_many(
    x: Array,
    y: Array,
    members: list[list[Array]],
    batch_size: int,
    epochs: int,
    learning_rate: float,
) -> Call:
    kind = {} if y.dtype.kind == "i" else {"activation": "tanh", "loss": "squared_error"}
    models = [_package.model_of(parameters, **kind) for parameters in members]

    def member(number: int) -> list[Array]:
        return [part for W in models[number].parameters for part in (W[:-1], W[-1])]

    def call() -> Any:
        fastmlp.fit_many(
            models, x, y, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
            shuffle=False,
        )  # fmt: skip
        return member

    return call


def estimator(name: str, settings: dict[str, Any], x: Array, y: Array) -> Call:
    from fastmlp import sklearn

    from .scikit_learn import fit_of

    return fit_of(sklearn, name, settings, x, y)

"""What fastmlp and its reference do alike: the same names, from one package or the other."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import LEARNING_RATE, MOMENTUM, Array, Call

ACTIVATIONS = "Tanh", "Logistic", "Silu", "Gelu", "LeakyRelu"


class Package:
    """The operations of a package that has fastmlp's names."""

    def __init__(self, package: Any) -> None:
        self.package = package

    def relu(self, x: Array, grad_y: Array) -> Call:
        return _forward_and_backward(self.package.Relu(), x, grad_y)

    def activation(self, name: str) -> Callable[[Array, Array], Call]:
        """Return the operation of a class of this name."""
        return lambda x, grad_y: _forward_and_backward(getattr(self.package, name)(), x, grad_y)

    def softmax(self, x: Array, grad_y: Array) -> Call:
        return _forward_and_backward(self.package.Softmax(), x, grad_y)

    def log(self, x: Array, grad_y: Array) -> Call:
        return _forward_and_backward(self.package.Log(), x, grad_y)

    def log_softmax(self, x: Array, grad_y: Array) -> Call:
        return _forward_and_backward(self.package.LogSoftmax(), x, grad_y)

    def model_of(self, parameters: list[Array], **options: str) -> Any:
        """Return a model that starts from copies of `parameters`."""
        sizes = [len(W) - 1 for W in parameters] + [parameters[-1].shape[1]]
        model = self.package.MLP(sizes, dtype=parameters[0].dtype, rng=0, **options)
        for W, start in zip(model.parameters, parameters, strict=True):
            W[...] = start
        return model

    def predict(self, x: Array, parameters: list[Array]) -> Call:
        model = self.model_of(parameters)
        return lambda: model.predict(x)

    def predict_proba(self, x: Array, parameters: list[Array]) -> Call:
        model = self.model_of(parameters)
        return lambda: model.predict_proba(x)

    def sgd(self, p: Array, g: Array) -> Call:
        p = p.copy()

        def call() -> Array:
            self.package.sgd([p], [g], LEARNING_RATE)
            return p

        return call

    def momentum(self, p: Array, g: Array) -> Call:
        return self._with_velocity(self.package.momentum, p, g)

    def nesterov(self, p: Array, g: Array) -> Call:
        return self._with_velocity(self.package.nesterov, p, g)

    def _with_velocity(self, update: Any, p: Array, g: Array) -> Call:
        p, velocity = p.copy(), np.zeros_like(p)

        def call() -> Array:
            update([p], [g], [velocity], LEARNING_RATE, MOMENTUM)
            return p

        return call

    def adam(self, p: Array, g: Array) -> Call:
        return self._with_means(self.package.adam, p, g)

    def adamw(self, p: Array, g: Array) -> Call:
        return self._with_means(self.package.adamw, p, g)

    def _with_means(self, update: Any, p: Array, g: Array) -> Call:
        p, m, v, step = p.copy(), np.zeros_like(p), np.zeros_like(p), 0

        def call() -> Array:
            nonlocal step
            step += 1
            update([p], [g], [m], [v], step, LEARNING_RATE)
            return p

        return call


def _forward_and_backward(operation: Any, x: Array, grad_y: Array) -> Call:
    return lambda: (operation.forward(x), operation.backward(grad_y))

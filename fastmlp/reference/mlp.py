"""The multilayer perceptron in plain NumPy."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..checks import Array, real_arrays
from ..model.draws import Rng, draw_normal
from ..model.estimator import Estimator
from ..model.fit import Layers
from .activations import CLASSES
from .log import Log
from .log_softmax import LogSoftmax
from .loss import mean
from .losses import PLAIN, Elementary
from .matmul import matmul
from .matmul_relu import affine
from .softmax import Softmax
from .update import adam, adamw, momentum, nesterov, sgd, sum_of_squares


class MLP(Estimator):
    """relu(x @ W + b) layers, the last without relu, then LogSoftmax, or another loss.

    Arguments and attributes are those of `fastmlp.MLP`, which computes the same bits.
    """

    _head: ClassVar[tuple[type[Any], ...]] = (LogSoftmax,)
    _updates: ClassVar[dict[str, Callable[..., None]]] = {
        "sgd": sgd,
        "momentum": momentum,
        "nesterov": nesterov,
        "adam": adam,
        "adamw": adamw,
    }
    _mean = staticmethod(mean)
    _sum_of_squares = staticmethod(sum_of_squares)

    def _run_layers(self, h: Array) -> Layers:
        """Return what the layers make of h (N, inputs)."""
        layers_inputs, functions = [], []
        for layer, W in enumerate(self.parameters):
            h, W = real_arrays(x=h, W=W)
            layers_inputs.append(h)
            inputs = self.sizes[layer]
            h = affine(h, W[:inputs], W[inputs] if self.bias[layer] else None)
            functions.append(CLASSES[(*self.activation, "identity")[layer]]())
            h = functions[-1].forward(h)
        return Layers(layers_inputs, functions, h)

    def _elementary(self) -> Elementary:
        return PLAIN

    def _propagate(self, g: Array) -> None:
        layers = self._last_forward[0]
        for layer in reversed(range(len(layers.inputs))):
            x, W, inputs = layers.inputs[layer], self.parameters[layer], self.sizes[layer]
            with_ones = x
            if self.bias[layer]:
                with_ones = np.concatenate([x, np.ones((len(x), 1), x.dtype)], axis=1)
            self.gradients[layer][...] = matmul(with_ones.T, g)
            if layer:  # nobody asks for the gradient of the model's own input
                g = layers.functions[layer - 1].backward(matmul(g, W[:inputs].T))


class NotebookMLP(MLP):
    """The notebook's own model: 784-100-10, no bias in the second layer, float64, Softmax then Log.

    Its weights are normal(0, 1) from NumPy's Generator, unscaled.
    """

    _head = (Softmax, Log)

    def __init__(self, rng: Rng = None) -> None:
        super().__init__([784, 100, 10], bias=[True, False], dtype=np.float64, rng=rng)

    def _draw_weights(self, generator: np.random.PCG64) -> None:
        draw_normal(self.parameters, generator)

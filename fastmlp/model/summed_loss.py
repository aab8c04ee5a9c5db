"""A model's summed loss as an operation on its weights, for the check of gradients."""

from typing import Any

import numpy as np

from ..checks import Array
from .estimator import Estimator
from .fit_checks import checked_data
from .losses import CROSS_ENTROPY, sample_losses


class SummedLoss:
    """forward(W1, W2, ...) -> the sum of the samples' losses (1,), in float64, of x and y.

    names: those of the weights. The model isn't changed.
    """

    def __init__(self, model: Estimator, x: Array, y: Any) -> None:
        self.model = model._worker()
        own = vars(self.model)
        own["dtype"] = np.dtype(np.float64)
        for name in ("flat_parameters", "flat_gradients"):
            own[name] = own[name].astype(np.float64)
        self.model._name_views()
        data = checked_data(self.model, x, y, check_finite=True)
        self.x, self.y = data.x, data.y
        self.names = [f"W{layer}" for layer in range(1, len(model.sizes))]

    def forward(self, *weights: Array) -> Array:
        """Return the sum for these weights."""
        for W, value in zip(self.model.parameters, weights, strict=True):
            W[...] = value
        losses = sample_losses(self.model, self.model.forward(self.x), self.y)
        return np.array([np.add.accumulate(losses)[-1]])

    def backward(self, grad_y: Array) -> list[Array]:
        """Return grad_y times the gradients that the model's backward writes."""
        label = self.y
        if self.model.loss_name == CROSS_ENTROPY:
            label = np.eye(self.model.sizes[-1])[self.y]
        self.model.backward(label)
        return [grad_y[0] * gradient for gradient in self.model.gradients]

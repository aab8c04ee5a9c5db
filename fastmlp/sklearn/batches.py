"""How samples count in scikit-learn's batches: in the gradient, the weight decay and the loss.

scikit-learn's gradient of a batch is sum(w * (outputs - y)) / sum(w), its weight decay
alpha * W / sum(w), of weights W only. fastmlp's losses are means over outputs, and its squared
error has no half; `factors` are the differences.
"""

from typing import NamedTuple

import numpy as np

from ..checks import Array
from ..model.mlp import MLP
from ..model.sample_weights import batch_totals, scales


class Visit(NamedTuple):
    """An epoch's samples in their order: what kernels take, and shares (N,) of the loss.

    scales: see `Samples`. decays (steps,): the weight decay of each. shares: None for equal ones.
    """

    scales: Array | None
    decays: Array
    shares: Array | None


def factors(model: MLP) -> tuple[float, float]:
    """Return by what fastmlp's gradient and loss become scikit-learn's."""
    outputs = float(model.sizes[-1])
    return {
        "cross_entropy": (1.0, 1.0),
        "binary_cross_entropy": (outputs, outputs),
        "squared_error": (outputs / 2, 0.5),
        "poisson": (outputs, outputs),
    }[model.loss_name]


class Batches:
    """The batches of an epoch."""

    def __init__(self, model: MLP, y: Array, weight: Array | None, size: int, alpha: float) -> None:
        self.size, self.alpha, self.weight, self.samples = size, alpha, weight, len(y)
        self.factor, self.loss_factor = factors(model)
        self.dtype = model.dtype
        self.part = batch_totals(np.ones(len(y)), size) / len(y)  # of each batch
        self.is_weight = _where_weights_are(model)
        self.rest = _rest_of_deviance(model, y) if model.loss_name == "poisson" else None
        self._same = self._visit(np.ones(len(y))) if weight is None else None

    def visit(self, order: Array | None) -> Visit:
        """Return what an epoch in this order needs; None: as samples lie."""
        if self._same is not None:
            return self._same
        assert self.weight is not None
        return self._visit(self.weight if order is None else self.weight[order])

    def _visit(self, weight: Array) -> Visit:
        totals = batch_totals(weight, self.size)
        scale = None
        if self.weight is not None or self.factor != 1:
            scale = scales(weight, self.size, self.dtype, totals / self.factor)
        with np.errstate(all="ignore"):  # weights of a batch may all be 0
            decays = np.where(totals > 0, self.alpha / totals, 0.0)
        if self.weight is None:
            return Visit(scale, decays, None)
        part = np.repeat(self.part, self.size)[: self.samples]
        shares = part * scales(weight, self.size, np.dtype(np.float64), totals)
        return Visit(scale, decays, shares)

    def loss(
        self, visit: Visit, order: Array | None, losses: Array, squares: Array, factor: float
    ) -> float:
        """Return the loss of an epoch, the weight decay's part in it; scikit-learn's: loss_factor.

        losses (N,): fastmlp's, in the order; squares (steps,): the sum of W^2 before each step.
        """
        losses = losses.astype(np.float64)
        if self.rest is not None:
            losses += self.rest if order is None else self.rest[order]
        with np.errstate(all="ignore"):
            if visit.shares is None:
                mean = _sum(losses) / self.samples
            else:
                mean = _sum(np.where(visit.shares > 0, visit.shares * losses, 0.0))
            return factor * mean + 0.5 * _sum(visit.decays * squares * self.part)

    def squares(self, flat_parameters: Array) -> float:
        """Return the sum of W^2 over all weights, no biases, in float64."""
        if not self.alpha:
            return 0.0
        with np.errstate(all="ignore"):
            W = flat_parameters * self.is_weight
            return _sum(W * W)


def _sum(values: Array) -> float:
    """Return the sum, one after the other: the same bits everywhere."""
    return float(np.add.accumulate(values)[-1])


def _where_weights_are(model: MLP) -> Array:
    """Return 1.0 for each weight of the flat parameters, 0.0 for a bias."""
    shapes = model._shapes()
    return np.concatenate(
        [np.repeat([1.0, 0.0], [(rows - 1) * columns, columns]) for rows, columns in shapes]
    )


def _rest_of_deviance(model: MLP, y: Array) -> Array:
    """Return the mean over outputs of y * log(y) - y, which fastmlp's poisson loss leaves out."""
    y = y.astype(np.float64)
    with np.errstate(all="ignore"):
        rest = np.where(y > 0, y * model._elementary().log(y), 0.0) - y
    return np.asarray(np.add.accumulate(rest, axis=1)[:, -1] / y.shape[1])

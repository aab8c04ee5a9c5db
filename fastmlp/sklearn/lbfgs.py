"""solver="lbfgs": SciPy's L-BFGS-B over fastmlp's loss and gradient of all samples at once.

Both are computed in float64, as in scikit-learn, and have the same bits everywhere. The steps that
SciPy makes of them have those of its own sums.
"""

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from ..checks import Array, all_finite
from ..model.fit import Samples
from ..model.fit_checks import Schedule
from ..model.mlp import MLP
from .batches import Batches
from .inputs import Table, dense
from .training import NOT_FINITE

if TYPE_CHECKING:
    from .base import BaseMLP


def minimize_loss(estimator: "BaseMLP", table: Table) -> None:
    """Give the estimator's model the weights of the lowest loss that is found."""
    loss, model = _Loss(estimator._model, table, estimator.alpha), estimator._model

    def show(_: Array) -> None:
        print(f"Iteration {loss.iterations()}, loss = {loss.last:.8f}")

    found: Any = minimize(
        loss, model.flat_parameters.astype(np.float64), method="L-BFGS-B", jac=True,
        callback=show if estimator.verbose else None,
        options={
            "maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol,
        },
    )  # fmt: skip
    if not all_finite(found.x):
        raise ValueError(NOT_FINITE)
    model.flat_parameters[...] = found.x
    estimator.n_iter_ = min(int(found.nit), estimator.max_iter)
    loss(found.x)
    estimator.loss_ = loss.last
    if found.status != 0:
        warnings.warn(
            f"lbfgs failed to converge after {found.nit} iteration(s) (status={found.status}):\n"
            f"{found.message}\n\nYou might also want to scale the data, or to increase the number "
            f"of iterations (max_iter={estimator.max_iter}).",
            ConvergenceWarning,
            stacklevel=5,
        )


class _Loss:
    """A loss and its gradient at parameters; `last`: scikit-learn's loss at those of the last call.

    They differ for many numbers: its loss is their mean, but its gradient that of their sum, which
    is what the other solvers make small. So does this one: SciPy needs the gradient of its loss.
    """

    def __init__(self, model: MLP, table: Table, alpha: float) -> None:
        self.worker = MLP(
            model.sizes, dtype=np.float64, rng=0, activation=model.activation, loss=model.loss_name
        )
        X = np.ascontiguousarray(dense(table.X), np.float64)
        y = table.y if table.y.dtype.kind == "i" else table.y.astype(np.float64)
        self.batches = Batches(self.worker, y, table.weight, len(y), alpha)
        self.visit = self.batches.visit(None)
        self.samples = Samples(X, y, None, self.visit.scales)
        # A first step's velocity is the gradient with its decay; a rate of 0 moves nothing.
        self.schedule = Schedule(
            "momentum", np.zeros(1), 0.0, self.visit.decays, len(y), 1, 0.0, {}, math.inf,
            not alpha > 0,
        )  # fmt: skip
        self.last, self._shown = math.inf, 0

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        worker, gradient = self.worker, np.zeros(len(parameters))
        worker.flat_parameters[...] = parameters
        epoch = worker._train_epoch(self.samples, self.schedule, gradient, 0)
        squares = np.array([self.batches.squares(worker.flat_parameters)])
        loss, its = (
            self.batches.loss(self.visit, None, epoch.losses, squares, factor)
            for factor in (self.batches.factor, self.batches.loss_factor)
        )
        self.last = its
        return loss, gradient

    def iterations(self) -> int:
        """Return how many iterations have been shown, with this one."""
        self._shown += 1
        return self._shown

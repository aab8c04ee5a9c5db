"""scikit-learn's MLPRegressor."""

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from ..checks import Array
from ..threads import at_most
from .base import BaseMLP
from .inputs import checked_rows, checked_samples, in_blocks


class MLPRegressor(MultiOutputMixin, RegressorMixin, BaseMLP):
    """scikit-learn's MLPRegressor, by fastmlp: parameters, attributes and methods are those there.

    `loss`: "squared_error", or "poisson" of y >= 0, whose predictions are exp of the outputs.
    Beyond it: `restore_best`, whether early_stopping leaves the weights of the best score, as
    there, or those of the last epoch; `dtype`, of weights and arithmetic: "input" has that of X,
    float32 or float64 (of float16, float32; of all else, float64), or "float32", "float64";
    `n_threads`, the most that a call uses, None for `fastmlp.get_num_threads()`: the bits don't
    depend on it.

    `random_state`: an integer gives the same weights on every machine; a RandomState, or None for
    NumPy's, draws such an integer in each `fit`. X may be a frame or sparse, y have any number of
    columns. docs/scikit-learn.md says what differs from scikit-learn.
    """

    _has_classes = False
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        restore_best: bool = True,
        dtype: Any = "input",
        n_threads: int | None = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.restore_best = restore_best
        self.dtype = dtype
        self.n_threads = n_threads

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (N, features), an array, frame or sparse matrix, with y (N,) or (N, outputs).

        sample_weight (N,): how much each sample counts. Errors are scikit-learn's.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train one epoch more on X (N, features) with y, as `fit` takes them."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the numbers (N,) or (N, outputs) for X (N, features), in the weights' dtype."""
        X, model = checked_rows(self, X), self._model
        with at_most(self.n_threads):
            return in_blocks(lambda rows: model.predict(rows, check_finite=False), X)

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = checked_samples(self, X, y, reset, y_numeric=True)
        y = check_array(y, dtype=X.dtype.type, ensure_2d=False, input_name="y")
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(
                "Some value(s) of y are out of the valid range of the loss 'poisson': it takes "
                "0 or more."
            )
        return X, np.asarray(y).reshape(len(y), -1)

    def _head(self, y: Array) -> tuple[Any, str]:
        return (self.loss, "exp") if self.loss == "poisson" else (self.loss, "identity")

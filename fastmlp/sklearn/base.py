"""What classifier and regressor do alike: parameters, weights, fitting."""

import numbers
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions

from ..checks import Array, plain_array, shape_error
from ..model.draws import uniform
from ..model.losses import checked_y
from ..model.mlp import MLP
from ..threads import at_most
from .compat import Tagged, sample_weights
from .inputs import Table
from .lbfgs import minimize_loss
from .training import train

_SEEDS = np.iinfo(np.int32).max  # those that a RandomState draws


def _reals(low: float, high: float | None, closed: str) -> list[Any]:
    return [Interval(numbers.Real, low, high, closed=closed)]


def _counts() -> Any:
    return Interval(numbers.Integral, 1, None, closed="left")


class Arrays(list[Array]):
    """The weights' arrays: to assign one writes into the model."""

    def __setitem__(self, index: Any, value: Any) -> None:
        if not isinstance(index, numbers.Integral):
            raise TypeError(f"expected one array at a time, got the index {index!r}")
        array, value = self[int(index)], plain_array("value", value)
        if value.shape != array.shape:
            mend = "give an array of that shape"
            raise shape_error("value", f"shape {array.shape}", f"shape {value.shape}", mend)
        array[...] = value


class BaseMLP(Tagged):
    """A multilayer perceptron as scikit-learn's estimators are."""

    _has_classes: ClassVar[bool]
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", _counts()],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu"})],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": _reals(0, None, "left"),
        "batch_size": [StrOptions({"auto"}), _counts()],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": _reals(0, None, "neither"),
        "power_t": _reals(0, None, "left"),
        "max_iter": [_counts()],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": _reals(0, None, "left"),
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": _reals(0, 1, "both"),
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": _reals(0, 1, "left"),
        "beta_1": _reals(0, 1, "left"),
        "beta_2": _reals(0, 1, "left"),
        "epsilon": _reals(0, None, "neither"),
        "n_iter_no_change": [_counts(), Options(numbers.Real, {np.inf})],
        "max_fun": [_counts()],
        "restore_best": ["boolean"],
        "dtype": [
            StrOptions({"input", "float32", "float64"}),
            Options(type, {np.float32, np.float64}),
        ],
        "n_threads": [_counts(), None],
    }

    activation: Any
    alpha: Any
    batch_size: Any
    beta_1: Any
    beta_2: Any
    dtype: Any
    early_stopping: Any
    epsilon: Any
    hidden_layer_sizes: Any
    learning_rate: Any
    learning_rate_init: Any
    max_fun: Any
    max_iter: Any
    momentum: Any
    n_iter_no_change: Any
    n_threads: Any
    nesterovs_momentum: Any
    power_t: Any
    random_state: Any
    restore_best: Any
    shuffle: Any
    solver: Any
    tol: Any
    validation_fraction: Any
    verbose: Any
    warm_start: Any

    _model: MLP
    _rate: float
    _no_improvement_count: int
    best_loss_: Any
    best_validation_score_: Any
    loss_: float
    loss_curve_: list[float]
    n_iter_: int
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    t_: int
    validation_scores_: Any

    @property
    def coefs_(self) -> list[Array]:
        """The weights of each layer, (inputs, outputs): views of the model's, which may change."""
        return Arrays(W[:-1] for W in self._fitted("coefs_").parameters)

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        _write(self.coefs_, values, "coefs_")

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of each layer, (outputs,): views of the model's, which may change."""
        return Arrays(W[-1] for W in self._fitted("intercepts_").parameters)

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        _write(self.intercepts_, values, "intercepts_")

    def to_fastmlp(self) -> MLP:
        """Return the model inside: to train it is to train the estimator.

        Its classes are 0, 1, ..., the places in `classes_`.
        """
        return self._fitted("to_fastmlp()")

    def to_sklearn(self) -> Any:
        """Return scikit-learn's own estimator with these weights, figures and parameters.

        class_weight, restore_best, dtype and n_threads, which it lacks, are left out; its optimizer
        starts anew.
        """
        from .conversion import to_sklearn

        self._fitted("to_sklearn()")
        return to_sklearn(self)

    def _fitted(self, name: str) -> MLP:
        model = vars(self).get("_model")
        if model is None:
            raise AttributeError(f"{type(self).__name__} has no {name} before fit")
        assert isinstance(model, MLP)
        return model

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        sizes = _hidden_sizes(self.hidden_layer_sizes)
        first = "_model" not in vars(self) or not (self.warm_start or incremental)
        if not first:
            self._refuse_other_model(sizes)
        X, y = self._checked(X, y, incremental, first)
        weight = self._weights(sample_weights(sample_weight, X), y, incremental)
        generator = np.random.PCG64(_seed(self.random_state))
        if first:
            self._make(X, y, sizes, generator)
        model = self._model
        if y.ndim == 2 and y.shape[1] != model.sizes[-1]:
            raise ValueError(f"y has {y.shape[1]} outputs, expected {model.sizes[-1]} as before")
        y = checked_y(model, "y", y, len(y), check_finite=True)
        with at_most(self.n_threads):
            if self.solver == "lbfgs":
                minimize_loss(self, Table(X, y, weight))
            else:
                train(self, Table(X, y, weight), generator, incremental)
        return self

    def _make(self, X: Any, y: Array, hidden: list[int], generator: np.random.PCG64) -> None:
        """Make the model with scikit-learn's initial weights and biases: Glorot & Bengio, 2010."""
        loss, self.out_activation_ = self._head(y)
        self.n_outputs_ = self._count_outputs(y)
        self.n_layers_ = len(hidden) + 2
        sizes = [X.shape[1], *hidden, self.n_outputs_]
        model = MLP(sizes, dtype=X.dtype, rng=0, activation=self.activation, loss=loss)
        factor = 2.0 if self.activation == "logistic" else 6.0
        for W, inputs, outputs in zip(model.parameters, sizes, sizes[1:], strict=False):
            W[...] = uniform(generator, (inputs + 1, outputs), np.sqrt(factor / (inputs + outputs)))
        self._model, self._rate = model, float(self.learning_rate_init)
        self.n_iter_ = self.t_ = self._no_improvement_count = 0
        for name in ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"):
            self.__dict__.pop(name, None)

    def _refuse_other_model(self, hidden: list[int]) -> None:
        """Raise where the model that shall be trained further has other layers."""
        model = self._model
        expected = list(model.sizes[1:-1]), list(model.activation), model.loss_name
        loss = getattr(self, "loss", model.loss_name)
        given = hidden, [self.activation] * len(hidden), loss
        if given != expected:
            raise ValueError(
                f"hidden_layer_sizes, activation, loss: expected {expected}, those of the model "
                f"that is trained further, got {given}; pass warm_start=False and call fit"
            )

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        """Return X, and y as a model's: integers (N,), or (N, outputs)."""
        raise NotImplementedError

    def _head(self, y: Array) -> tuple[Any, str]:
        """Return the model's loss, and the name of what makes predictions of its outputs."""
        raise NotImplementedError

    def _count_outputs(self, y: Array) -> int:
        return int(y.shape[1])

    def _weights(self, weight: Array | None, y: Array, incremental: bool) -> Array | None:
        return weight

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            _refuse_partial_fit(self.solver)
        return True


def _refuse_partial_fit(solver: str) -> NoReturn:
    raise AttributeError(
        f"partial_fit is only available for stochastic optimizers. {solver} is not stochastic."
    )


def _hidden_sizes(sizes: Any) -> list[int]:
    hidden = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    if any(size <= 0 for size in hidden):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
    return hidden


def _seed(random_state: Any) -> int:
    """Return the seed of the streams: an integer itself, else one that a RandomState draws."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(_SEEDS))


def _write(arrays: list[Array], values: Any, name: str) -> None:
    if len(values) != len(arrays):
        raise ValueError(f"{name}: expected {len(arrays)} arrays, got {len(values)}")
    for layer, value in enumerate(values):
        arrays[layer] = value

"""scikit-learn's MLPClassifier and MLPRegressor, without momentum, penalty or shuffle."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from . import Array, Call, split


def _classifier(x: Array, y: Array, parameters: list[Array], **options: object) -> MLPClassifier:
    """Return a classifier that starts from copies of `parameters`."""
    classifier = MLPClassifier(
        hidden_layer_sizes=[W.shape[1] for W in parameters[:-1]],
        alpha=0,
        momentum=0,
        nesterovs_momentum=False,
        shuffle=False,
        **{"solver": "sgd", **options},
    )
    classifier.partial_fit(x, y, classes=np.arange(parameters[-1].shape[1]))  # allocates them
    _set_weights(classifier, parameters)
    return classifier


def _set_weights(model: MLPClassifier | MLPRegressor, parameters: list[Array]) -> None:
    for layer, (W, b) in enumerate(split(parameters)):
        model.coefs_[layer][...] = W
        model.intercepts_[layer][...] = b


def predict(x: Array, parameters: list[Array]) -> Call:
    classifier = _fitted(x, parameters)
    return lambda: classifier.predict(x)


def predict_proba(x: Array, parameters: list[Array]) -> Call:
    classifier = _fitted(x, parameters)
    return lambda: classifier.predict_proba(x)


def _fitted(x: Array, parameters: list[Array]) -> MLPClassifier:
    start = np.zeros_like(x, shape=(1, x.shape[1]))
    return _classifier(start, np.zeros(1, np.int64), parameters, batch_size=1)


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    size = min(batch_size, len(x))
    classifier = _classifier(
        x[:size], y[:size], parameters, batch_size=size, learning_rate_init=learning_rate
    )

    return lambda: _one_more_epoch(classifier, x, y)


def _one_more_epoch(model: MLPClassifier | MLPRegressor, x: Array, y: Array) -> list[Array]:
    model.partial_fit(x, y)
    return _arrays(model)


def _arrays(model: MLPClassifier | MLPRegressor) -> list[Array]:
    pairs = zip(model.coefs_, model.intercepts_, strict=True)
    return [array for pair in pairs for array in pair]


def regress(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    model = MLPRegressor(
        hidden_layer_sizes=[W.shape[1] for W in parameters[:-1]],
        activation="tanh",
        alpha=0,
        batch_size=batch_size,
        learning_rate_init=learning_rate,
        shuffle=False,
    )
    model.partial_fit(x[:1], y[:1])  # allocates the weights
    _set_weights(model, parameters)
    del model._optimizer  # so that Adam starts anew
    return lambda: _one_more_epoch(model, x, y)


def estimator(name: str, settings: dict[str, Any], x: Array, y: Array) -> Call:
    return fit_of(neural_network, name, settings, x, y)


def fit_of(module: Any, name: str, settings: dict[str, Any], x: Array, y: Array) -> Call:
    """Return the fit of an estimator of a module, without the warning that it hasn't converged."""

    def call() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return getattr(module, name)(**settings).fit(x, y)

    return call


def fit_many(
    x: Array,
    y: Array,
    members: list[list[Array]],
    batch_size: int,
    epochs: int,
    learning_rate: float,
) -> Call | None:
    """One network after the other; `fit` took less than half of what partial_fit did by epochs."""
    if y.dtype.kind != "i":
        return None
    options = {
        **{"batch_size": batch_size, "learning_rate_init": learning_rate, "solver": "adam"},
        **{"warm_start": True, "max_iter": epochs, "n_iter_no_change": epochs, "tol": 0.0},
    }
    networks = [_classifier(x, y, member, **options) for member in members]

    def call() -> Callable[[int], list[Array]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for network in networks:
                network.fit(x, y)  # goes on from its weights, by an Adam that starts anew
        return lambda number: _arrays(networks[number])

    return call

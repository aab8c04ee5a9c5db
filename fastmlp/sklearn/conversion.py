"""Fitted estimators from and to scikit-learn's own."""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import neural_network
from sklearn.utils.validation import check_is_fitted

from ..model.mlp import MLP
from .classifier import MLPClassifier
from .regressor import MLPRegressor

if TYPE_CHECKING:
    from .base import BaseMLP

# What a fit leaves, where it leaves it: equal in both.
_FIGURES = (
    *("classes_", "n_features_in_", "feature_names_in_", "n_iter_", "n_layers_", "n_outputs_"),
    *("out_activation_", "t_", "loss_", "best_loss_", "loss_curve_", "validation_scores_"),
    *("best_validation_score_", "_label_binarizer", "_no_improvement_count"),
)
_LOSSES: dict[str, Any] = {
    "softmax": "cross_entropy", "logistic": "binary_cross_entropy", "identity": "squared_error",
    "exp": "poisson",
}  # fmt: skip
_PAIRS: dict[Any, Any] = {
    MLPClassifier: neural_network.MLPClassifier,
    MLPRegressor: neural_network.MLPRegressor,
}


def from_sklearn(fitted: Any) -> MLPClassifier | MLPRegressor:
    """Return scikit-learn's fitted MLPClassifier or MLPRegressor as fastmlp's.

    It has the same parameters, weights and figures; its optimizer starts anew. TypeError for
    another estimator, NotFittedError for one that isn't fitted.
    """
    made = [ours for ours, theirs in _PAIRS.items() if isinstance(fitted, theirs)]
    if not made:
        raise TypeError(
            "fitted: expected scikit-learn's MLPClassifier or MLPRegressor, got "
            f"{type(fitted).__name__}; pass one of these"
        )
    check_is_fitted(fitted)
    estimator: MLPClassifier | MLPRegressor = made[0](**fitted.get_params(deep=False))
    sizes = [fitted.coefs_[0].shape[0], *(W.shape[1] for W in fitted.coefs_)]
    model = MLP(
        sizes, dtype=fitted.coefs_[0].dtype, rng=0, activation=fitted.activation,
        loss=_LOSSES[fitted.out_activation_],
    )  # fmt: skip
    estimator._model, estimator._rate = model, float(fitted.learning_rate_init)
    estimator.coefs_, estimator.intercepts_ = fitted.coefs_, fitted.intercepts_
    _copy_figures(fitted, estimator)
    return estimator


def to_sklearn(estimator: "BaseMLP") -> Any:
    """Return the same as scikit-learn's; see `BaseMLP.to_sklearn`."""
    theirs = next(kind for ours, kind in _PAIRS.items() if isinstance(estimator, ours))
    known, given = theirs().get_params(), estimator.get_params(deep=False)
    if given.get("loss", "squared_error") != "squared_error" and "loss" not in known:
        raise ValueError("loss='poisson': expected scikit-learn 1.7 or newer, which has it")
    fitted = theirs(**{name: value for name, value in given.items() if name in known})
    fitted.coefs_ = [np.array(W) for W in estimator.coefs_]
    fitted.intercepts_ = [np.array(b) for b in estimator.intercepts_]
    _copy_figures(estimator, fitted)
    return fitted


def _copy_figures(source: Any, target: Any) -> None:
    for name in _FIGURES:
        if name in vars(source):
            value = vars(source)[name]
            setattr(target, name, list(value) if isinstance(value, list) else value)

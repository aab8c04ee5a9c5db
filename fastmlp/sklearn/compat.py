"""What scikit-learn 1.5 has elsewhere than newer ones: the one place that knows its versions."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _check_sample_weight

from ..checks import Array

try:
    from sklearn.utils.validation import validate_data as validate_data
except ImportError:  # before 1.6

    def validate_data(estimator: Any, X: Any, y: Any = "no_validation", **how: Any) -> Any:
        """Return X, or X and y, checked; the estimator has the numbers and names of features."""
        return estimator._validate_data(X, y, **how)


def sample_weights(sample_weight: Any, X: Any) -> Array | None:
    """Return weights (samples,) as float64, None for none; ValueError for what can't be one."""
    if sample_weight is None:
        return None
    weight: Array = np.array(_check_sample_weight(sample_weight, X, dtype=np.float64))
    if (weight < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`.")
    if not weight.any():  # which 1.5 lets pass
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weight + 0.0  # no -0


class Tagged(BaseEstimator):
    """An estimator that takes sparse matrices, and no y below 0 for poisson, as its tags say.

    They are `__sklearn_tags__`; 1.5 has `_more_tags`.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.positive_only = self._is_positive()
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"X_types": ["2darray", "sparse"], "requires_positive_y": self._is_positive()}

    def _is_positive(self) -> bool:
        return bool(getattr(self, "loss", None) == "poisson")


class MultiLabel:
    """A classifier of several labels at once."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.classifier_tags.multi_label = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"multilabel": True}

"""Samples, and a target of each kind, for the tests of fastmlp.sklearn."""

import numpy as np
from helpers import floats
from sklearn import neural_network

from fastmlp.sklearn import MLPClassifier, MLPRegressor

X = floats(0, (107, 5), np.float64, -3, 2)
WEIGHT = np.abs(floats(1, (107,), np.float64, -2, 2))
ABOVE = X[:, 0] > 0
TARGETS = {
    "two classes": ABOVE.astype(int),
    "four classes": np.digitize(X[:, 0] + X[:, 1], [-1, 0, 1]),
    "labels": (X[:, :3] > 0).astype(int),
    "a number": 2 * X[:, 0] + 1,
    "numbers": X[:, :2] @ np.array([[1.0, 0.5], [-2.0, 1.5]]),
    "a count": np.floor(np.abs(X[:, 0])),
    "counts": np.floor(np.abs(X[:, :3])),
}


def kinds(name):
    """The classes for a target, scikit-learn's and ours, and what they need to know of it."""
    if "class" in name or "label" in name:
        return neural_network.MLPClassifier, MLPClassifier, {}
    more = {"loss": "poisson"} if "count" in name else {}
    return neural_network.MLPRegressor, MLPRegressor, more

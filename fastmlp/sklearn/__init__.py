"""scikit-learn's MLPClassifier and MLPRegressor, trained by fastmlp's compiled epochs.

`from fastmlp.sklearn import MLPClassifier` in place of `from sklearn.neural_network import
MLPClassifier`: the same parameters, attributes and methods, many times as fast, with the same bits
on every machine. docs/scikit-learn.md says what differs. It needs scikit-learn 1.5 or newer, the
extra `fastmlp[sklearn]`; nothing else of fastmlp imports it.
"""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastmlp.sklearn: expected scikit-learn 1.5 or newer, got none; "
        "pip install 'fastmlp[sklearn]'"
    ) from error

from .classifier import MLPClassifier
from .conversion import from_sklearn
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "from_sklearn"]

"""Samples as scikit-learn's users have them, and rows of them as kernels take them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted

from ..checks import Array, all_finite
from .compat import validate_data

BLOCK_BYTES = 1 << 26  # of rows of a sparse matrix that are dense at once


class Table(NamedTuple):
    """Samples: X (N, features), a C-ordered array or CSR of the model's dtype; y as a model's.

    y: labels (N,) or targets (N, outputs). weight: float64 (N,), None: all 1.
    """

    X: Any
    y: Array
    weight: Array | None

    def rows(self, index: Array) -> "Table":
        """Return some of the samples."""
        weight = None if self.weight is None else self.weight[index]
        return Table(self.X[index], self.y[index], weight)


def checked_samples(estimator: Any, X: Any, y: Any, reset: bool, **how: Any) -> tuple[Any, Any]:
    """Return X in the estimator's dtype and y, checked; reset: its features are these from now on.

    A pass for `dtype="input"`: float32 stays so, float16 becomes it, all else float64.
    """
    if reset:
        dtypes = [np.float64, np.float32, np.float16]
        dtype = dtypes if estimator.dtype == "input" else np.dtype(estimator.dtype).type
    else:
        dtype = estimator._model.dtype.type
    X, y = validate_data(
        estimator, X, y, accept_sparse="csr", dtype=dtype, order="C", multi_output=True,
        reset=reset, **how,
    )  # fmt: skip
    return (X.astype(np.float32) if X.dtype == np.float16 else X), y


def checked_rows(estimator: Any, X: Any) -> Any:
    """Return X in the model's dtype, an array or CSR, for a prediction.

    scikit-learn's checks take 50 us. An array of that dtype, without NaN and inf, passes them, if
    no names of features are known, which it would be warned not to have.
    """
    own = vars(estimator)
    model = own.get("_model")
    if model is None:
        check_is_fitted(estimator)
    usual = type(X) is np.ndarray and X.dtype == model.dtype and X.ndim == 2 and len(X) > 0
    if usual and X.shape[1] == model.sizes[0] and "feature_names_in_" not in own and all_finite(X):
        return X
    return validate_data(
        estimator, X, accept_sparse="csr", dtype=model.dtype.type, order="C", reset=False
    )


def dense(X: Any) -> Array:
    """Return rows as an array."""
    return np.asarray(X.toarray()) if issparse(X) else X


def rows_of_block(X: Any) -> int:
    """Return how many rows of a sparse matrix are dense at once."""
    return int(max(1, BLOCK_BYTES // (X.shape[1] * X.dtype.itemsize)))


def in_blocks(predict: Callable[[Array], Array], X: Any) -> Array:
    """Return what a model's method says of all rows, those of a sparse matrix block by block."""
    if not issparse(X):
        return predict(X)
    step = rows_of_block(X)
    parts = [predict(dense(X[first : first + step])) for first in range(0, X.shape[0], step)]
    return np.concatenate(parts)


def split(table: Table, fraction: float, stratify: bool, seed: int) -> tuple[Table, Table]:
    """Return samples to train on, and those to watch, as scikit-learn splits them."""
    train, watched = train_test_split(
        np.arange(len(table.y)), random_state=seed, test_size=fraction,
        stratify=table.y if stratify else None,
    )  # fmt: skip
    if len(watched) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' "
            "or the size of your dataset."
        )
    parts = table.rows(train), table.rows(watched)
    for part, name in zip(parts, ("training", "validation"), strict=True):
        if part.weight is not None and not part.weight.any():
            raise ValueError(
                f"The sample weights for the {name} set are all zero, consider using a different "
                "random state."
            )
    return parts

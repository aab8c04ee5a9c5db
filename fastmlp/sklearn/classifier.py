"""scikit-learn's MLPClassifier."""

from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from ..checks import Array
from ..threads import at_most
from .base import BaseMLP
from .compat import MultiLabel
from .inputs import checked_rows, checked_samples, in_blocks


class MLPClassifier(MultiLabel, ClassifierMixin, BaseMLP):
    """scikit-learn's MLPClassifier, by fastmlp: parameters, attributes and methods are those there.

    Beyond it: `class_weight`, None, "balanced" or a dict of classes, times `sample_weight`;
    `restore_best`, whether early_stopping leaves the weights of the best score, as there, or those
    of the last epoch; `dtype`, of weights and arithmetic: "input" has that of X, float32 or
    float64 (of float16, float32; of all else, float64), or "float32", "float64"; `n_threads`, the
    most that a call uses, None for `fastmlp.get_num_threads()`: the bits don't depend on it.

    `random_state`: an integer gives the same weights on every machine; a RandomState, or None for
    NumPy's, draws such an integer in each `fit`. Labels may be of any kind, two classes are one
    logistic output, several labels for a sample are rows of 0 and 1. X may be a frame or sparse.
    docs/scikit-learn.md says what differs from scikit-learn.
    """

    _has_classes = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    classes_: Array
    _label_binarizer: Any

    def __init__(
        self,
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
        class_weight: Any = None,
        restore_best: bool = True,
        dtype: Any = "input",
        n_threads: int | None = None,
    ) -> None:
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
        self.class_weight = class_weight
        self.restore_best = restore_best
        self.dtype = dtype
        self.n_threads = n_threads

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X (N, features), an array, frame or sparse matrix, with labels y.

        y: (N,), or (N, labels) of 0 and 1. sample_weight (N,): how much each sample counts. Errors
        are scikit-learn's.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train one epoch more on X (N, features) with y, as `fit` takes them.

        classes: all that y will ever have, for the first call.
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit: a part doesn't tell how "
                "often a class is; pass a dict, as compute_class_weight('balanced', ...) makes."
            )
        if _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._label_binarizer = LabelBinarizer().fit(y if several else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Any:
        """Return the class (N,) of each sample of X (N, features), or its labels (N, labels)."""
        X, model = checked_rows(self, X), self._model
        with at_most(self.n_threads):
            codes = in_blocks(lambda rows: model.predict(rows, check_finite=False), X)
        if codes.ndim == 1:
            last = len(self.classes_) - 1
            return self.classes_[codes if last else np.zeros_like(codes)]
        return csr_matrix(codes) if self._label_binarizer.sparse_input_ else codes

    def predict_proba(self, X: Any) -> Array:
        """Return the probabilities (N, classes), of each class, or each label, of X (N, features).

        Their order is that of `classes_`, their dtype that of the weights.
        """
        X, model = checked_rows(self, X), self._model
        with at_most(self.n_threads):
            return in_blocks(lambda rows: model.predict_proba(rows, check_finite=False), X)

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the probabilities (N, classes) of X (N, features)."""
        X, model = checked_rows(self, X), self._model
        with at_most(self.n_threads):
            return in_blocks(lambda rows: model.predict_log_proba(rows, check_finite=False), X)

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Array]:
        X, y = checked_samples(self, X, y, reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._refuse_other_classes(unique_labels(y))
        labels: Array = self._label_binarizer.transform(y)
        is_one_of_many = self._label_binarizer.y_type_ == "multiclass"
        return X, labels.argmax(axis=1) if is_one_of_many else labels

    def _refuse_other_classes(self, classes: Array) -> None:
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {classes}."
            )

    def _head(self, y: Array) -> tuple[Any, str]:
        return ("cross_entropy", "softmax") if y.ndim == 1 else ("binary_cross_entropy", "logistic")

    def _count_outputs(self, y: Array) -> int:
        return len(self.classes_) if y.ndim == 1 else y.shape[1]

    def _weights(self, weight: Array | None, y: Array, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return weight
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError("class_weight is not supported for several labels; pass sample_weight")
        codes = y.reshape(-1)
        of_classes = compute_class_weight(
            self.class_weight, classes=self.classes_, y=self.classes_[codes]
        )
        of_samples = np.asarray(of_classes, np.float64)[codes]
        return of_samples if weight is None else weight * of_samples

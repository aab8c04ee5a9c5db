"""fastmlp.sklearn: samples and labels of any kind, dtypes, and errors that are scikit-learn's."""

import re

import numpy as np
import pandas as pd
import pytest
from helpers import assert_same_bits
from scipy import sparse
from sklearn import config_context, neural_network
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn_targets import ABOVE, TARGETS, WEIGHT, X

from fastmlp.sklearn import MLPClassifier, MLPRegressor, inputs

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_inputs_of_any_kind_have_the_bits_of_an_array(monkeypatch):
    y, columns = TARGETS["four classes"], list("abcde")
    x = np.where(np.abs(X) < 1, 0, X)
    how = {"max_iter": 5, "random_state": 0, "batch_size": 20, "early_stopping": True}
    expected = MLPClassifier(**how).fit(x, y, sample_weight=WEIGHT)
    nullable = pd.DataFrame(x, columns=columns).astype("Float64")
    for block in (inputs.BLOCK_BYTES, 1000):  # 1000 bytes are 25 rows: an epoch in parts
        monkeypatch.setattr(inputs, "BLOCK_BYTES", block)
        for given in (
            sparse.csr_matrix(x), sparse.csc_array(x), sparse.coo_array(x), x.tolist(),
            np.asfortranarray(x), pd.DataFrame(x, columns=columns), nullable, x.astype(object),
        ):  # fmt: skip
            model = MLPClassifier(**how).fit(given, y, sample_weight=list(WEIGHT))
            for W, same in zip(model.coefs_, expected.coefs_, strict=True):
                assert_same_bits(W, same)
            assert model.loss_curve_ == expected.loss_curve_
            assert_same_bits(model.predict(given), expected.predict(x))
            assert_same_bits(model.predict_proba(given), expected.predict_proba(x))
            assert_same_bits(model.predict_log_proba(given), expected.predict_log_proba(x))
            regression = MLPRegressor(max_iter=2).fit(given, X[:, :2])
            assert_same_bits(regression.predict(given), regression._model.predict(x))
    framed = MLPClassifier(**how).fit(nullable, y)
    assert list(framed.feature_names_in_) == columns
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        framed.predict(x)
    with pytest.raises(ValueError, match="feature names should match"):
        framed.predict(nullable[columns[::-1]])


def test_dtypes():
    y = TARGETS["two classes"]
    for given, expected in (
        (np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64),
        (np.int8, np.float64), (np.uint64, np.float64), (bool, np.float64), (">f8", np.float64),
    ):  # fmt: skip
        x = np.abs(X).astype(given)
        model = MLPClassifier(max_iter=2, random_state=0).fit(x, y)
        assert model.coefs_[0].dtype == model.predict_proba(x).dtype == expected
        assert model.predict_log_proba(x).dtype == expected
        narrow = x.astype(np.float16) if given == np.float16 else x
        assert_same_bits(model.predict_proba(narrow), model.predict_proba(x.astype(expected)))
        for name in ("float32", np.float64):
            model = MLPRegressor(max_iter=2, dtype=name).fit(x, y)
            assert model.coefs_[0].dtype == model.predict(X).dtype == np.dtype(name)
    with np.errstate(all="ignore"):
        with pytest.raises(ValueError, match="infinity or a value too large for dtype"):
            MLPClassifier(dtype="float32").fit(1e300 * X, y)
        with pytest.raises(ValueError, match="infinity or a value too large for dtype"):
            MLPRegressor(dtype="float32").fit(X, 1e300 * X[:, 0])


LABELS = [
    np.array(["no", "yes"])[ABOVE.astype(int)],
    ABOVE,
    np.where(ABOVE, 1, -1),
    np.where(ABOVE, 2.0, 0.0),
    np.where(ABOVE, "é", "ü"),
    pd.Series(np.where(ABOVE, "a", "b"), dtype="category"),
    pd.Series(np.where(ABOVE, "a", "b"), dtype=object),
    pd.Series(ABOVE.astype(int), dtype="Int64"),
    np.array([10, -3, 7, 99])[TARGETS["four classes"]],
    np.array(["d", "c", "b", "a"], object)[TARGETS["four classes"]],
    TARGETS["labels"],
    TARGETS["labels"].tolist(),
]


@pytest.mark.parametrize("y", LABELS, ids=range(len(LABELS)))
def test_labels_of_any_kind_come_back(y):
    how = {"max_iter": 100, "learning_rate_init": 0.02, "random_state": 0}
    its, ours = neural_network.MLPClassifier(**how).fit(X, y), MLPClassifier(**how).fit(X, y)
    predicted, expected = ours.predict(X), its.predict(X)
    assert (predicted.dtype, predicted.shape) == (expected.dtype, expected.shape)
    assert np.mean(predicted == np.asarray(y)) > 0.95
    np.testing.assert_array_equal(ours.classes_, its.classes_)
    assert ours.classes_.dtype == its.classes_.dtype
    assert ours.predict_proba(X).shape == its.predict_proba(X).shape
    for name in ("n_outputs_", "n_layers_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(its, name)
    assert ours.score(X, y) > 0.9
    proba = ours.predict_proba(X)
    assert proba.min() >= 0
    np.testing.assert_allclose(np.exp(ours.predict_log_proba(X)), proba, rtol=1e-12)
    # In parts: the first has one class alone, where labels are one for each sample.
    if predicted.ndim == 1:
        first = np.flatnonzero(np.asarray(y) == ours.classes_[-1])
        parts = MLPClassifier(random_state=0).partial_fit(
            X[first], np.asarray(y)[first], classes=ours.classes_[::-1]
        )
        np.testing.assert_array_equal(parts.partial_fit(X, y).classes_, ours.classes_)


def test_sparse_labels_come_back_sparse():
    model = MLPClassifier(max_iter=2).fit(X, sparse.csr_matrix(TARGETS["labels"]))
    assert sparse.issparse(model.predict(X))


def test_one_class_one_sample_and_constants():
    model = MLPClassifier(max_iter=2).fit(X, ["only"] * 107)
    assert set(model.predict(X)) == {"only"}
    its = neural_network.MLPClassifier(max_iter=2).fit(X, ["only"] * 107)
    assert model.predict_proba(X).shape == its.predict_proba(X).shape
    assert MLPClassifier(max_iter=2).fit(X[:1], [3]).predict(X[:1]) == [3]
    assert MLPRegressor(max_iter=2).fit(X[:1], [3]).predict(X[:1]).shape == (1,)
    constant = MLPRegressor(solver="lbfgs", max_iter=500).fit(X, np.full(107, 7.0))
    np.testing.assert_allclose(constant.predict(X), 7, atol=0.1)


WRONG = [
    ("classifier", {}, np.where(X[3, 2] == X, np.nan, X), ABOVE),
    ("classifier", {}, np.where(X[3, 2] == X, np.inf, X), ABOVE),
    ("classifier", {}, X[:0], ABOVE[:0]),
    ("classifier", {}, X[0], ABOVE[:1]),
    ("classifier", {}, X[:5], ABOVE),
    ("classifier", {}, X + 1j, ABOVE),
    ("classifier", {}, X.astype(str).astype(object) + "x", ABOVE),
    ("classifier", {}, X, X[:, 0]),
    ("classifier", {}, X, np.where(ABOVE, np.nan, 1)),
    ("classifier", {}, X, np.stack([TARGETS["four classes"]] * 2, axis=1)),
    ("classifier", {"alpha": -1}, X, ABOVE),
    ("classifier", {"hidden_layer_sizes": (5, -1)}, X, ABOVE),
    ("classifier", {"activation": "gelu"}, X, ABOVE),
    ("classifier", {"solver": "newton"}, X, ABOVE),
    ("classifier", {"batch_size": 0}, X, ABOVE),
    ("classifier", {"random_state": -1}, X, ABOVE),
    ("classifier", {"random_state": "0"}, X, ABOVE),
    ("classifier", {"early_stopping": True, "validation_fraction": 0.01}, X[:50], X[:50, 0] > 9),
    ("regressor", {}, X, np.where(ABOVE, np.inf, 1)),
    ("regressor", {}, X, np.where(ABOVE, "a", "b").astype(object)),
    ("regressor", {"loss": "huber"}, X, X[:, 0]),
]


@pytest.mark.parametrize(("kind", "how", "x", "y"), WRONG, ids=range(len(WRONG)))
def test_errors_are_scikit_learn_s(kind, how, x, y):
    its, ours = {
        "classifier": (neural_network.MLPClassifier, MLPClassifier),
        "regressor": (neural_network.MLPRegressor, MLPRegressor),
    }[kind]
    with pytest.raises((ValueError, TypeError)) as expected:
        its(**how).fit(x, y)
    with pytest.raises(expected.type) as got:
        ours(**how).fit(x, y)
    words = (sorted(re.findall(r"\w+", str(error.value))) for error in (got, expected))
    assert next(words) == next(words)


def test_more_errors():
    y = TARGETS["two classes"]
    with pytest.raises(NotFittedError):
        MLPClassifier().predict(X)
    with pytest.raises(AttributeError, match="no coefs_ before fit"):
        MLPClassifier().coefs_  # noqa: B018
    with pytest.raises(ValueError, match="could not convert string to float"):
        MLPRegressor().fit(X, np.where(ABOVE, "a", "b"))
    with pytest.raises(ValueError, match="out of the valid range"):
        MLPRegressor(loss="poisson").fit(X, X[:, 0])
    with pytest.raises(ValueError, match="contain at least one non-zero"):
        MLPClassifier().fit(X, y, sample_weight=np.zeros(107))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        MLPClassifier().fit(X, y, sample_weight=-WEIGHT)
    with pytest.raises(ValueError, match="does not support early_stopping"):
        MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier().partial_fit(X, y)
    fitted = MLPClassifier(max_iter=2).fit(X, y)
    with pytest.raises(ValueError, match=r"`y` has classes not in"):
        fitted.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="X has 4 features, but MLPClassifier is expecting 5"):
        fitted.predict(X[:, :4])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fitted.predict(np.where(X > 0, np.nan, X))
    with pytest.raises(ValueError, match="warm_start can only be used where"):
        fitted.set_params(warm_start=True).fit(X, y + 1)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes, activation, loss: expected"):
        fitted.set_params(hidden_layer_sizes=7).fit(X, y)
    with pytest.warns(UserWarning, match="It is going to be clipped"):
        MLPClassifier(batch_size=1000, max_iter=1).fit(X, y)
    with pytest.warns(DataConversionWarning):
        MLPClassifier(max_iter=1).fit(X, y[:, np.newaxis])
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(solver="sgd", learning_rate_init=1e300).fit(X, X[:, 0])
    with config_context(assume_finite=True):
        fitted.predict(np.where(X > 0, np.nan, X))

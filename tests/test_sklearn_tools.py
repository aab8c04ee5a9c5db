"""fastmlp.sklearn in scikit-learn's tools: pipelines, searches, ensembles, pools, routing."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from helpers import assert_same_bits
from joblib import Parallel, delayed, parallel_backend
from sklearn import datasets
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp import threads
from fastmlp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, CODES = datasets.make_classification(300, 8, n_informative=5, random_state=0)
Y = np.array(["no", "yes"])[CODES]


def model(**how):
    how = {"hidden_layer_sizes": 20, "max_iter": 30, "learning_rate_init": 0.02, **how}
    return MLPClassifier(random_state=0, **how)


def test_pipelines_searches_and_frames():
    frame = pd.DataFrame(X, columns=list("abcdefgh"))
    pipe = make_pipeline(StandardScaler(), model()).set_output(transform="pandas")
    assert pipe.fit(frame, Y).score(frame, Y) > 0.9
    assert list(pipe[-1].feature_names_in_) == list(frame)
    assert cross_val_score(pipe, frame, Y, cv=3).mean() > 0.8
    grid = GridSearchCV(pipe, {"mlpclassifier__alpha": [1e-4, 50.0]}, cv=3).fit(frame, Y)
    assert grid.best_params_["mlpclassifier__alpha"] == 1e-4
    found = grid.best_estimator_[-1]
    assert clone(found).get_params() == found.get_params()
    assert "alpha" in repr(found.set_params(alpha=0.5))
    with pytest.raises(ValueError, match="Invalid parameter 'epochs'"):
        found.set_params(epochs=3)


def test_ensembles_and_importances():
    calibrated = CalibratedClassifierCV(model(), cv=2).fit(X, Y, sample_weight=np.ones(300))
    assert calibrated.score(X, Y) > 0.8
    assert BaggingClassifier(model(), 3, random_state=0).fit(X, Y).score(X, Y) > 0.9
    stack = StackingClassifier([("a", model()), ("b", LogisticRegression())], cv=2).fit(X, Y)
    assert stack.score(X, Y) > 0.9
    both = np.stack([Y, Y[::-1]], axis=1)
    assert MultiOutputClassifier(model()).fit(X, both).predict(X).shape == (300, 2)
    found = permutation_importance(model().fit(X, Y), X, Y, n_repeats=2, random_state=0)
    assert found.importances_mean.max() > 0.05
    regressor = MLPRegressor(max_iter=50, random_state=0)
    voted = VotingRegressor([("a", regressor), ("b", regressor)]).fit(X, X[:, 0])
    assert voted.score(X, X[:, 0]) > 0.5
    assert TransformedTargetRegressor(regressor, transformer=StandardScaler()).fit(X, X[:, 0])
    assert is_classifier(model())
    assert is_regressor(regressor)


def test_pools_have_the_bits_of_one_process():
    models = [model(alpha=alpha, n_threads=2) for alpha in (0.1, 0.2, 0.3, 0.4)]
    expected = [clone(one).fit(X, Y).coefs_[0] for one in models]
    for backend in ("loky", "threading"):
        with parallel_backend(backend, n_jobs=2):
            fitted = Parallel()(delayed(clone(one).fit)(X, Y) for one in models)
        for one, W in zip(fitted, expected, strict=True):
            assert_same_bits(one.coefs_[0], W)


def test_pickles_and_copies_hold_all():
    fitted = model(early_stopping=True).fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    assert_same_bits(again.predict_proba(X), fitted.predict_proba(X))
    assert again.loss_curve_ == fitted.loss_curve_
    again.set_params(early_stopping=False), fitted.set_params(early_stopping=False)
    assert_same_bits(again.partial_fit(X, Y).coefs_[0], fitted.partial_fit(X, Y).coefs_[0])


def test_weights_are_routed():
    weight = np.arange(300.0)
    with sklearn.config_context(enable_metadata_routing=True):
        inner = model().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        grid = GridSearchCV(inner, {"alpha": [0.1]}, cv=2).fit(X, Y, sample_weight=weight)
        assert inner.set_partial_fit_request(classes=True)
    expected = model(alpha=0.1).fit(X, Y, sample_weight=weight)
    assert_same_bits(grid.best_estimator_.coefs_[0], expected.coefs_[0])


def test_n_threads_is_the_most_that_a_call_uses(monkeypatch):
    before, used = fastmlp.get_num_threads(), []
    train = fastmlp.MLP._train_epoch

    def watched(*arguments):
        used.append(threads.threads_for(1 << 30))
        return train(*arguments)

    monkeypatch.setattr(fastmlp.MLP, "_train_epoch", watched)
    monkeypatch.setattr(threads, "_may_start_threads", lambda: True)
    fastmlp.set_num_threads(2)
    try:
        for n_threads in (None, 1, 2, 1000):
            model(n_threads=n_threads, max_iter=1).fit(X, Y).predict(X)
        assert used == [2, 1, 2, 2]
        assert threads.threads_for(1 << 30) == 2
    finally:
        fastmlp.set_num_threads(before)
    with pytest.raises(ValueError, match="'n_threads' parameter"):
        model(n_threads=0).fit(X, Y)

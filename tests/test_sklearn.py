"""fastmlp.sklearn: the arithmetic beside scikit-learn's own, the bits, trainings, conversions."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from digests import digest
from helpers import DTYPES, assert_same_bits
from sklearn import datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn_targets import ABOVE, TARGETS, WEIGHT, X, kinds

import fastmlp
from fastmlp.sklearn import MLPClassifier, MLPRegressor, from_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TRAININGS = [
    {},
    {"activation": "tanh", "alpha": 3.0, "beta_1": 0.8, "beta_2": 0.99},
    {"activation": "logistic", "alpha": 0.0},
    {"activation": "identity", "solver": "sgd"},
    {"solver": "sgd", "nesterovs_momentum": False, "learning_rate": "invscaling", "power_t": 0.3},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 2},
    {"solver": "sgd", "momentum": 0.0},
]


def assert_alike(ours, theirs, tolerance=1e-12):
    for mine, its in zip(
        ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True
    ):
        np.testing.assert_allclose(mine, its, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", TARGETS)
def test_from_the_same_weights_a_training_gives_scikit_learn_s(name):
    y, (theirs, _, more) = TARGETS[name], kinds(name)
    for how in TRAININGS:
        for weight in (None, WEIGHT):
            # An epsilon of nothing: its place in Adam's formula is another. 107 = 4 * 25 + 7.
            its = theirs(
                **{"hidden_layer_sizes": (8, 7), "alpha": 0.5, **how, **more},
                batch_size=25, max_iter=1, shuffle=False, warm_start=True, random_state=0,
                epsilon=1e-30, learning_rate_init=0.01,
            )  # fmt: skip
            its.fit(X, y).set_params(max_iter=12)
            ours = from_sklearn(its)
            assert_alike(ours, its, 0)
            ours.fit(X, y, sample_weight=weight), its.fit(X, y, sample_weight=weight)
            assert_alike(ours, its)
            assert (ours.n_iter_, ours.t_) == (its.n_iter_, its.t_)
            # W^2 in an epoch's loss is taken from its two ends.
            np.testing.assert_allclose(ours.loss_curve_, its.loss_curve_, rtol=0.01)
            its.set_params(warm_start=False), ours.set_params(warm_start=False)
            for _ in range(2):
                ours.partial_fit(X, y, sample_weight=weight)
            again = pickle.loads(pickle.dumps(ours)).partial_fit(X, y)
            assert_same_bits(ours.partial_fit(X, y).coefs_[0], again.coefs_[0])


@pytest.mark.parametrize("name", TARGETS)
def test_in_one_batch_the_loss_is_scikit_learn_s(name):
    y, (theirs, _, more) = TARGETS[name], kinds(name)
    how = {"batch_size": 107, "alpha": 2.0, "warm_start": True, "random_state": 0, "tol": 0.0}
    its = theirs(hidden_layer_sizes=6, max_iter=1, epsilon=1e-30, **how, **more).fit(X, y)
    ours = from_sklearn(its.set_params(max_iter=8))
    its.fit(X, y, sample_weight=WEIGHT), ours.fit(X, y, sample_weight=WEIGHT)
    np.testing.assert_allclose(ours.loss_curve_, its.loss_curve_, rtol=1e-12)
    assert ours.best_loss_ == min(ours.loss_curve_) == ours.loss_


@pytest.mark.parametrize("name", TARGETS)
def test_lbfgs_finds_losses_as_low_as_scikit_learn_s(name):
    y, (theirs, kind, more) = TARGETS[name], kinds(name)
    how = {"solver": "lbfgs", "activation": "tanh", "alpha": 1.0, "hidden_layer_sizes": 3, **more}
    for dtype in DTYPES:
        x = X.astype(dtype)
        its = theirs(max_iter=2000, random_state=0, **how).fit(x, y, sample_weight=WEIGHT)
        ours = kind(max_iter=2000, random_state=0, **how).fit(x, y, sample_weight=WEIGHT)
        assert ours.coefs_[0].dtype == dtype
        start = from_sklearn(its).set_params(warm_start=True).fit(x, y, sample_weight=WEIGHT)
        assert start.loss_ <= its.loss_ * (1 + 1e-6)
        # There, gradients of float32 end too early, and those of numbers aren't their loss's.
        if dtype == np.float64 and name != "numbers":
            np.testing.assert_allclose(start.loss_, its.loss_, rtol=1e-6)
        assert ours.loss_ < 1.1 * its.loss_ + 0.02
        assert not hasattr(ours, "partial_fit")
        assert not hasattr(ours, "loss_curve_")
    with pytest.raises(AttributeError, match="partial_fit"):
        ours.partial_fit  # noqa: B018


def test_a_low_max_iter_warns():
    y = TARGETS["two classes"]
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPClassifier(max_iter=2).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge"):
        MLPClassifier(solver="lbfgs", max_iter=2).fit(X, y)


def test_initial_weights_and_biases_are_glorot_s():
    for activation, factor in (("relu", 6), ("logistic", 2)):
        how = {"hidden_layer_sizes": 300, "activation": activation, "random_state": 3}
        model = MLPRegressor(learning_rate_init=1e-12, max_iter=1, **how).fit(X, X[:, 0])
        for inputs_, W, b in zip((5, 300), model.coefs_, model.intercepts_, strict=True):
            bound = np.sqrt(factor / (inputs_ + W.shape[1]))
            for values in (W, b) if b.size > 1 else (W,):
                assert 0.9 * bound < np.abs(values).max() <= bound + 1e-9
                assert np.abs(values.mean()) < bound / 5


# What coefs_ and intercepts_ are on every machine.
BITS = {
    np.float32: "748024b851a85f3f671ebdc0293d95fa8cfcba335be47868871ed9ab5b5265d7",
    np.float64: "9a57a3c5e27fe329b1733e0518c5cbb8fe7ba3338e72e02e4731bf1896b5d1b1",
}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_weights_have_the_same_bits_everywhere(dtype, threads):
    x, names = X.astype(dtype), np.array(["no", "yes"])
    arrays = []
    for how in TRAININGS[:-1]:
        more = {"batch_size": 20, "max_iter": 4, "random_state": 7, "hidden_layer_sizes": (20, 9)}
        for y in (names[TARGETS["two classes"]], TARGETS["four classes"], TARGETS["labels"]):
            model = MLPClassifier(**how, **more).fit(x, y, sample_weight=WEIGHT)
            arrays += model.coefs_ + model.intercepts_ + [np.array(model.loss_curve_)]
        for name in ("numbers", "a count"):
            model = MLPRegressor(**how, **more, loss=kinds(name)[2].get("loss", "squared_error"))
            model.fit(x, TARGETS[name]).partial_fit(x, TARGETS[name])
            arrays += [*model.coefs_, *model.intercepts_, model.predict(x)]
    assert digest(*arrays) == BITS[dtype]


def test_random_states_are_seeds():
    y, how = TARGETS["two classes"], {"max_iter": 3}
    same = MLPClassifier(random_state=np.random.RandomState(5), **how).fit(X, y)
    seed = int(np.random.RandomState(5).randint(np.iinfo(np.int32).max))
    assert_same_bits(same.coefs_[0], MLPClassifier(random_state=seed, **how).fit(X, y).coefs_[0])
    np.random.seed(5)
    assert_same_bits(same.coefs_[0], MLPClassifier(**how).fit(X, y).coefs_[0])
    first, second = (MLPClassifier(**how).fit(X, y) for _ in range(2))
    assert (first.coefs_[0] != second.coefs_[0]).any()
    state = MLPClassifier(random_state=1, **how).fit(X, y)
    assert_same_bits(state.fit(X, y).coefs_[0], clone(state).fit(X, y).coefs_[0])


def test_fit_starts_anew_and_warm_start_goes_on():
    y, how = TARGETS["four classes"], {"random_state": 0, "max_iter": 3}
    once = MLPClassifier(**how).fit(X, y)
    again = MLPClassifier(**how).fit(X[:, :3], ABOVE).fit(X, y)  # other features, other classes
    assert_same_bits(once.coefs_[0], again.coefs_[0])
    assert once.loss_curve_ == again.loss_curve_
    deeper = clone(once).set_params(hidden_layer_sizes=(3, 4), activation="tanh").fit(X, y)
    assert [W.shape for W in deeper.coefs_] == [(5, 3), (3, 4), (4, 4)]
    assert [b.shape for b in deeper.intercepts_] == [(3,), (4,), (4,)]
    warm = MLPClassifier(warm_start=True, **how).fit(X, y).fit(X, y)
    assert (len(warm.loss_curve_), warm.n_iter_, warm.t_) == (6, 3, 6 * 107)
    assert warm.loss_curve_[:3] == once.loss_curve_
    assert warm.set_params(solver="lbfgs").fit(X, y).loss_ < once.loss_
    linear = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs").fit(X, TARGETS["numbers"])
    assert linear.score(X, TARGETS["numbers"]) > 0.999


def test_early_stopping_leaves_the_best_weights():
    x, y = datasets.make_classification(400, 20, flip_y=0.3, random_state=0)
    how = {"early_stopping": True, "random_state": 1, "max_iter": 300, "learning_rate_init": 0.01}
    best = MLPClassifier(n_iter_no_change=5, **how).fit(x, y)
    last = MLPClassifier(n_iter_no_change=5, restore_best=False, **how).fit(x, y)
    assert best.validation_scores_ == last.validation_scores_
    assert best.best_validation_score_ == max(best.validation_scores_)
    assert best.best_loss_ is None
    until = int(np.argmax(best.validation_scores_))
    assert 0 < until < best.n_iter_ - 1 < 299
    shorter = MLPClassifier(restore_best=False, **{**how, "max_iter": until + 1}).fit(x, y)
    assert_same_bits(best.coefs_[0], shorter.coefs_[0])
    assert (best.coefs_[0] != last.coefs_[0]).any()
    for target in (x[:, 0], x[:, :2]):
        scores = MLPRegressor(**how).fit(x, target).validation_scores_
        assert max(scores) > 0.5
    several = MLPClassifier(**how).fit(x, (x[:, :3] > 0).astype(int), sample_weight=np.abs(x[:, 0]))
    assert max(several.validation_scores_) > 0.5


def test_class_weights_are_weights_of_samples():
    y, how = np.where(ABOVE, "a", "b"), {"max_iter": 3, "random_state": 0}
    weight = {"a": 5.0, "b": 0.5}
    expected = MLPClassifier(**how).fit(X, y, sample_weight=np.where(ABOVE, 5.0, 0.5) * WEIGHT)
    ours = MLPClassifier(class_weight=weight, **how).fit(X, y, sample_weight=WEIGHT)
    assert_same_bits(ours.coefs_[0], expected.coefs_[0])
    counts = {"a": ABOVE.sum(), "b": (~ABOVE).sum()}
    balanced = MLPClassifier(class_weight="balanced", **how).fit(X, y)
    expected = MLPClassifier(**how).fit(X, y, sample_weight=[107 / (2 * counts[k]) for k in y])
    assert_same_bits(balanced.coefs_[0], expected.coefs_[0])
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
        balanced.partial_fit(X, y)
    ours.partial_fit(X[ABOVE], y[ABOVE])
    with pytest.raises(ValueError, match="not supported for several labels"):
        MLPClassifier(class_weight=weight).fit(X, TARGETS["labels"])


def test_assigned_weights_are_the_model_s():
    y = TARGETS["four classes"]
    model, other = (MLPClassifier(random_state=seed, max_iter=2).fit(X, y) for seed in (0, 1))
    model.coefs_, model.intercepts_[0] = other.coefs_, other.intercepts_[0]
    model.intercepts_[1][...] = other.intercepts_[1]
    assert_same_bits(model.predict_proba(X), other.predict_proba(X))
    inside = model.to_fastmlp()
    assert isinstance(inside, fastmlp.MLP)
    assert_same_bits(model.classes_[inside.predict(X)], model.predict(X))
    for wrong in ([other.coefs_[0]], other.intercepts_):
        with pytest.raises(ValueError, match="expected"):
            model.coefs_ = wrong


@pytest.mark.parametrize("name", TARGETS)
def test_conversions_there_and_back(name):
    y, (theirs, kind, more) = TARGETS[name], kinds(name)
    for dtype in DTYPES:
        x = X.astype(dtype)
        its = theirs(max_iter=5, random_state=0, **more).fit(x, y)
        ours = from_sklearn(its)
        assert_alike(ours, its, 0)
        tolerance = 1e-3 if dtype == np.float32 else 1e-9
        np.testing.assert_allclose(ours.predict(x), its.predict(x), rtol=tolerance)
        assert ours.get_params()["max_iter"] == 5
        back = ours.to_sklearn()
        assert type(back) is theirs
        assert_same_bits(back.predict(x), its.predict(x))
        assert back.loss_curve_ == its.loss_curve_
        assert back.partial_fit(x, y).t_ == ours.partial_fit(x, y).t_ == its.t_ + 107
        trained = kind(max_iter=5, random_state=0, **more).fit(x, y)
        back = trained.to_sklearn()
        np.testing.assert_allclose(back.predict(x), trained.predict(x), rtol=tolerance)
    with pytest.raises(TypeError, match="expected scikit-learn's"):
        from_sklearn(ours)
    with pytest.raises(NotFittedError):
        from_sklearn(theirs())


def test_an_interrupt_ends_the_training_with_what_it_has(monkeypatch):
    y, calls = TARGETS["two classes"], []

    def interrupted(model, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(model, *arguments)

    epoch = fastmlp.MLP._train_epoch
    monkeypatch.setattr(fastmlp.MLP, "_train_epoch", interrupted)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model = MLPClassifier(random_state=0).fit(X, y)
    monkeypatch.undo()
    assert model.n_iter_ == 2
    same = MLPClassifier(random_state=0, max_iter=2).fit(X, y)
    assert_same_bits(model.coefs_[0], same.coefs_[0])


def test_verbose_tells_what_scikit_learn_tells(capsys):
    y = TARGETS["two classes"]
    model = MLPClassifier(verbose=True, max_iter=60, tol=0.5, random_state=0).fit(X, y)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"Iteration 1, loss = {model.loss_curve_[0]:.8f}"
    assert said[-1].startswith("Training loss did not improve more than tol=0.500000 for 10")
    how = {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 1e-6}
    MLPClassifier(verbose=True, tol=0.5, n_iter_no_change=1, **how).fit(X, y)
    assert "Learning rate too small. Stopping." in capsys.readouterr().out
    MLPClassifier(verbose=True, early_stopping=True, max_iter=1).fit(X, y)
    assert "Validation score: " in capsys.readouterr().out
    MLPClassifier(verbose=True, solver="lbfgs", max_iter=2).fit(X, y)
    assert "Iteration 2, loss = " in capsys.readouterr().out


def test_the_package_alone_never_imports_scikit_learn():
    code = (
        "import sys, fastmlp; model = fastmlp.MLP([4, 3, 2]); model.predict"
        "; assert not [name for name in sys.modules if name.split('.')[0] == 'sklearn']"
        "; sys.modules['sklearn'] = None"
        "\ntry: import fastmlp.sklearn"
        "\nexcept ImportError as error: assert 'pip install' in str(error), error"
        "\nelse: raise AssertionError"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

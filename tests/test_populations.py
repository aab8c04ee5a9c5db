"""What is made for fit_many, and what many models say together."""

import copy
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, reference
from fastmlp.population import answers

X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 40)


def test_members_have_weights_of_their_own():
    model = MLP([4, 5, 3], rng=0)
    model.fit(X, LABELS, epochs=1)
    before = model.flat_parameters.copy()
    members = fastmlp.ensemble(model, 3, rng=7)
    seeds = np.random.PCG64(7).random_raw(3).tolist()
    for member, seed in zip(members, seeds, strict=True):
        assert (member.flat_parameters == MLP([4, 5, 3], rng=seed).flat_parameters).all()
        assert member.optimizer_state is None
    assert (model.flat_parameters == before).all()
    assert isinstance(reference.ensemble(reference.MLP([4, 3]), 1)[0], reference.MLP)


def test_folds_hold_out_each_sample_once():
    folds = fastmlp.kfold(11, 3, rng=5)
    assert [len(held) for _, held in folds] == [4, 4, 3]
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(11))
    for rows, held in folds:
        assert sorted([*rows.tolist(), *held.tolist()]) == list(range(11))
    assert [held.tolist() for _, held in fastmlp.kfold(11, 3, rng=6)] != [
        held.tolist() for _, held in folds
    ]
    for wrong in (1, 12):
        with pytest.raises(ValueError, match="folds: expected 2 to n, 11"):
            fastmlp.kfold(11, wrong)


def test_bootstraps_draw_from_the_published_stream():
    raw = np.random.PCG64(7).random_raw(40).tolist()
    expected = [int((one >> 11) / 2**53 * 20) for one in raw]
    assert np.concatenate(fastmlp.bootstrap(20, 2, rng=7)).tolist() == expected
    for wrong in ({"n": 0, "models": 2}, {"n": 2, "models": 0}):
        with pytest.raises(ValueError, match="expected 1 or more, got 0"):
            fastmlp.bootstrap(**wrong)


def test_a_swept_model_has_the_bits_that_it_has_alone():
    model = MLP([4, 5, 3], rng=1)
    models, lists = fastmlp.sweep(model, learning_rate=[0.1, 0.01], weight_decay=[0.0, 0.1])
    assert lists["learning_rate"] == [0.1, 0.1, 0.01, 0.01]
    assert lists["weight_decay"] == [0.0, 0.1, 0.0, 0.1]
    fastmlp.fit_many(models, X, LABELS, epochs=2, rng=3, **lists)
    for number, one in enumerate(models):
        alone = copy.deepcopy(model)
        own = {name: each[number] for name, each in lists.items()}
        alone.fit(X, LABELS, epochs=2, rng=3, **own)
        assert (alone.flat_parameters == one.flat_parameters).all()


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_joint_predictions_are_those_of_the_models(module):
    models = [module.MLP([4, 6, 3], rng=i) for i in range(5)]
    each = np.stack([model.predict(X) for model in models])
    assert (module.predict_many(models, X) == each).all()
    votes = module.predict_many(models, X, combine="vote").tolist()
    assert votes == [np.bincount(column, minlength=3).argmax() for column in each.T]
    assert len({*votes}) > 1
    probabilities = np.stack([model.predict_proba(X) for model in models])
    assert (module.predict_proba_many(models, X) == probabilities).all()
    wide = probabilities.astype(np.float64)
    for combine in ("mean", "std"):
        found = module.predict_proba_many(models, X, combine=combine)
        assert found.dtype == np.float32
        assert np.abs(found - getattr(wide, combine)(axis=0)).max() < 1e-7
    scores = module.score_many(models, X, LABELS, sample_weight=np.arange(40))
    expected = [model.score(X, LABELS, sample_weight=np.arange(40)) for model in models]
    assert scores.tolist() == expected


@pytest.mark.parametrize("rows", [0, 1, 3, 40, 300])
def test_models_of_any_kind_predict_as_alone(rows, threads, monkeypatch):
    monkeypatch.setattr(answers, "MOST_BYTES", 4000)  # several calls
    x = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
    binary = {"loss": "binary_cross_entropy", "activation": "tanh"}
    for kind in ({}, {"activation": "gelu"}, {"dtype": np.float64}, binary):
        models = [MLP([4, 9, 2], rng=i, **kind) for i in range(7)]
        models.insert(3, MLP([4, 3, 2], rng=9, **kind))
        models[5].W1[0, 0] = np.inf
        models[6].W2[:] = np.nan
        for method in ("predict", "predict_proba"):
            with np.errstate(all="ignore"):
                found = getattr(fastmlp, f"{method}_many")(models, x)
                each = np.stack([getattr(model, method)(x) for model in models])
            assert (found.dtype, found.tobytes()) == (each.dtype, each.tobytes())
    if rows:
        x[-1, 2] = np.inf
        with pytest.raises(ValueError, match=rf"x\[{rows - 1}, 2\]: expected finite numbers"):
            fastmlp.predict_many(models, x)
        fastmlp.predict_many(models, x, check_finite=False)


def test_joint_predictions_of_numbers_and_labels():
    models = [MLP([4, 6, 2], rng=i, loss="squared_error", dtype=np.float64) for i in range(4)]
    each = np.stack([model.predict(X.astype(np.float64)) for model in models])
    for combine in ("mean", "std"):
        found = fastmlp.predict_many(models, X.astype(np.float64), combine=combine)
        assert np.abs(found - getattr(each, combine)(axis=0)).max() < 1e-14
    labels = [MLP([4, 6, 2], rng=i, loss="binary_cross_entropy") for i in range(3)]
    each = np.stack([model.predict(X) for model in labels])
    assert (fastmlp.predict_many(labels, X, combine="vote") == (each.sum(axis=0) > 1)).all()


@pytest.mark.parametrize(
    ("models", "combine", "message"),
    [
        ([], None, "models: expected at least one model, got none"),
        ([MLP([4, 3])], "mean", r"combine: expected None, or one of \['vote'\], got 'mean'"),
        ([MLP([4, 3], loss="squared_error")], "vote", r"expected None, or one of \['mean', 's"),
        ([MLP([4, 3]), MLP([4, 2], loss="squared_error")], None, r"models\[1\]: expected results"),
        ([MLP([3, 3])], None, "x: expected"),
    ],
    ids=["none", "mean", "vote", "others", "x"],
)
def test_what_does_not_fit_together_is_refused(models, combine, message):
    with pytest.raises(ValueError, match=message):
        fastmlp.predict_many(models, X, combine=combine)


def test_the_example_draws_its_band(tmp_path):
    path = Path(__file__).parents[1] / "examples" / "error_band.py"
    example = SimpleNamespace(**runpy.run_path(str(path)))
    members, _ = example.train(models=12)
    example.draw(members, tmp_path / "band.svg")
    assert "</svg>" in (tmp_path / "band.svg").read_text()
    points = np.float32([[0.8], [0.0]])
    inside, between = fastmlp.predict_many(members, points, combine="std")
    assert inside < 0.5 * between  # they agree where samples are

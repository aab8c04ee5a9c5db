"""What targets and weights are refused, before anything is written, and that the mends work."""

import copy

import numpy as np
import pytest
from helpers import assert_same_bits
from odd_inputs import Frame
from test_mends import codes_of

import fastmlp
from fastmlp import reference

X = np.eye(4, dtype=np.float32)
Y = np.array([0.5, 1, 2, 3], np.float32)
Y_OF_NAN = np.where(Y == 2, np.float32(np.nan), Y)
each_module = pytest.mark.parametrize("module", [fastmlp, reference], ids=["fastmlp", "reference"])

# The loss, the outputs, y, the error and its words; then those whose mend is code.
WORDS = [
    ("squared_error", 1, Y[:3], ValueError, r"y: expected shape \(4,\), a target for each sample"),
    (
        "squared_error",
        3,
        Y,
        ValueError,
        r"y: expected shape \(4, 3\), .* with 1 output",
    ),
    (
        "squared_error",
        1,
        X[:, :2],
        ValueError,
        r"got shape \(4, 2\); make the model with 2",
    ),
    ("huber", 1, Y_OF_NAN, ValueError, r"y\[2\]: expected finite numbers, got nan"),
    (
        "huber",
        2,
        X[:, :2] - np.float32(np.inf),
        ValueError,
        r"y\[0, 0\]: expected finite numbers, got -inf",
    ),
    ("poisson", 1, Y - 1, ValueError, r"y\[0\]: expected 0 or more.*got -0.5; make the model with"),
    ("poisson", 2, X[:, :2] - 1, ValueError, r"y\[0, 1\]: expected 0 or more"),
    ("binary_cross_entropy", 1, Y, ValueError, r"y\[0\]: expected 0 or 1, got 0.5; give 0 or 1"),
    ("binary_cross_entropy", 1, [0, 1, 2, 1], ValueError, r"y\[2\]: expected 0 or 1, got 2"),
    (
        "squared_error",
        1,
        ["a", "b", "a", "b"],
        TypeError,
        "y: .*array of float32, got <U",
    ),
]
CODE = [
    ("squared_error", 1, Y.astype(np.float64)),
    ("squared_error", 1, Y.tolist()),
    ("squared_error", 1, Y.astype(complex)),
    ("squared_error", 1, Frame(Y.astype(np.float64))),
    ("squared_error", 1, np.array(["1", "2", "0.5", "3"])),
    ("squared_error", 1, np.full(4, 2**24 + 1)),
    ("squared_error", 1, Y[np.newaxis]),
    ("squared_error", 2, np.ascontiguousarray(X[:, :2].T)),
    ("squared_error", 2, X[:, :2].reshape(-1)),
    ("poisson", 1, np.ma.masked_array(Y, Y == 1)),
    ("binary_cross_entropy", 1, ["no", "yes", "no", "no"]),
    ("binary_cross_entropy", 1, np.array([-1, 1, 1, -1])),
    ("binary_cross_entropy", 1, np.array([[1], [2], [2], [1]])),
    ("binary_cross_entropy", 2, np.array([["a", "b"]] * 4)),
    ("binary_cross_entropy", 2, np.array([[-1, 1]] * 4)),
    ("cross_entropy", 2, ["no", "yes", "no", "no"]),
]
FINE = [
    ("squared_error", 1, Y[:, np.newaxis]),
    ("squared_error", 1, Y.astype(np.float16)),
    ("squared_error", 1, np.arange(4)),
    ("squared_error", 1, Y == 1),
    ("squared_error", 1, Y.astype(">f4")),
    ("poisson", 2, np.asfortranarray(X[:, :2])),
    ("binary_cross_entropy", 1, [True, False, True, True]),
    ("binary_cross_entropy", 2, X[:, :2].astype(np.int64)),
]


def refused(model, message, error, *arguments, **how):
    before = model.flat_parameters.copy()
    with pytest.raises(error, match=message) as refusal:
        model.fit(*arguments, epochs=1, **how)
    assert_same_bits(model.flat_parameters, before)
    text = str(refusal.value)
    assert ": expected " in text
    assert ", got " in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("row", WORDS, ids=lambda row: row[0])
@each_module
def test_targets_that_are_refused_in_words(module, row):
    loss, outputs, y, error, message = row
    model = module.MLP([4, outputs], rng=0, loss=loss)
    assert not [code for code in codes_of(refused(model, message, error, X, y)) if "y" in code]
    for method in (model.score, model.loss):
        with pytest.raises(error, match=message):
            method(X, y)
    good = np.ones((4, outputs), np.float32)
    with pytest.raises(error, match=message.replace("y", r"validation\[1\]", 1)):
        model.fit(X, good, validation=(X, y))
    model.forward(X)
    with pytest.raises(error, match="label"):
        model.backward(y)


@pytest.mark.parametrize("row", CODE, ids=lambda row: row[0])
@each_module
def test_the_mend_of_targets_works(module, row):
    loss, outputs, y = row
    model = module.MLP([4, outputs], rng=0, loss=loss)
    text = refused(model, "^y", (TypeError, ValueError), X, y)
    names = {"np": np, "fastmlp": fastmlp, "y": copy.deepcopy(y)}
    model.fit(X, eval(codes_of(text)[0], names), epochs=1)


@pytest.mark.parametrize("row", FINE, ids=lambda row: row[0])
def test_targets_that_are_fine(row):
    loss, outputs, y = row
    models = [module.MLP([4, outputs], rng=0, loss=loss) for module in (fastmlp, reference)]
    plain = np.ascontiguousarray(y, np.float32).reshape(4, outputs)
    models.append(fastmlp.MLP([4, outputs], rng=0, loss=loss))
    for model, each in zip(models, (y, y, plain), strict=True):
        model.fit(X, each, epochs=1, rng=0)
        assert_same_bits(model.flat_parameters, models[0].flat_parameters)


@each_module
def test_targets_that_are_not_finite_pass_unchecked(module):
    model = module.MLP([4, 1], rng=0, loss="squared_error")
    assert np.isnan(model.fit(X, Y_OF_NAN, epochs=1, check_finite=False).loss).all()
    assert np.isnan(model.loss(X, Y_OF_NAN, check_finite=False))


WEIGHTS = [
    (np.ones(3), r"sample_weight: expected shape \(4,\), .* got shape \(3,\); give a weight"),
    (np.ones((4, 1)), r"sample_weight: .* got shape \(4, 1\); pass sample_weight.reshape\(-1\)"),
    ([1, 1, -1, 1], r"sample_weight\[2\]: expected finite numbers of 0 or more, got -1.0"),
    ([1, np.nan, 1, 1], r"sample_weight\[1\]: expected finite numbers of 0 or more, got nan"),
    (np.zeros(4), "sample_weight: expected .* above 0 .* all 0; pass sample_weight=None"),
    (np.full(4, 1e308), "sample_weight: expected .* finite, got a sum of inf"),
    (["a"] * 4, "sample_weight: expected an array of float64 or a narrower dtype, got <U1"),
]
CLASSES = [
    ("even", "class_weight: expected a dict, an array or 'balanced', got 'even'"),
    ({2: 1.0}, r"class_weight: expected classes 0 to 1, got the class 2; leave 2 out"),
    ({"a": 1.0}, "class_weight: expected an integer, got str"),
    ([1, 2, 3], r"class_weight: expected shape \(2,\), a weight for each class"),
    ([1, -1], "class_weight: expected finite numbers of 0 or more, got -1.0"),
    ({0: [1, 2]}, r"class_weight\[0\]: expected a number, got shape \(2,\); give one weight"),
    ({0: 0, 1: 0}, "class_weight: expected .* all 0; pass class_weight=None"),
]


@each_module
def test_weights_that_are_refused(module):
    model, labels = module.MLP([4, 2], rng=0), [0, 1, 0, 1]
    for weight, message in WEIGHTS:
        refused(model, message, (TypeError, ValueError), X, labels, sample_weight=weight)
        for method in (model.score, model.loss):
            with pytest.raises((TypeError, ValueError), match=message):
                method(X, labels, sample_weight=weight)
    for weight, message in CLASSES:
        refused(model, message, (TypeError, ValueError), X, labels, class_weight=weight)
    regression = module.MLP([4, 1], rng=0, loss="squared_error")
    message = "class_weight: expected a loss of classes.*got squared_error with 1 outputs"
    refused(regression, message, ValueError, X, Y, class_weight="balanced")


@each_module
def test_weights_are_what_was_given_whatever_a_callback_writes(module):
    y, weight = Y.copy(), np.array([1.0, 2, 3, 4])

    def fit(callback=None):
        model = module.MLP([4, 1], rng=0, loss="squared_error")
        how = {"sample_weight": weight, "validation": (X, y), "callback": callback}
        history = model.fit(X, y, epochs=3, batch_size=2, rng=0, **how)
        return history.loss, history.validation_loss

    def write(_):
        y.fill(0)
        weight.fill(1)

    expected = fit()
    assert fit(write) == expected


@each_module
def test_models_that_are_refused(module):
    for how, message in [
        ({"loss": "mse"}, r"loss: expected one of \['cross_entropy', .*'huber'.*got 'mse'; pass"),
        ({"loss": None}, "loss: expected one of"),
        (
            {"delta": 2.0},
            "delta: expected None, as the loss is cross_entropy, got 2.0",
        ),
        ({"loss": "huber", "delta": 0}, "delta: expected a finite number above 0, got 0"),
        ({"loss": "huber", "delta": np.nan}, "delta: expected a finite number above 0, got nan"),
        ({"loss": "huber", "delta": "1"}, r"delta: expected a real number, got str; pass float\("),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            module.MLP([4, 1], **how)
    with pytest.raises(ValueError, match=r"pass sizes=\[4, 2\] .* or loss='binary_cross_entropy'"):
        module.MLP([4, 1])
    model = module.MLP([4, 1], rng=0, loss="squared_error")
    for method in (model.predict_proba, model.predict_log_proba):
        with pytest.raises(ValueError, match="classes, got 'squared_error'; predict"):
            method(X)

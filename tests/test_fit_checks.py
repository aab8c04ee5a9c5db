"""What fit is given: read once, or refused before anything changes."""

import numpy as np
import pytest
from helpers import assert_same_bits
from test_fit import SIZES, data

import fastmlp
from fastmlp import reference
from fastmlp.labels import class_labels


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_what_was_given_is_what_counts_whatever_a_callback_writes(module):
    x, labels = data(64)
    rates = np.linspace(0.1, 0.01, 12)
    how = {"epochs": 3, "batch_size": 16, "optimizer": "sgd", "rng": 7}

    def fit(y, rates, y_validation, callback=None):
        model, validation = module.MLP(SIZES, rng=1), (x, y_validation)
        history = model.fit(
            x, y, learning_rate=rates, validation=validation, callback=callback, **how
        )
        return history.loss, history.validation_loss, history.validation_accuracy

    expected = fit(labels.copy(), rates.copy(), labels.copy())
    one_hot = fastmlp.one_hot(labels, SIZES[-1])
    for y in (labels.copy(), labels.astype(np.int32), labels.tolist(), one_hot):
        given = [y, rates.copy(), labels.copy()]

        def write(_, given=given):
            for array in given:
                array[:] = array[::-1]  # other labels, and no index out of range

        assert fit(*given, write) == expected


def test_labels_that_change_while_they_are_checked_are_in_range_all_the_same(monkeypatch):
    y, look = np.array([0, 1, 0, 1]), np.flatnonzero

    def write_and_look(wrong):
        y.fill(10**12)
        return look(wrong)

    monkeypatch.setattr(np, "flatnonzero", write_and_look)
    assert class_labels("y", y, 2, 4).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": np.zeros((30, 20))}, TypeError, "x: expected float32"),
        ({"x": np.zeros((30, 19), np.float32)}, ValueError, "x: expected .* 20 numbers"),
        ({"x": np.zeros((0, 20), np.float32), "y": []}, TypeError, "y: expected integers"),
        (
            {"x": np.zeros((0, 20), np.float32), "y": np.zeros(0, int)},
            ValueError,
            "x: .*one sample",
        ),
        ({"y": np.zeros(29, int)}, ValueError, r"y: expected shape \(30,\)"),
        ({"y": np.full(30, 6)}, ValueError, r"y\[0\]: expected 0 to 5, got 6"),
        ({"y": np.full(30, -1)}, ValueError, r"y\[0\]: expected 0 to 5, got -1"),
        ({"y": np.zeros(30)}, TypeError, "y: expected integers, got float64"),
        ({"y": np.full((30, 6), 0.5)}, ValueError, "y: expected integers, or one-hot rows"),
        ({"y": np.zeros((30, 5))}, ValueError, r"y: expected shape \(30, 6\)"),
        ({"epochs": 0}, ValueError, "epochs: expected 1 or more, got 0"),
        ({"epochs": 1.5}, TypeError, "epochs: expected an integer, got float"),
        ({"batch_size": -3}, ValueError, "batch_size: expected 1 or more"),
        ({"batch_size": True}, TypeError, "batch_size: expected an integer"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate: expected a real number"),
        ({"learning_rate": np.inf}, ValueError, "learning_rate: expected finite"),
        (
            {"learning_rate": [0.1, 0.2]},
            ValueError,
            r"learning_rate: .* shape \(10,\) for 10 epochs",
        ),
        ({"optimizer": "rmsprop"}, ValueError, "optimizer: expected one of .*'adam'"),
        ({"optimizer": None}, ValueError, "optimizer: expected one of"),
        ({"momentum": 1.0}, ValueError, "momentum: expected 0 <= value < 1"),
        ({"weight_decay": -1}, ValueError, "weight_decay: expected 0 or more"),
        ({"optimizer": "AdamW"}, ValueError, "expected one of .*'nesterov', 'adam', 'adamw'.*got"),
        ({"max_norm": 0}, ValueError, "max_norm: expected a number above 0, or None, got 0.0"),
        ({"max_norm": -1.5}, ValueError, "max_norm: expected a number above 0"),
        ({"max_norm": np.nan}, ValueError, "max_norm: expected a number above 0, or None, got nan"),
        ({"max_norm": True}, TypeError, "max_norm: expected a real number, got bool"),
        ({"max_norm": "big"}, TypeError, "max_norm: expected a real number, got str"),
        ({"decay_bias": None}, TypeError, "decay_bias: expected True or False, got NoneType"),
        ({"decay_bias": 0}, TypeError, "decay_bias: expected True or False, got int"),
        ({"validation": 0.1}, TypeError, "validation: expected a pair"),
        (
            {"validation": (np.zeros((3, 20), np.float32), [0, 1, 6])},
            ValueError,
            r"validation\[1\]\[2\]",
        ),
        ({"rng": -1}, ValueError, "rng: expected a seed of 0 or more"),
    ],
)
@pytest.mark.parametrize("module", [fastmlp, reference])
def test_what_does_not_fit_is_refused_before_anything_changes(module, changed, error, message):
    x, labels = data(30)
    model = module.MLP(SIZES, rng=0)
    before = model.flat_parameters.copy()
    arguments = {"x": x, "y": labels} | changed
    with pytest.raises(error, match=message):
        model.fit(arguments.pop("x"), arguments.pop("y"), **arguments)
    assert_same_bits(model.flat_parameters, before)

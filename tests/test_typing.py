"""What users' type checkers and completions see: the names that exist, and no others."""

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

import fastmlp
from fastmlp import choices, reference
from fastmlp.model.losses import LOSSES
from fastmlp.plan.ways import STATES
from fastmlp.reference.activations import CLASSES

USER = """
import numpy as np
import fastmlp
from fastmlp import reference

model = fastmlp.MLP([4, 3, 2], activation="tanh", loss="cross_entropy")
x, y = np.ones((4, 4), np.float32), np.arange(4) % 2
history = model.fit(x, y, optimizer="adam", patience=3, validation=(x, y), monitor="loss")
model.W1[:] = model.W2_grad.sum() + model.log_prob.sum() + history.loss[0]
print(model.W1.shape, reference.MLP([4, 2]).W1, fastmlp.get_arithmetic())
fastmlp.fit_many([model], x, y, optimizer=["sgd"])
"""
WRONG = {
    'model.fit(x, y, optimizer="Adam")': "optimizer",
    'model.partial_fit(x, y, optimizer="adm")': "optimizer",
    "model.wieghts": 'has no attribute "wieghts"',
    "model.learning_rate = 0.1": 'has no attribute "learning_rate"',
    'fastmlp.MLP([4, 2], activation="Relu")': "activation",
    'reference.MLP([4, 2], loss="mse")': "loss",
    'model.fit(x, y, monitor="val_loss")': "monitor",
    'fastmlp.fit_many([model], x, y, optimizer="Adam")': "optimizer",
    'fastmlp.set_arithmetic("Numpy")': "set_arithmetic",
    'fastmlp.predict_many([model], x, combine="median")': "combine",
    'fastmlp.compute_loss(x, x, loss="mse")': "loss",
    "fastmlp.Matmull()": "Matmull",
}


def test_a_strict_type_checker_sees_wrong_names(tmp_path):
    (tmp_path / "user.py").write_text(USER + "\n".join(WRONG) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "user.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    first, lines = USER.count("\n") + 1, done.stdout.splitlines()
    found = {int(line.split(":")[1]): line for line in lines if ": error:" in line}
    assert [*found] == [first + number for number in range(len(WRONG))], done.stdout + done.stderr
    for (code, word), line in zip(WRONG.items(), found.values(), strict=True):
        assert word in line, code


def test_the_types_names_are_those_of_the_checks():
    assert set(get_args(choices.Activation)) == {*CLASSES}
    assert set(get_args(choices.LossName)) == {*LOSSES}
    assert set(get_args(choices.Optimizer)) == {*STATES}


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_dir_of_the_package_is_what_it_offers(module):
    names = {name for name in dir(module) if not (name.startswith("__") and name.endswith("__"))}
    assert names == {*module.__all__}
    assert {"__all__", "__doc__", "__name__"} <= {*dir(module)}
    assert all(hasattr(module, name) for name in dir(module))


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_dir_of_a_model_has_its_arrays(module):
    model = module.MLP([4, 3, 2], rng=0)
    arrays = {"W1", "W2", "W1_grad", "W2_grad", "log_prob", "h2_log"}
    assert arrays | {"fit", "flat_parameters"} <= {*dir(model)}
    assert "W3" not in dir(model)
    model.forward(np.ones((1, 4), np.float32))
    assert all(hasattr(model, name) for name in arrays)
    assert "log_prob" not in dir(module.MLP([4, 2], loss="squared_error"))

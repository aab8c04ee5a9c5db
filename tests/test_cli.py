import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import with_threads

import fastmlp
from fastmlp import threads
from fastmlp.commands import jobs
from fastmlp.commands.cli import main
from fastmlp.operations.gradient_check import GradientCheck


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(before)


def run(*arguments):
    """The exit code, as the process would have it."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


def test_train(small_mnist, capsys):
    options = ["--data", str(small_mnist), "--epochs", "2", "--batch-size", "100", "--hidden", "16"]
    assert run("train", *options) == 0
    first = capsys.readouterr()
    assert first.out.splitlines()[1].startswith("test loss ")
    assert first.out.splitlines()[2].startswith("SHA-256 of the weights ")
    for word in ("2/2", "epochs/s", "loss=", "accuracy="):
        assert word in first.err
    assert run("train", *options) == 0
    assert capsys.readouterr().out.splitlines()[-1] == first.out.splitlines()[-1]
    assert run("train", *options, "--seed", "1") == 0
    assert capsys.readouterr().out.splitlines()[-1] != first.out.splitlines()[-1]


def test_training_that_diverges_is_a_users_error(small_mnist, capsys):
    options = ["--data", str(small_mnist), "--epochs", "2", "--hidden", "16"]
    assert run("train", *options, "--learning-rate", "1e30") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: fit: expected finite losses and weights, got a loss of " in last


def test_train_has_the_same_bits_with_any_number_of_threads(small_mnist):
    model, _ = jobs.train(small_mnist, hidden=[64], epochs=1, batch_size=600)
    fastmlp.set_num_threads(1)
    twin, _ = jobs.train(small_mnist, hidden=[64], epochs=1, batch_size=600)
    assert model.flat_parameters.tobytes() == twin.flat_parameters.tobytes()
    linear, _ = jobs.train(small_mnist, hidden=[], epochs=1)
    assert linear.sizes == (784, 10)


def test_train_notebook(small_mnist, capsys):
    assert run("train", "--notebook", "--data", str(small_mnist), "--epochs", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    starts = ["epoch 0 : loss ", "epoch 1 : loss ", "epoch 2 : loss ", "test loss "]
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))
    assert all("; accuracy 0." in line for line in lines)


def test_check(capsys, monkeypatch):
    assert run("check") == 0
    out = capsys.readouterr().out
    assert "MatmulRelu" in out
    assert "finite differences" in out
    wrong = [GradientCheck("Relu", "x", "finite differences", 1.0, 1e-6, False)]
    monkeypatch.setattr(jobs, "gradient_check", lambda: wrong)
    assert run("check") == 1
    assert "FAILED" in capsys.readouterr().out


def test_info(capsys):
    assert run("info") == 0
    out = capsys.readouterr().out
    for word in (
        *("CPU", "vectors", "threads", "threading layer", "arithmetic", "compiled kernels"),
        *("NumPy", "Numba", "Python", fastmlp.__version__, np.__version__),
    ):
        assert word in out
    with fastmlp.arithmetic("numpy"):
        assert run("info") == 0
    assert "numpy" in [line.split()[-1] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("arguments", [[], ["train"], ["predict"], ["show"], ["info"]])
def test_help(arguments, capsys):
    assert run(*arguments, "--help") == 0
    assert capsys.readouterr().out.startswith("usage: fastmlp")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: train|predict|show|check|info"),
        (["dance"], "invalid choice: 'dance'"),
        (["train", "--epochs", "0"], "--epochs: expected an integer of 1 or more, got '0'"),
        (["train", "--batch-size", "x"], "--batch-size: expected an integer of 1 or more"),
        (["train", "--learning-rate", "nan"], "expected a number above 0, got 'nan'"),
        (["train", "--learning-rate", "-1"], "expected a number above 0, got '-1'"),
        (["train", "--seed", "-1"], "--seed: expected an integer of 0 or more, got '-1'"),
        (["train", "--hidden", "3", "0"], "--hidden: expected an integer of 1 or more, got '0'"),
        (["train", "--threads", "100000"], "num_threads: expected 1 to "),
        (["train", "--data", "/no/such/folder"], "no complete MNIST set: /no/such/folder"),
        (["train", "--notebook", "--hidden", "3"], "--hidden: expected without --notebook"),
        (["train", "--notebook", "--batch-size", "3"], "--batch-size: expected without"),
        (["info", "--loud"], "unrecognized arguments: --loud"),
    ],
)
def test_a_users_error_is_one_line_and_exit_code_2(arguments, message, capsys):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("fastmlp")
    assert "error: " in captured.err
    assert message in captured.err


def sets_with(labels, test_labels):
    return tuple(
        (np.zeros((len(y), 28, 28), np.float32), np.array(y)) for y in (labels, test_labels)
    )


def test_a_set_of_other_classes_makes_a_network_of_as_many(capsys, monkeypatch):
    monkeypatch.setattr(jobs, "mnist_dataset", lambda root: sets_with([1, 25], [26, 3]))
    model, _ = jobs.train(hidden=[4], epochs=1)
    assert model.sizes == (784, 4, 27)
    capsys.readouterr()
    assert run("train", "--notebook") == 2
    assert capsys.readouterr().err == (
        "fastmlp train: error: --data: expected labels 0 to 9, the notebook's, got 26; "
        "leave --notebook out\n"
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (([0, 0], [0]), "sizes: expected two or more classes"),
        (([0, 1], np.zeros(0, int)), "--data: expected test images, got none"),
        ((np.zeros(0, int), [0, 1]), "--data: expected training images, got none"),
    ],
)
def test_a_set_that_cannot_be_trained_on_is_one_line(labels, message, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "mnist_dataset", lambda root: sets_with(*labels))
    assert run("train") == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_images_of_another_size_do_not_fit_the_notebook(small_mnist, capsys, monkeypatch):
    sets = (np.zeros((5, 3, 3), np.float32), np.zeros(5, np.int64))
    monkeypatch.setattr(jobs, "mnist_dataset", lambda root: (sets, sets))
    assert run("train", "--notebook") == 2
    assert "expected images of 784 pixels, the notebook's, got 9" in capsys.readouterr().err


def test_interruption_is_one_line(capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "train", interrupt)
    assert run("train") == 130
    assert capsys.readouterr().err == "\nfastmlp train: interrupted\n"


def test_the_module_runs_as_a_program():
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "fastmlp", "train", "--epochs", "x"]
    path = os.pathsep.join([str(root), str(root / "kernels")])
    result = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert result.returncode == 2
    assert result.stderr.startswith("fastmlp train: error: argument --epochs")


def test_the_version_is_the_packages(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"fastmlp {fastmlp.__version__}\n"


def test_plan(capsys):
    assert run("plan", "784-100-10", "--batch-size", "128", "--zeros") == 0
    first, _, *lines, last = capsys.readouterr().out.splitlines()
    assert first.startswith("784-100-10, float32, adam: 60000 samples in batches of 128, ")
    assert [line for line in lines if line.endswith(":")] == [
        *("before the steps:", "a step:", "the last, smaller step:", "after the steps:")
    ]
    assert any("sparse" in line for line in lines)
    assert last.startswith("memory: ")
    assert run("plan", "20-5-3", "--samples", "150", "--dtype", "float64") == 0
    shown = capsys.readouterr().out
    assert "sparse" not in shown
    assert "last, smaller" in shown
    for wrong in ("784", "784-0-10", "784-x"):
        assert run("plan", wrong) == 2
    assert "expected two sizes or more, got '784'" in capsys.readouterr().err


def test_a_plan_has_the_threads_that_a_training_would_load(capsys, monkeypatch):
    """Where Numba isn't loaded yet, the steps of a whole epoch count, not one."""
    monkeypatch.setattr(threads, "_pays_to_load", lambda work: work >= threads.WORTH_LOADING)
    with with_threads(2):
        for samples, shown in ((500, "1 thread;"), (60000, "2 threads;")):
            assert run("plan", "784-100-10", "--samples", str(samples)) == 0
            assert shown in capsys.readouterr().out.splitlines()[0]

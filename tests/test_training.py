import re
from pathlib import Path

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats

import fastmlp
from fastmlp import compute_accuracy, compute_loss, one_hot, reference, test, train_one_step
from fastmlp.commands.jobs import train as train_command
from fastmlp.commands.jobs import train_notebook

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (255, 10), (256, 3), (257, 17), (1000, 40)])
def test_loss_and_accuracy_equal_the_reference(dtype, shape):
    log_prob, labels = -abs(floats(1, shape, dtype)), floats(2, shape, dtype)
    assert_same_bits(compute_loss(log_prob, labels), reference.compute_loss(log_prob, labels))
    assert compute_loss(log_prob, labels).dtype == dtype
    expected = reference.compute_accuracy(log_prob, labels)
    assert_same_bits(compute_accuracy(log_prob, labels), expected)


def test_loss_by_leaves_and_tree():
    # In float32, 1 is lost beside 2^24: only the order of the leaves keeps 256 ones together.
    log_prob = np.full((513, 1), -1, np.float32)
    log_prob[0] = -(2.0**25)
    loss = compute_loss(log_prob, np.ones_like(log_prob))
    assert_same_bits(loss, np.float32(np.float32(2**25 + 256) / np.float32(513)))


@pytest.mark.parametrize("value", [-np.inf, np.nan, -0.0])
def test_special_losses(value):
    log_prob = np.full((3, 4), value, np.float32)
    labels = one_hot([0, 1, 3], 4, np.float32)
    with np.errstate(invalid="ignore"):
        expected = reference.compute_loss(log_prob, labels)
        assert_same_bits(compute_loss(log_prob, labels), expected)


def test_accuracy_takes_integers_and_rows():
    log_prob = np.log(np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]]))
    for labels in (np.array([0, 1, 2]), one_hot([0, 1, 2], 3), one_hot([0, 1, 2], 3, np.float32)):
        assert_same_bits(compute_accuracy(log_prob, labels), np.float64(2) / np.float64(3))


def test_numpy_arithmetic_gives_the_notebooks_bits():
    log_prob, labels = floats(3, (1000, 10), np.float64), floats(4, (1000, 10), np.float64)
    with fastmlp.arithmetic("numpy"):
        expected = np.mean(np.sum(-log_prob * labels, axis=1))
        assert_same_bits(compute_loss(log_prob, labels), expected)
        right = np.argmax(log_prob, axis=1) == np.argmax(labels, axis=1)
        assert_same_bits(compute_accuracy(log_prob, labels), np.mean(right))


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_equal_the_reference(dtype):
    x, y = floats(5, (300, 20), dtype), one_hot(np.arange(300) % 3, 3)
    ours, theirs = (module.MLP([20, 9, 3], dtype=dtype, rng=6) for module in (fastmlp, reference))
    for _ in range(3):
        for mine, other in zip(
            train_one_step(ours, x, y, 1e-3),
            reference.train_one_step(theirs, x, y, 1e-3),
            strict=True,
        ):
            assert_same_bits(mine, other)
        assert_same_bits(ours.flat_parameters, theirs.flat_parameters)
    for mine, other in zip(test(ours, x, y), reference.test(theirs, x, y), strict=True):
        assert_same_bits(mine, other)


def test_a_step_is_forward_backward_and_the_update():
    x, y = floats(7, (30, 20), np.float32), one_hot(np.arange(30) % 3, 3, np.float32)
    model, twin = (fastmlp.MLP([20, 9, 3], rng=8) for _ in range(2))
    loss, accuracy = train_one_step(model, x, y)
    log_prob = twin.forward(x)
    twin.backward(y)
    assert_same_bits(loss, compute_loss(log_prob, y))
    assert_same_bits(accuracy, compute_accuracy(log_prob, y))
    for W, grad in zip(twin.parameters, twin.gradients, strict=True):
        W -= np.float32(1e-5) * grad
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_a_wrong_step_changes_no_parameter(module):
    model = module.MLP([4, 3], rng=9)
    before = model.flat_parameters.copy()
    x, y = np.ones((5, 4), np.float32), one_hot([0] * 5, 3)
    with pytest.raises(ValueError, match="label: expected shape"):
        module.train_one_step(model, x, y[:4])
    with pytest.raises(TypeError, match="learning_rate: expected a real number"):
        module.train_one_step(model, x, y, "fast")
    assert_same_bits(model.flat_parameters, before)


def test_one_hot():
    assert_same_bits(one_hot([2, 0], 3), np.array([[0, 0, 1], [1, 0, 0]], np.float64))
    assert_same_bits(one_hot(np.zeros(0, np.uint8), 2, np.float32), np.zeros((0, 2), np.float32))
    with pytest.raises(ValueError, match=r"labels\[1\]: expected 0 to 2, got 3; pass classes=4"):
        one_hot([0, 3], 3)
    with pytest.raises(ValueError, match=r"labels\[0\]: expected 0 to 9, got -1; "):
        one_hot([-1])
    with pytest.raises(TypeError, match="labels: expected integers, got float64; pass np"):
        one_hot([1.0])
    with pytest.raises(ValueError, match=r"labels: expected one axis, got shape \(1, 2\)"):
        one_hot([[1, 2]])


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_errors_say_expected_got_and_mend(module):
    log_prob = np.zeros((2, 3))
    for function in (module.compute_loss, module.compute_accuracy):
        with pytest.raises(ValueError, match=r"labels: expected shape \(2, 3\).*\(3, 2\); make"):
            function(log_prob, np.ones((3, 2)))
        with pytest.raises(ValueError, match="log_prob: expected at least one sample"):
            function(np.zeros((0, 3)), np.zeros((0, 3)))
        with pytest.raises(ValueError, match="log_prob: expected a matrix"):
            function(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"labels\[1\]: expected 0 to 2, got 3"):
        module.compute_accuracy(log_prob, np.array([0, 3]))
    with pytest.raises(ValueError, match=r"labels: expected shape \(2,\), .* got shape \(1,\)"):
        module.compute_accuracy(log_prob, np.array([0]))


def test_the_default_training_ends_with_the_weights_that_the_readme_states(capsys):
    model, _ = train_command()
    out = capsys.readouterr().out
    assert float(re.search(r"accuracy ([\d.]+)", out)[1]) > 0.98
    assert model.sizes == (784, 128, 10)
    stated = re.findall(r"\b[0-9a-f]{64}\b", (ROOT / "README.md").read_text())
    assert stated == re.findall(r"SHA-256 of the weights (\w+)", out)


def test_the_notebooks_training_prints_its_lines(capsys):
    train_notebook(epochs=2)
    lines = capsys.readouterr().out.splitlines()
    words = [line.split() for line in lines]
    assert [line[:2] for line in words] == [["epoch", "0"], ["epoch", "1"], ["test", "loss"]]
    assert abs(float(words[0][4]) - 23.6) < 0.2
    assert float(words[1][4]) < float(words[0][4])
    assert lines[0] == f"epoch 0 : loss {words[0][4]} ; accuracy {words[0][7]}"
    assert lines[2] == f"test loss {words[2][2]} ; accuracy {words[2][5]}"


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_an_interrupted_fit_leaves_the_model_of_the_last_epoch(module):
    x, y = floats(10, (9, 5), np.float32), np.arange(9) % 3
    model, twin = (module.MLP([5, 3], rng=1) for _ in range(2))
    finished = []

    def interrupt(history):
        finished.append(model.flat_parameters.copy())
        if len(finished) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="the model is as epoch 2 of 5 left it"):
        model.fit(x, y, epochs=5, rng=2, callback=interrupt)
    twin.fit(x, y, epochs=2, rng=2)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_a_step_refuses_read_only_weights_before_anything_is_written(module):
    model, x = module.MLP([5, 3], rng=1), floats(10, (9, 5), np.float32)
    y = np.eye(3)[[0, 1, 2] * 3]
    model.flat_parameters.flags.writeable = False
    before = model.flat_parameters.copy()
    with pytest.raises(ValueError, match=r"read-only ones; train a copy, copy.deepcopy\(model\)"):
        module.train_one_step(model, x, y)
    assert_same_bits(model.flat_parameters, before)
    assert not model.flat_gradients.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_takes_integer_labels_as_fit_does(dtype):
    x, y = np.random.default_rng(0).random((30, 6)).astype(dtype), np.arange(30) % 4
    results = set()
    for module in (fastmlp, reference):
        for labels in (y, y.astype(np.uint8), y.tolist(), one_hot(y, 4, dtype)):
            model = module.MLP([6, 5, 4], dtype=dtype, rng=0)
            step = module.train_one_step(model, x, labels, 0.01)
            after = module.test(model, x, labels)
            results.add((*map(float, (*step, *after)), model.flat_parameters.tobytes()))
        before = model.flat_parameters.copy()
        with pytest.raises(ValueError, match=r"y\[3\]: expected 0 to 3, got 4"):
            module.train_one_step(model, x, [0, 1, 2, 4, *y[4:]])
        with pytest.raises(TypeError, match="label"):
            module.train_one_step(model, x, y.astype(str))
        assert model.flat_parameters.tobytes() == before.tobytes()
    assert len(results) == 1

"""Training as people do it: ended in time, gone on with, chunk by chunk, from maps of files."""

import copy
import pickle
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits
from test_fit import SIZES, data

import fastmlp
from fastmlp import reference
from fastmlp.model.fit_checks import MOST_POWERS, powers
from fastmlp.plan.ways import STATES

nan = np.nan
each_module = pytest.mark.parametrize("module", [fastmlp, reference], ids=["fastmlp", "reference"])


def assert_same_state(model, twin):
    """Weights and the optimizer's state have the same bits."""
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    assert model.optimizer_state[:2] == twin.optimizer_state[:2]
    assert_same_bits(model.optimizer_state.arrays, twin.optimizer_state.arrays)


@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_epochs_that_are_resumed_are_those_of_one_call(dtype, optimizer, threads):
    x, labels = data(75, dtype)
    rates = np.linspace(0.1, 0.01, 5 * 8)
    how = {"batch_size": 10, "optimizer": optimizer, "weight_decay": 0.01}
    fitted = []
    for module in (fastmlp, reference):
        model, twin = (module.MLP(SIZES, dtype=dtype, rng=1) for _ in range(2))
        assert twin.optimizer_state is None
        history = model.fit(x, labels, epochs=5, learning_rate=rates, rng=3, **how)
        generator, losses = np.random.default_rng(3), []
        for part in rates.reshape(5, 8):
            given = {"learning_rate": part, "rng": generator, **how}
            before = twin.optimizer_state
            kept = copy.deepcopy(before)
            if len(losses) % 2:
                losses += twin.partial_fit(x, labels, **given).loss
            else:
                losses += twin.fit(x, labels, epochs=1, resume=True, **given).loss
            if before is not None:
                assert_same_bits(before.arrays, kept.arrays)  # nothing writes to it
            twin = copy.deepcopy(pickle.loads(pickle.dumps(twin)))
        assert losses == history.loss
        assert model.optimizer_state.step == 40
        assert model.optimizer_state.arrays.shape == (STATES[optimizer], model.flat_parameters.size)
        assert_same_state(twin, model)
        fitted.append(model)
    assert_same_state(*fitted)


@each_module
def test_without_resume_a_state_starts_anew(module):
    x, labels = data(60)
    model, twin = (module.MLP(SIZES, rng=1) for _ in range(2))
    model.fit(x, labels, epochs=2, optimizer="momentum", rng=0)
    twin.flat_parameters = model.flat_parameters
    for one in (model, twin):
        one.fit(x, labels, epochs=1, batch_size=7, rng=0)
    assert_same_state(model, twin)
    old = model.__getstate__()
    del old["_optimizer_state"]  # as models were pickled before there was one
    oldest = module.MLP.__new__(module.MLP)
    oldest.__setstate__(old)
    model.optimizer_state = None
    for one in (model, oldest):
        assert one.optimizer_state is None
        one.partial_fit(x, labels, batch_size=10, optimizer="sgd")
        assert one.optimizer_state[:2] == ("sgd", 6)


@each_module
def test_a_state_that_does_not_fit_is_refused_before_anything_changes(module):
    x, labels = data(30)
    model = module.MLP(SIZES, rng=1)
    model.fit(x, labels, epochs=1, optimizer="momentum", rng=0)
    kept = model.optimizer_state
    wrong = [
        ({"step": 3}, TypeError, "expected an OptimizerState or None, got dict; pass None"),
        (kept._replace(optimizer="rmsprop"), ValueError, "expected an optimizer that is one of"),
        (kept._replace(step=-1), ValueError, "expected a step of 0 or more, got -1"),
        (kept._replace(arrays=kept.arrays[:, 1:]), ValueError, "expected arrays of shape"),
        (kept._replace(arrays=kept.arrays.astype(np.float64)), ValueError, "got shape .* float64"),
    ]
    twin = copy.deepcopy(model)
    for state, error, words in wrong:
        with pytest.raises(error, match=f"^optimizer_state: .*{words}"):
            model.optimizer_state = state
    with pytest.raises(ValueError, match=r"^optimizer: expected 'momentum', whose state is kept"):
        model.partial_fit(x, labels, optimizer="adam")
    assert_same_state(model, twin)
    model.optimizer_state = kept._replace(arrays=kept.arrays.astype(">f4"))
    vars(twin)["_optimizer_state"] = (*kept[:2], kept.arrays.reshape(-1).astype(">f4"))
    copied = copy.copy(model)
    for one in (model, twin):
        one.partial_fit(x, labels, optimizer="momentum", momentum=0.5, rng=0)
    assert_same_state(model, twin)
    assert_same_bits(copied.optimizer_state.arrays, kept.arrays)


@each_module
def test_a_state_that_is_not_finite_is_named(module):
    x, labels = data(30)
    model = module.MLP(SIZES, rng=1)
    model.fit(x, labels, epochs=1, optimizer="momentum", rng=0)
    state = model.optimizer_state
    model.optimizer_state = state._replace(arrays=state.arrays + np.float32(np.inf))
    with pytest.raises(FloatingPointError, match=r"; pass resume=False, as .* is as it was$"):
        model.partial_fit(x, labels, optimizer="momentum")
    assert np.isinf(model.optimizer_state.arrays).all()
    model.fit(x, labels, epochs=1, optimizer="momentum")


def test_powers_of_many_steps():
    few = MOST_POWERS // 2
    for beta in (0.9, 0.999):
        power, expected = 1.0, []
        for _ in range(MOST_POWERS + 5):
            power *= beta
            expected.append(power)
        for steps in (range(1, 9), range(few - 3, few + 4)):
            assert powers(beta, steps).tolist() == [expected[t - 1] for t in steps]
        late = range(MOST_POWERS - 2, MOST_POWERS + 6)
        assert (1 - powers(beta, late)).tolist() == [1 - expected[t - 1] for t in late] == [1] * 8


# The figures of validation, epoch by epoch; then patience, the epochs that run, the best.
SCRIPTS = [
    ([0.5, 0.4, nan, 0.4, 0.45, 0.1], 3, 5, 1),
    ([0.5, 0.6, 0.4, 0.7], 1, 2, 0),
    ([0.5, 0.6, 0.4, 0.7, 0.3], 2, 5, 4),  # the last epoch ends it
    ([nan, nan, nan, 0.5], 2, 2, None),
    ([np.inf, 0.5, -np.inf, -np.inf, -np.inf], 2, 5, 2),
]


@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
@pytest.mark.parametrize(("figures", "patience", "epochs", "best"), SCRIPTS)
@each_module
def test_a_training_ends_and_leaves_its_best_epoch(
    module, figures, patience, epochs, best, monitor, monkeypatch
):
    x, labels = data(60)
    how = {"batch_size": 10, "optimizer": "momentum", "learning_rate": 0.05}
    for restore_best in (False, True):
        # The best accuracy is the largest.
        script = iter(figures if monitor == "loss" else [-figure for figure in figures])

        def evaluate(*_, script=script):
            return (next(script), nan) if monitor == "loss" else (nan, next(script))

        monkeypatch.setattr(module.MLP, "_evaluate", evaluate)
        model, twin = (module.MLP(SIZES, rng=0) for _ in range(2))
        history = model.fit(
            x, labels, epochs=len(figures), rng=3, patience=patience, monitor=monitor,
            restore_best=restore_best, validation=(x, labels), **how,
        )  # fmt: skip
        assert history.best_epoch == best
        assert len(history.loss) == len(history.validation_loss) == epochs
        left = best + 1 if restore_best and best is not None else epochs
        twin.fit(x, labels, epochs=left, rng=3, **how)
        assert_same_state(model, twin)
        for one in (model, twin):
            one.partial_fit(x, labels, rng=4, **how)
        assert_same_state(model, twin)


def test_both_modules_end_alike():
    x, labels = data(90)
    results = []
    for module in (fastmlp, reference):
        model = module.MLP(SIZES, rng=1)
        history = model.fit(
            x[:60], labels[:60], epochs=40, batch_size=20, learning_rate=0.05, rng=0,
            validation=(x[60:], labels[60:]), patience=3,
        )  # fmt: skip
        assert history.best_epoch == int(np.argmin(history.validation_loss))
        assert len(history.loss) == history.best_epoch + 4 < 40
        assert model.loss(x[60:], labels[60:]) == history.validation_loss[history.best_epoch]
        history.seconds.clear()
        results.append((model, history))
    assert results[0][1] == results[1][1]
    assert_same_state(results[0][0], results[1][0])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"patience": 0}, ValueError, "patience: expected 1 or more, got 0; pass patience=10"),
        ({"patience": 1.5}, TypeError, "patience: expected an integer, got float"),
        ({"monitor": "val_loss"}, ValueError, r"monitor: expected one of \['loss', 'accuracy'\]"),
        ({"monitor": None}, ValueError, "monitor: expected one of"),
        ({"validation": None}, ValueError, "patience: expected validation to watch, got none"),
    ],
)
@each_module
def test_what_cannot_be_watched_is_refused_before_anything_changes(module, changed, error, message):
    x, labels = data(30)
    model, generator = module.MLP(SIZES, rng=0), np.random.PCG64(0)
    before = model.flat_parameters.copy()
    given = {"validation": (x, labels), "patience": 2, "rng": generator} | changed
    with pytest.raises(error, match=message):
        model.fit(x, labels, **given)
    assert_same_bits(model.flat_parameters, before)
    assert model.optimizer_state is None
    assert generator.state == np.random.PCG64(0).state


@each_module
def test_a_regression_has_no_accuracy_to_watch(module):
    x, y = data(30)[0], np.zeros((30, SIZES[-1]), np.float32)
    model = module.MLP(SIZES, loss="squared_error")
    with pytest.raises(ValueError, match=r"monitor: expected 'loss', .* pass monitor='loss'$"):
        model.fit(x, y, patience=1, monitor="accuracy", validation=(x, y))
    assert len(model.fit(x, y, epochs=2, patience=1, validation=(x, y)).validation_loss) == 2


def test_maps_of_files_are_trained_on_without_a_copy(tmp_path):
    samples, inputs = 40_000, 256  # 41 MB of float32
    raw = np.random.PCG64(0).random_raw(samples * inputs // 8).view(np.uint8)
    labels = np.arange(samples) % 3
    pixels = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(samples, inputs))
    pixels[...] = raw.reshape(samples, inputs)
    np.save(tmp_path / "x.npy", pixels / np.float32(256))
    how = {"batch_size": 500, "optimizer": "momentum", "rng": 0}

    def peak_of(train):
        tracemalloc.start()
        model = fastmlp.MLP([inputs, 4, 3], rng=0)
        train(model)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak, model

    def fit(x):
        return peak_of(lambda model: model.fit(x, labels, validation=(x, labels), epochs=1, **how))

    def fit_chunks(x):
        def train(model):
            generator = np.random.PCG64(1)
            for start in range(0, samples, 4000):
                mine = slice(start, start + 4000)
                model.partial_fit(x[mine], labels[mine], **{**how, "rng": generator})

        return peak_of(train)

    in_memory = np.load(tmp_path / "x.npy")
    fit(in_memory[:1000].repeat(40, axis=0))  # compiles
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for train in (fit, fit_chunks):
        peak, model = train(mapped)
        assert peak < 100 * samples  # its place, labels and losses, where x has 1024
        assert_same_state(model, train(in_memory)[1])
    # Another dtype is converted as it is read: two windows of 34 MB, or a chunk.
    peak, model = fit(pixels)
    assert peak < 2 * 4 * 2**23 + 200 * samples
    assert_same_state(model, fit(np.array(pixels))[1])
    peak, chunked = fit_chunks(pixels)
    assert peak < in_memory.nbytes / 5
    assert_same_state(chunked, fit_chunks(np.array(pixels, np.float32))[1])


def test_the_pages_examples_run(capsys):
    page = (Path(__file__).parents[1] / "docs/fitting.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(block, names)
    history = names["history"]
    assert len(history.loss) == min(history.best_epoch + 4, 100)

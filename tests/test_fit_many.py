"""Populations: each model beside itself alone, what ends a training, and wrong arguments."""

import copy

import numba
import numpy as np
import pytest
from fastmlp_kernels.plans import pcg64
from helpers import figures, state_of, with_threads

import fastmlp
from fastmlp import MLP, reference
from fastmlp.model.draws import shuffled
from fastmlp.population import jobs, streams

N = 90
X = np.random.default_rng(1).standard_normal((N, 6)).astype(np.float32)
LABELS = np.random.default_rng(2).integers(0, 3, N)
TARGETS = np.random.default_rng(3).standard_normal((N, 2)).astype(np.float32)
WEIGHT = np.random.default_rng(4).integers(0, 3, N) / 2


def same(model, alone):
    """Whether two models have the same weights and optimizer's states, bit for bit."""
    return state_of(model) == state_of(alone)


# A model, its samples and what else `fit` is given: sizes, losses, dtypes, optimizers, weights.
def population():
    wide = X.astype(np.float64)
    yield MLP([6, 5, 3], rng=0), X, LABELS, {}
    yield MLP([6, 5, 3], rng=1), X, LABELS, {"optimizer": "sgd", "learning_rate": 0.1}
    yield MLP([6, 20, 9, 3], rng=2, dtype=np.float64), wide, LABELS, {"optimizer": "momentum"}
    regression = MLP([6, 8, 2], rng=3, loss="squared_error", activation="tanh")
    yield regression, X, TARGETS, {"batch_size": 7, "weight_decay": 0.01, "decay_bias": False}
    yield MLP([6, 3], rng=4, bias=False), X, LABELS, {"sample_weight": WEIGHT, "epochs": 2}
    yield MLP([6, 5, 3], rng=5), X, LABELS, {"shuffle": False, "max_norm": 0.5, "batch_size": 500}
    binary = MLP([6, 4, 1], rng=6, loss="binary_cross_entropy", dtype=np.float64)
    labels = {"class_weight": "balanced", "optimizer": "adamw", "weight_decay": 0.1}
    yield binary, wide, (LABELS > 0).astype(np.float64), labels
    rates = np.linspace(0.1, 0.01, 3 * 6)
    yield MLP([6, 5, 3], rng=7), X, LABELS, {"learning_rate": rates, "optimizer": "nesterov"}
    yield reference.MLP([6, 2, 3], rng=8), X, LABELS, {}
    watched = {"patience": 2, "validation": (X[:77], LABELS[::-1][:77]), "epochs": 9}
    accuracy = watched | {"monitor": "accuracy", "learning_rate": 0.05}
    yield MLP([6, 9, 3], rng=9, activation="gelu"), X, LABELS, accuracy
    yield MLP([6, 9, 3], rng=10), X, LABELS, accuracy | {"restore_best": False}
    few = wide[:3], TARGETS[:3].astype(np.float64)
    settings = watched | {"validation": few, "optimizer": "sgd", "learning_rate": 0.5}
    absolute = MLP([6, 8, 2], rng=11, loss="absolute_error", dtype=np.float64)
    yield absolute, wide, TARGETS.astype(np.float64), settings


DEFAULTS = {
    "epochs": 3, "batch_size": 16, "learning_rate": 1e-3, "optimizer": "adam", "weight_decay": 0.0,
    "max_norm": None, "decay_bias": True, "sample_weight": None, "class_weight": None,
    "shuffle": True, "validation": None, "patience": None, "monitor": "loss", "restore_best": True,
}  # fmt: skip


def together(tasks):
    """The histories of fit_many for such tasks."""
    models, xs, ys, settings = map(list, zip(*tasks, strict=True))
    own = {name: [{**DEFAULTS, **one}[name] for one in settings] for name in DEFAULTS}
    return fastmlp.fit_many(models, xs, ys, **own, rng=[model.sizes[1] for model in models])


def alone(task):
    model, x, y, settings = task
    return model.fit(x, y, rng=model.sizes[1], **{**DEFAULTS, **settings})


def test_each_model_has_the_bits_that_it_has_alone(threads):
    tasks, best = list(population()), set()
    for order in (list(range(len(tasks))), list(range(len(tasks)))[::-1], [3, 0, 5, 6, 11]):
        mine, others = copy.deepcopy(tasks), copy.deepcopy(tasks)
        histories = together([mine[number] for number in order])
        for number, history in zip(order, histories, strict=True):
            expected = alone(others[number])
            assert same(mine[number][0], others[number][0]), number
            assert figures(history) == figures(expected), number
            if expected.best_epoch is not None and order[0] == 0:
                best.add((expected.best_epoch, len(expected.loss)))
    assert len(best) > 1  # trainings that ended at different times


def test_blocks_of_epochs_change_nothing(monkeypatch):
    with with_threads(2):
        expected = copy.deepcopy(list(population()))
        figures_of = [figures(one) for one in together(expected)]
        for block in (0.0, 1e-4, 10.0):
            monkeypatch.setattr(jobs, "BLOCK", block)
            tasks = list(population())
            assert [figures(one) for one in together(tasks)] == figures_of
            assert all(same(a[0], b[0]) for a, b in zip(tasks, expected, strict=True))


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_rows_are_those_of_a_copy(module):
    rows = [np.arange(N), [3, 3, 3, 0, 80], np.arange(N) % 3 == 0, np.arange(40, 20, -1, np.uint8)]
    for shuffle in (True, False):
        models = [module.MLP([6, 4, 3], rng=i) for i in range(4)]
        others = copy.deepcopy(models)
        settings = {"epochs": 2, "batch_size": 8, "rng": [5, 6, 7, 8], "shuffle": shuffle}
        module.fit_many(models, X, LABELS, rows=rows, sample_weight=WEIGHT + 0.5, **settings)
        for number, (model, other) in enumerate(zip(models, others, strict=True)):
            own = np.asarray(rows[number])
            other.fit(
                X[own], LABELS[own], sample_weight=WEIGHT[own] + 0.5,
                **settings | {"rng": settings["rng"][number]},
            )  # fmt: skip
            assert same(model, other), (number, shuffle)


def test_samples_of_each_model_in_one_array():
    xs, ys = np.stack([X, X + 1, X * 2]), np.stack([LABELS, 2 - LABELS, LABELS])
    models = [MLP([6, 4, 3], rng=0) for _ in xs]
    others = copy.deepcopy(models)
    fastmlp.fit_many(models, xs, ys, epochs=1, rng=0)
    for model, other, x, y in zip(models, others, xs, ys, strict=True):
        other.fit(x, y, epochs=1, rng=0)
        assert same(model, other)


def test_training_goes_on_and_generators_move_on():
    models = [MLP([6, 4, 3], rng=i) for i in range(3)]
    others, generators = copy.deepcopy(models), [np.random.default_rng(i) for i in range(3)]
    for epochs in (1, 2):
        fastmlp.fit_many(models, X, LABELS, epochs=epochs, resume=True, rng=generators)
    for number, other in enumerate(others):
        generator = np.random.default_rng(number)
        other.fit(X, LABELS, epochs=3, rng=generator)
        assert same(models[number], other)
        assert generator.bit_generator.state == generators[number].bit_generator.state


def test_patience_and_callbacks_end_models_of_their_own():
    held_out = X[:30], LABELS[:30]
    settings = {"epochs": 30, "learning_rate": 0.05, "validation": held_out, "patience": 2}
    models = [MLP([6, 4, 3], rng=i) for i in range(3)]
    others = copy.deepcopy(models)
    histories = fastmlp.fit_many(models, X, LABELS, rng=1, **settings)
    for model, other, history in zip(models, others, histories, strict=True):
        assert figures(history) == figures(other.fit(X, LABELS, rng=1, **settings))
        assert same(model, other)
    assert len({len(history.loss) for history in histories}) > 1
    calls = []

    def stop(number, history):
        calls.append((number, len(history.loss)))
        return len(history.loss) == number

    histories = fastmlp.fit_many(models, X, LABELS, epochs=4, rng=1, callback=stop)
    assert [len(history.loss) for history in histories] == [4, 1, 2]
    assert sorted(calls) == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 1), (2, 1), (2, 2)]


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_a_model_that_diverges_leaves_the_others_alone(module):
    models = [module.MLP([6, 4, 3], rng=i) for i in range(4)]
    others, rates = copy.deepcopy(models), [0.1, 1e30, 0.1, 0.1]
    settings = {"epochs": 3, "optimizer": "sgd", "batch_size": 30, "rng": 0}
    x = X.copy()
    histories = module.fit_many(models, x, LABELS, learning_rate=rates, **settings)
    for number, other in enumerate(others):
        why, expected = None, None
        try:
            expected = other.fit(x, LABELS, learning_rate=rates[number], **settings)
        except FloatingPointError as error:
            why, expected = str(error), error.history
        assert histories[number].error == why
        assert histories[number].loss == expected.loss
        assert same(models[number], other)
    assert [history.error is None for history in histories] == [True, False, True, True]
    x[7, 2] = np.nan
    histories = module.fit_many(models, x, LABELS, rows=[np.arange(5), [7, 8], [9], [9]], epochs=1)
    assert [history.error for history in histories].count(None) == 3
    assert histories[1].error.startswith("x[rows][0, 2]: expected finite numbers, got nan")


def test_zeros_that_are_passed_over_are_found_again():
    x = np.zeros((300, 300), np.float32)
    x[:, ::7] = np.random.default_rng(0).random((300, 43))
    models = [MLP([300, 64, 3], rng=i) for i in range(3)]
    for model in models[1:]:
        model.W1[1] = [-0.0, np.inf][model is models[2]]
    others, y = copy.deepcopy(models), LABELS[np.arange(300) % N]
    settings = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "rng": 0, "check_finite": False}
    with np.errstate(all="ignore"):
        fastmlp.fit_many(models, x, y, **settings)
        for model, other in zip(models, others, strict=True):
            other.fit(x, y, **settings)
            assert same(model, other)


def test_a_model_that_leaves_late_keeps_the_count_of_its_steps():
    x = np.zeros((300, 300), np.float32)
    x[:, ::7] = np.random.default_rng(0).random((300, 43))
    y, settings = LABELS[np.arange(300) % N], {"epochs": 4, "batch_size": 16, "rng": 0}
    models = [MLP([300, 64, 3], rng=i) for i in range(3)]
    others = copy.deepcopy(models)

    def change(model, history):
        if len(history.loss) == 2:
            model.W1[1] = -0.0  # whose zeros mustn't be passed over

    fastmlp.fit_many(models, x, y, **settings, callback=lambda i, h: change(models[i], h))
    for model, other in zip(models, others, strict=True):
        other.fit(x, y, **settings, callback=lambda history, other=other: change(other, history))
        assert same(model, other)


def test_an_interrupt_leaves_each_model_at_the_end_of_an_epoch(monkeypatch):
    monkeypatch.setattr(jobs, "BLOCK", 0.0)
    models = [MLP([6, 4, 3], rng=i) for i in range(5)]
    others = copy.deepcopy(models)

    def interrupt(number, history):
        if number == 2:
            raise KeyboardInterrupt

    with with_threads(2), pytest.raises(KeyboardInterrupt, match="as its last finished") as error:
        fastmlp.fit_many(models, X, LABELS, epochs=3, rng=0, callback=interrupt)
    lengths = [len(history.loss) for history in error.value.histories]
    assert lengths[2] == 1
    for model, other, epochs in zip(models, others, lengths, strict=True):
        if epochs:
            other.fit(X, LABELS, epochs=epochs, rng=0)
        assert same(model, other)


@pytest.mark.parametrize("moment", ["_state", "_move_on"])
def test_an_interrupt_while_models_are_given_their_states_comes_behind_it(monkeypatch, moment):
    models = [MLP([6, 4, 3], rng=i) for i in range(4)]
    generators = [np.random.PCG64(i) for i in range(4)]
    others, twins = copy.deepcopy(models), copy.deepcopy(generators)
    real, calls = getattr(jobs.Jobs, moment), []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(jobs.Jobs, moment, interrupted)
    with pytest.raises(KeyboardInterrupt, match="as its last finished") as error:
        fastmlp.fit_many(models, X, LABELS, epochs=2, rng=generators, optimizer="adam")
    for number, (model, other) in enumerate(zip(models, others, strict=True)):
        history = other.fit(X, LABELS, epochs=2, rng=twins[number], optimizer="adam")
        assert error.value.histories[number].loss == history.loss
        assert error.value.histories[number].accuracy == history.accuracy
        assert same(model, other)
        assert generators[number].state == twins[number].state


@numba.njit
def shuffle(state, samples, order, draws, counts, bits):
    pcg64.shuffle(state, samples, order, draws, counts, bits)


@pytest.mark.parametrize("samples", [1, 2, 3, 200, 1025, 70_000])
def test_orders_are_those_of_numpys_generator(samples):
    generator, compiled = np.random.PCG64(samples), np.random.PCG64(samples)
    state = np.array(streams.words_of(compiled.state), np.uint64)
    bits = pcg64.bits_of_buckets(samples)
    order, draws = np.empty(samples, np.int64), np.empty(samples, np.uint64)
    counts = np.empty(1 << bits, np.int64)
    for _ in range(2):
        places = [array.ctypes.data for array in (order, draws, counts)]
        shuffle(state.ctypes.data, samples, *places, bits)
        np.testing.assert_array_equal(order, shuffled(generator, samples))


def test_starts_of_streams_are_those_of_numpys_generator():
    seeds = [0, 1, 2**32 - 1, 2**32, 2**64 - 1, 2**64 + 5, 2**128 - 1]
    seeds += [int(one) << 37 for one in np.random.default_rng(0).integers(0, 2**62, 50)]
    expected = [streams.words_of(np.random.PCG64(seed).state) for seed in seeds]
    assert [tuple(one) for one in streams.starts_of(seeds).tolist()] == expected


MODELS = [MLP([6, 4, 3], rng=0), MLP([6, 4, 3], rng=1)]
TWO = np.stack([X, X])


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"models": MODELS[0]}, TypeError, r"models: expected a list .* pass \[model\]"),
        ({"models": [*MODELS, 3]}, TypeError, r"models\[2\]: expected a model, got int"),
        ({"models": MODELS[:1] * 2}, ValueError, r"models\[1\]: expected each model once"),
        ({"epochs": [1, 2, 3]}, ValueError, "epochs: expected one value, or a list of 2"),
        ({"epochs": [1, 0]}, ValueError, r"models\[1\]: epochs: expected 1 or more, got 0"),
        ({"x": TWO}, ValueError, "y: expected a list of 2"),
        ({"x": [X, X[:, :5]], "y": [LABELS] * 2}, ValueError, r"models\[1\]: x: "),
        ({"y": [LABELS, LABELS + 1]}, ValueError, r"models\[1\]: y\[.*: expected 0 to 2, got 3"),
        ({"rows": [[0], [N]]}, ValueError, r"models\[1\]: rows\[0\]: expected 0 to 89, got 90"),
        ({"rows": [[0, -1], [0]]}, ValueError, r"models\[0\]: rows\[1\]: expected 0 to"),
        ({"rows": [[0], []]}, ValueError, r"models\[1\]: rows: expected at least one sample"),
        ({"rows": [[0], [0.0]]}, TypeError, r"models\[1\]: rows: expected integers"),
        ({"rows": [[0], [[0]]]}, ValueError, r"models\[1\]: rows: expected one axis"),
        ({"rows": [[0]]}, ValueError, "rows: expected one value, or a list of 2"),
        ({"sample_weight": [None, -WEIGHT - 1]}, ValueError, r"models\[1\]: sample_weight\[0\]"),
        ({"rng": np.random.default_rng(0)}, ValueError, r"rng of models\[1\]: expected its own"),
        ({"patience": 2}, ValueError, r"models\[0\]: patience: expected validation"),
        ({"callback": 3}, TypeError, "callback: expected a function"),
        ({"optimizer": ["adam", "Adam"]}, ValueError, r"models\[1\]: optimizer: expected one of"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments_name_the_model(module, changes, error, message):
    models = changes.get("models", [module.MLP([6, 4, 3], rng=i) for i in range(2)])
    before = [one.flat_parameters.copy() for one in models[:2]] if isinstance(models, list) else []
    arguments = {"x": X, "y": LABELS, **changes, "models": models}
    with pytest.raises(error, match=message):
        module.fit_many(**arguments)
    for model, weights in zip(models, before, strict=False) if before else ():
        assert (model.flat_parameters == weights).all()


def test_no_models_and_more_threads_than_models():
    assert fastmlp.fit_many([], X, LABELS) == []
    model, other = MLP([6, 4, 3], rng=0), MLP([6, 4, 3], rng=0)
    with with_threads(3):
        (history,) = fastmlp.fit_many([model], X, LABELS, epochs=2, rng=0, progress=True)
    assert figures(history) == figures(other.fit(X, LABELS, epochs=2, rng=0))
    assert same(model, other)


@pytest.mark.parametrize("patience", [1, 3])
def test_a_model_that_diverges_late_is_watched_as_alone(patience):
    rates = np.full(6 * 5, 0.3)
    rates[6 * 3 :] = 1e30  # from the fourth epoch on
    settings = {
        "epochs": 5, "batch_size": 16, "optimizer": "sgd", "learning_rate": rates, "rng": 0,
        "validation": (X[:40], LABELS[::-1][:40]), "patience": patience,
    }  # fmt: skip
    models = [MLP([6, 4, 3], rng=i) for i in range(3)]
    others = copy.deepcopy(models)
    histories = fastmlp.fit_many(models, X, LABELS, **settings)
    for model, other, history in zip(models, others, histories, strict=True):
        why = None
        try:
            expected = other.fit(X, LABELS, **settings)
        except FloatingPointError as error:
            why, expected = str(error), error.history
        assert figures(history) == {**figures(expected), "error": why}
        assert same(model, other)
    assert any(history.error for history in histories)

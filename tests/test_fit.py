"""fit: an epoch in one compiled call has the bits of forward, backward and update, step by step."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, layers_by_columns, with_threads

import fastmlp
from fastmlp import reference
from fastmlp.model import epochs
from fastmlp.model.fit import Keeper
from fastmlp.model.fit_checks import checked_schedule
from fastmlp.plan.ways import STATES

SIZES = [20, 17, 6]


def data(samples, dtype=np.float32, sizes=SIZES, seed=0):
    x = floats(seed, (samples, sizes[0]), dtype, -3, 1)
    labels = np.random.PCG64(seed).random_raw(samples) % np.uint64(sizes[-1])
    return x, labels.astype(np.int64)


def composed_steps(model, x, labels, batch_size, optimizer, rates, decay):
    """The parameters after each step of the reference's operations, one after the other."""
    parameters, gradients = model.flat_parameters, model.flat_gradients
    states = [[np.zeros_like(parameters)] for _ in range(STATES[optimizer])]
    real = model.dtype.type
    for step, start in enumerate(range(0, len(x), batch_size)):
        mine = slice(start, start + batch_size)
        model.forward(x[mine])
        label = fastmlp.one_hot(labels[mine], model.sizes[-1], model.dtype)
        model.backward(label * real(1 / len(label)))
        if decay and optimizer != "adamw":
            gradients[...] = gradients + real(decay) * parameters
        rate = float(rates[step])
        if optimizer == "sgd":
            reference.sgd([parameters], [gradients], rate)
        elif optimizer in ("momentum", "nesterov"):
            getattr(reference, optimizer)([parameters], [gradients], *states, rate, 0.9)
        else:
            more = {"weight_decay": decay} if optimizer == "adamw" else {}
            update = getattr(reference, optimizer)
            update([parameters], [gradients], *states, step + 1, rate, **more)
        yield parameters


def compiled_steps(model, x, order, labels, schedule, steps, num_threads):
    """The parameters after so many steps of a compiled epoch."""
    parameters, dtype = model.flat_parameters.copy(), model.dtype
    states = np.zeros(STATES[schedule.optimizer] * parameters.size, dtype)
    first = epochs.Steps(
        model.sizes, model.bias, schedule.optimizer, schedule.constants(0)[:steps],
        schedule.batch_size, schedule.rides(dtype), model.activation, schedule.max_norm,
        schedule.decay_bias,
    )  # fmt: skip
    weights = epochs.Weights(parameters, states, np.empty(len(x), dtype))
    epochs.train(x, order, labels, first, weights, num_threads)
    return parameters

def fit_both(x, labels, sizes, bias=True, **how):
    """Fit the reference, and a model with 1, 2 and 3 threads; compare them, and return the last."""
    expected = reference.MLP(sizes, bias, x.dtype, rng=2)
    history = expected.fit(x, labels, rng=4, **how)
    for num_threads in (1, 2, 3):
        model = fastmlp.MLP(sizes, bias, x.dtype, rng=2)
        with with_threads(num_threads):
            own = model.fit(x, labels, rng=4, **how)
        assert_same_bits(model.flat_parameters, expected.flat_parameters)
        assert own.loss == history.loss
        assert own.accuracy == history.accuracy
    return model


@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 70])
@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_step(dtype, optimizer, batch_size, decay, threads):
    samples = 5 if batch_size == 1 else 75
    x, labels = data(samples, dtype)
    order = np.argsort(np.random.PCG64(3).random_raw(samples), kind="stable")
    steps = -(-samples // batch_size)
    rates = np.linspace(0.1, 0.01, steps)
    twin = reference.MLP(SIZES, dtype=dtype, rng=1)
    model = fastmlp.MLP(SIZES, dtype=dtype, rng=1)
    schedule = checked_schedule(samples, 1, batch_size, rates, optimizer, 0.9, decay)
    for step, expected in enumerate(
        composed_steps(twin, x[order], labels[order], batch_size, optimizer, rates, decay), 1
    ):
        arguments = (x, order, labels[order], schedule, step, fastmlp.get_num_threads())
        assert_same_bits(compiled_steps(model, *arguments), expected)
    assert step == steps


@pytest.mark.parametrize(
    ("sizes", "batch_size"),
    [
        ([5, 3], 30),  # no hidden layer
        ([300, 33, 70, 12], 30),  # two leaves of inputs, three layers
        ([7, 300, 5], 30),  # two leaves of hidden outputs: W^T is packed leaf by leaf
        ([9, 40, 30], 230),  # W is packed, too
        ([4, 6, 2], 300),  # two leaves of samples, then few
        ([3, 5, 2], 7000),  # many leaves of samples: a task is a run of them
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_other_sizes(dtype, sizes, batch_size):
    x, labels = data(batch_size + 17, dtype, sizes)
    bias = [layer % 2 == 0 for layer in range(len(sizes) - 1)]
    how = {"epochs": 2, "optimizer": "momentum", "learning_rate": 0.05}
    fit_both(x, labels, sizes, bias, batch_size=batch_size, **how)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "samples"),
    [
        ([200, 90, 3], 4096, 4096 + 3840),  # two threads: 8 runs of leaves, then 15 of fewer
        ([9, 5, 2], 34 * 256, 34 * 256 + 5),  # shares of two and of three threads meet in a run
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_batches(dtype, sizes, batch_size, samples):
    x, labels = data(samples, dtype, sizes)
    fit_both(x, labels, sizes, epochs=1, batch_size=batch_size, learning_rate=0.05)


@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_layers(dtype, optimizer):
    sizes = [60, 280, 300, 4]  # the first two go by columns; leaves of 256 end within a panel
    x, labels = data(25, dtype, sizes)
    how = {"epochs": 2, "batch_size": 3, "optimizer": optimizer, "learning_rate": 0.02}
    model = fit_both(x, labels, sizes, [True, False, True], **how)
    assert layers_by_columns(model, steps=9, num_threads=3) == 2


@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize(
    ("sizes", "batch_size"),
    [
        ([784, 100, 10], 128),
        ([300, 70, 10], 100),  # two leaves of inputs
        ([130, 140, 10], 300),  # two leaves of samples
        ([260, 70], 30),  # the last layer, too
        ([40, 700, 50, 6], 32),  # many panels, and two of the layers go by columns
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_epoch_is_its_steps(dtype, sizes, batch_size, decay, threads):
    # Epochs of few steps don't go by columns.
    x, labels = data(8 * batch_size + batch_size // 2, dtype, sizes)
    models = [fastmlp.MLP(sizes, dtype=dtype, rng=2) for _ in range(2)]
    how = {
        "epochs": 1, "batch_size": batch_size, "optimizer": "sgd", "learning_rate": 0.01,
        "weight_decay": decay, "shuffle": False,
    }  # fmt: skip
    models[0].fit(x, labels, **how)
    for start in range(0, len(x), 5 * batch_size):
        mine = slice(start, start + 5 * batch_size)
        models[1].fit(x[mine], labels[mine], **how)
    assert layers_by_columns(models[0], steps=9, num_threads=1) > 0
    assert layers_by_columns(models[0], steps=5, num_threads=1) == 0
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)


def test_both_modules_score_alike():
    x, labels = data(90)
    results = []
    for module in (fastmlp, reference):
        model = module.MLP(SIZES, rng=1)
        history = model.fit(
            x, labels, epochs=3, batch_size=20, rng=0, validation=(x[:9], labels[:9])
        )
        assert history.best_epoch is None
        assert [len(values) for values in list(vars(history).values())[:5]] == [3] * 5
        assert history.validation_loss[-1] == model.loss(x[:9], labels[:9])
        assert history.validation_accuracy[-1] == model.score(x[:9], labels[:9])
        history.seconds.clear()
        scores = model.score(x, labels), model.loss(x, labels)
        results.append((vars(history), scores, model.predict_proba(x), model.predict_log_proba(x)))
    assert results[0][:2] == results[1][:2]
    assert_same_bits(results[0][2], results[1][2])
    assert_same_bits(results[0][3], results[1][3])
    assert_same_bits(results[0][3], model.forward(x))


def test_history_is_that_of_the_steps():
    x, labels = data(50)
    model = fastmlp.MLP(SIZES, rng=1)
    log_prob, right = model.forward(x), model.predict(x) == labels
    history = model.fit(x, labels, epochs=1, batch_size=50, shuffle=False)
    one_hot = fastmlp.one_hot(labels, SIZES[-1], np.float32)
    assert history.loss == [float(fastmlp.compute_loss(log_prob, one_hot))]
    assert history.accuracy == [np.count_nonzero(right) / 50]
    assert history.validation_loss == []


def test_a_nan_is_no_hit_and_reaches_what_it_touches(threads):
    x, labels = data(40)
    x[3, 2] = np.nan
    x[5, 1] = np.inf
    models = [module.MLP(SIZES, rng=1) for module in (fastmlp, reference)]
    how = {"epochs": 1, "batch_size": 8, "shuffle": False, "check_finite": False}
    histories = [model.fit(x, labels, **how) for model in models]
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)
    assert histories[0].accuracy == histories[1].accuracy
    assert np.isnan(histories[0].loss[0])
    assert np.isnan(histories[1].loss[0])


def test_one_hot_labels_and_other_layouts_are_the_same():
    x, labels = data(64)
    expected = fastmlp.MLP(SIZES, rng=1)
    expected.fit(x, labels, epochs=2, rng=7)
    one_hot = fastmlp.one_hot(labels, SIZES[-1])
    for other_x, other_labels in [
        (np.asfortranarray(x), one_hot),
        (x.reshape(64, 4, 5), labels.astype(np.uint8)),
        (x, one_hot.astype(bool)),
        (x.tolist() if x.dtype == np.float64 else x[::-1][::-1], labels.tolist()),
    ]:
        model = fastmlp.MLP(SIZES, rng=1)
        model.fit(other_x, other_labels, epochs=2, rng=7)
        assert_same_bits(model.flat_parameters, expected.flat_parameters)


def test_models_train_side_by_side_each_with_its_own_bits():
    x, labels = data(200)

    def fit(seed):
        model = fastmlp.MLP(SIZES, rng=seed)
        model.fit(x, labels, epochs=3, batch_size=16, rng=seed)
        return model.flat_parameters

    alone = [fit(seed) for seed in range(8)]
    with with_threads(1), ThreadPoolExecutor(4) as pool:
        for together, expected in zip(pool.map(fit, range(8)), alone, strict=True):
            assert_same_bits(together, expected)


def test_it_learns():
    x, labels = data(300, np.float64)
    labels = (x[:, 0] > x[:, 1]).astype(int)
    model = fastmlp.MLP([20, 16, 2], dtype=np.float64, rng=0)
    history = model.fit(x, labels, epochs=60, batch_size=30, learning_rate=0.01, rng=0)
    assert history.loss[-1] < history.loss[0] / 4
    assert model.score(x, labels) > 0.97


def test_a_callback_sees_every_epoch_and_can_stop():
    x, labels = data(30)
    seen = []

    def callback(history):
        seen.append(len(history.loss))
        return len(seen) == 2

    history = fastmlp.MLP(SIZES, rng=0).fit(x, labels, epochs=9, rng=0, callback=callback)
    assert seen == [1, 2]
    assert len(history.loss) == 2


class InterruptedOnce:
    """A model's attributes, of which an interrupt forbids to write one, the first time."""

    def __init__(self, attributes):
        self.attributes, self.interrupted = attributes, False

    def __getitem__(self, name):
        return self.attributes[name]

    def get(self, name):
        return self.attributes.get(name)

    def __setitem__(self, name, value):
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        self.attributes[name] = value


@pytest.mark.parametrize("finished", [2, 3])
@pytest.mark.parametrize("module", [fastmlp, reference])
def test_an_interrupt_leaves_the_last_finished_epoch(module, finished, monkeypatch):
    # One between the third epoch's weights and its state waits until both are written.
    x, labels = data(60)
    how = {"batch_size": 10, "optimizer": "momentum", "learning_rate": 0.1, "rng": 3}
    model, expected = (module.MLP(SIZES, rng=0) for _ in range(2))
    expected.fit(x, labels, epochs=finished, **how)
    train_epoch, keep, calls = type(model)._train_epoch, Keeper.keep, []

    def interrupted(*arguments):
        epoch = train_epoch(*arguments)
        calls.append(1)
        if len(calls) == 3 and finished == 2:
            raise KeyboardInterrupt
        return epoch

    def keep_and_interrupt(keeper, number, *arguments):
        if number == 3 and not isinstance(keeper.attributes, InterruptedOnce):
            keeper.attributes = InterruptedOnce(keeper.attributes)
        keep(keeper, number, *arguments)

    monkeypatch.setattr(type(model), "_train_epoch", interrupted)
    monkeypatch.setattr(Keeper, "keep", keep_and_interrupt)
    with pytest.raises(KeyboardInterrupt, match=f"the model is as epoch {finished} of 5 left it"):
        model.fit(x, labels, epochs=5, **how)
    assert_same_bits(model.flat_parameters, expected.flat_parameters)
    assert model.optimizer_state[:2] == expected.optimizer_state[:2] == ("momentum", 6 * finished)
    assert_same_bits(model.optimizer_state.arrays, expected.optimizer_state.arrays)


def test_numpys_arithmetic_composes_the_operations():
    x, labels = data(40)
    models = [fastmlp.MLP(SIZES, rng=0) for _ in range(2)]
    with fastmlp.arithmetic("numpy"):
        models[0].fit(x, labels, epochs=1, batch_size=40, optimizer="sgd", shuffle=False)
        models[1].forward(x)
        label = fastmlp.one_hot(labels, SIZES[-1], np.float32)
        models[1].backward(label * np.float32(1 / 40))
        fastmlp.sgd([models[1].flat_parameters], [models[1].flat_gradients], 1e-3)
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)


def test_the_notebooks_model_fits_with_its_own_operations():
    x, labels = data(30, np.float64, [784, 100, 10])
    models = [fastmlp.NotebookMLP(rng=0) for _ in range(2)]
    models[0].fit(x, labels, epochs=1, batch_size=30, optimizer="sgd", shuffle=False)
    models[1].forward(x)
    models[1].backward(fastmlp.one_hot(labels) * np.float64(1 / 30))
    fastmlp.sgd([models[1].flat_parameters], [models[1].flat_gradients], 1e-3)
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)
    assert_same_bits(models[0].predict_log_proba(x), models[0].forward(x))


def test_progress_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # tqdm cuts a bar at the terminal's width
    x, labels = data(30)
    fastmlp.MLP(SIZES, rng=0).fit(x, labels, epochs=2, progress=True, validation=(x, labels))
    shown = capsys.readouterr().err
    for word in ("2/2", "epochs", "loss=", "accuracy=", "val_loss="):
        assert word in shown

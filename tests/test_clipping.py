"""fit with max_norm and decay_bias: the bits of the operations, and what the limit does."""

import math

import numpy as np
import pytest
from fastmlp_kernels.plans import record
from fastmlp_kernels.steps import norm
from helpers import DTYPES, assert_same_bits, floats, run_operation, with_threads
from test_fit import compiled_steps, data
from test_sparse_layer import data as sparse_data

import fastmlp
from fastmlp import reference
from fastmlp.model import fit
from fastmlp.model.epochs import this_machine
from fastmlp.model.fit_checks import checked_schedule
from fastmlp.plan.step import plan_training
from fastmlp.plan.ways import STATES, Training

SIZES = [20, 17, 6]
MAX_NORM = 0.85  # of the steps below, most have a larger norm, and the later ones of Adam a smaller


def by_layers(model, sizes, gradients):
    """The weights W and b of all layers, or their gradients, as views."""
    arrays = model.gradients if gradients else model.parameters
    return [W[:rows] for W, rows in zip(arrays, sizes, strict=False)], [W[-1] for W in arrays]


def written_out(x, labels, optimizer, rates, decay, batch_size):
    """The reference's parameters and the norm of each step, with the biases updated apart."""
    model = reference.MLP(SIZES, dtype=x.dtype, rng=1)
    W, b = by_layers(model, SIZES, False)
    grad_W, grad_b = by_layers(model, SIZES, True)
    states = [
        [[np.zeros_like(p) for p in part] for _ in range(STATES[optimizer])] for part in (W, b)
    ]
    real = x.dtype.type
    for step, start in enumerate(range(0, len(x), batch_size)):
        mine = slice(start, start + batch_size)
        model.forward(x[mine])
        label = fastmlp.one_hot(labels[mine], SIZES[-1], x.dtype)
        model.backward(label * real(1 / len(label)))
        wide = model.flat_gradients.astype(np.float64)
        square = reference.Matmul().forward(wide.reshape(1, -1), wide.reshape(-1, 1))
        length = math.sqrt(square[0, 0])
        if length > MAX_NORM:
            model.flat_gradients *= real(MAX_NORM / length)
        for params, grads, state, wd in (W, grad_W, states[0], decay), (b, grad_b, states[1], 0.0):
            if wd and optimizer != "adamw":
                for p, g in zip(params, grads, strict=True):
                    g[...] = g + real(wd) * p
            more = {"sgd": (), "momentum": (0.9,), "nesterov": (0.9,)}.get(optimizer)
            if more is not None:
                arguments = (float(rates[step]), *more)
            else:
                arguments = (step + 1, float(rates[step]), 0.9, 0.999, 1e-8)
                arguments += (wd,) if optimizer == "adamw" else ()
            getattr(reference, optimizer)(params, grads, *state, *arguments)
        yield model.flat_parameters, length


@pytest.mark.parametrize("batch_size", [1, 32])
@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_step(dtype, optimizer, batch_size, threads):
    samples = 5 if batch_size == 1 else 75
    x, labels = data(samples, dtype)
    order = np.argsort(np.random.PCG64(3).random_raw(samples), kind="stable")
    steps = -(-samples // batch_size)
    rates = np.linspace(0.2, 0.01, steps)
    model = fastmlp.MLP(SIZES, dtype=dtype, rng=1)
    schedule = checked_schedule(
        samples, 1, batch_size, rates, optimizer, 0.9, 0.3, MAX_NORM, False
    )
    assert not schedule.rides(x.dtype)
    expected = written_out(x[order], labels[order], optimizer, rates, 0.3, batch_size)
    norms = []
    for step, (parameters, length) in enumerate(expected, 1):
        norms.append(length)
        threads_now = fastmlp.get_num_threads()
        ours = compiled_steps(model, x, order, labels[order], schedule, step, threads_now)
        assert_same_bits(ours, parameters)
    assert step == steps
    assert max(norms) > MAX_NORM
    assert batch_size == 1 or optimizer != "adam" or min(norms) < MAX_NORM


# Sizes, samples, batch: whole; by columns, the hidden layer past zeros; past the zeros of x, by
# groups of inputs; many leaves, then few; many leaves past the zeros of x. A limit halves norms.
WAYS = {
    "by samples": ([300, 33, 70, 12], 47, 30, False),
    "by columns": ([130, 128, 130, 4], 75, 10, False),
    "zeros": ([200, 90, 4], 101, 30, True),
    "groups": ([530, 50, 4], 101, 70, True),
    "leaves": ([9, 40, 3], 1800 + 300, 1800, False),
    "leaves and zeros": ([130, 128, 3], 1800 + 40, 1800, True),
}


@pytest.mark.parametrize("how", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_way(dtype, how):
    sizes, samples, batch_size, zeros = how
    x, labels = (sparse_data if zeros else data)(samples, dtype, sizes)
    bias = [layer != 1 for layer in range(len(sizes) - 1)]
    for options in (
        {"optimizer": "sgd", "max_norm": 0.3},
        {"optimizer": "adamw", "max_norm": 0.3, "weight_decay": 0.5, "decay_bias": False},
    ):
        more = {"epochs": 1, "batch_size": batch_size, "learning_rate": 0.05, "rng": 4}
        twin = reference.MLP(sizes, bias, dtype, rng=2)
        history = twin.fit(x, labels, **more, **options)
        for num_threads in (1, 2, 3):
            with with_threads(num_threads):
                model = fastmlp.MLP(sizes, bias, dtype, rng=2)
                assert model.fit(x, labels, **more, **options).loss == history.loss
            assert_same_bits(model.flat_parameters, twin.flat_parameters)


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_the_limit_is_the_length_of_a_step(module):
    x, labels = data(40, np.float64)
    model = module.MLP(SIZES, dtype=np.float64, rng=1)
    before = model.flat_parameters.copy()
    how = {"epochs": 1, "batch_size": 40, "optimizer": "sgd", "learning_rate": 1, "shuffle": False}
    model.fit(x, labels, max_norm=0.125, **how)
    assert np.linalg.norm(model.flat_parameters - before) == pytest.approx(0.125, rel=1e-12)
    twins = [module.MLP(SIZES, dtype=np.float64, rng=1) for _ in range(3)]
    for twin, most in zip(twins, (None, 1e3, np.inf), strict=True):
        twin.fit(x, labels, max_norm=most, **how)
        assert_same_bits(twin.flat_parameters, twins[0].flat_parameters)


@pytest.mark.parametrize("decay_bias", [True, False])
@pytest.mark.parametrize("optimizer", STATES)
def test_what_decays(optimizer, decay_bias):
    # No gradient: all inputs are zero, and so is what comes back from the last layer's weights.
    model = fastmlp.MLP([3, 4, 2], rng=1)
    model.W1[-1], model.W2[...] = -1, 0
    before = model.W1.copy()
    how = {"optimizer": optimizer, "learning_rate": 1e-3, "weight_decay": 0.5, "epochs": 1}
    model.fit(np.zeros((6, 3), np.float32), np.arange(6) % 2, decay_bias=decay_bias, **how)
    assert (np.abs(model.W1[:-1]) < np.abs(before[:-1])).all()
    assert (model.W1[-1] == before[-1]).all() == (not decay_bias)


@pytest.mark.parametrize(
    ("dtype", "batch_size"), [(np.float32, 8), (np.float64, 8), (np.float32, 2100)]
)
def test_a_norm_that_is_not_finite_limits_nothing(dtype, batch_size, threads):
    # NaN and inf reach what they would without a limit, for fit's own check to find.
    x, labels = data(batch_size + 5, dtype)
    x[batch_size // 2, 2] = np.inf
    models = [module.MLP(SIZES, dtype=dtype, rng=1) for module in (fastmlp, reference)]
    how = {"epochs": 1, "batch_size": batch_size, "shuffle": False, "optimizer": "sgd"}
    for model in models:
        with np.errstate(all="ignore"):
            model.fit(x, labels, max_norm=0.5, check_finite=False, **how)
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)
    assert np.isnan(models[0].flat_parameters).any()
    with pytest.raises(ValueError, match=rf"^x\[{batch_size // 2}, 2\]: expected finite"):
        models[0].fit(x, labels, max_norm=0.5, **how)


def test_squares_that_overflow_are_no_norm():
    x = np.full((4, 3), 1e200)
    models = [module.MLP([3, 2], dtype=np.float64, rng=1) for module in (fastmlp, reference)]
    for model in models:
        model.W1[:-1] = 0
        model.fit(x, [0, 0, 0, 1], epochs=1, optimizer="sgd", max_norm=1.0)
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)
    assert np.abs(models[0].W1).max() > 1e190


@pytest.mark.parametrize("kind", ["numpy", "notebook"])
def test_composed_epochs_clip_too(kind):
    if kind == "numpy":
        x, labels = data(40)
        with fastmlp.arithmetic("numpy"):
            model = fastmlp.MLP(SIZES, rng=0)
            before = model.flat_parameters.copy()
            model.fit(x, labels, epochs=1, optimizer="sgd", learning_rate=1, max_norm=0.25)
        assert np.linalg.norm(model.flat_parameters - before) == pytest.approx(0.25, rel=1e-5)
        return
    x, labels = data(8, np.float64, [784, 100, 10])
    models = [module.NotebookMLP(rng=0) for module in (fastmlp, reference)]
    for model in models:
        how = {"epochs": 1, "optimizer": "adamw", "weight_decay": 0.5, "decay_bias": False}
        model.fit(x, labels, batch_size=5, max_norm=1e-3, rng=2, **how)
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_the_compiled_epoch_is_the_composed_one(optimizer, monkeypatch):
    x, labels = data(90)
    models = [fastmlp.MLP(SIZES, rng=1) for _ in range(2)]
    how = {"weight_decay": 0.2, "decay_bias": False, "max_norm": 0.3, "batch_size": 40, "rng": 2}
    models[0].fit(x, labels, optimizer=optimizer, epochs=2, **how)
    monkeypatch.setattr(fastmlp.MLP, "_train_epoch", fit.composed_epoch)
    models[1].fit(x, labels, optimizer=optimizer, epochs=2, **how)
    assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)


@pytest.mark.parametrize("size", [1, 256, 300, 8 * 256, 11 * 256 + 7, 21 * 256])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_squares_of_a_run_of_leaves(dtype, size):
    values = np.full(size + 2048, np.nan, dtype)
    values[:size] = floats(size, (size,), dtype, -1, 1)
    leaves = -(-size // 256)
    sums = np.full(leaves + 8, -1.0)
    kernel = norm.squares_kernel(np.dtype(dtype))
    run_operation(kernel, "squares", values=values, size=size, sums=sums)
    assert sums[0] == reference.MLP._sum_of_squares(values[:size])
    assert (sums[leaves:] == -1).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_runs_of_leaves_are_whole_subtrees(threads):
    for sizes in ((10, 16, 3), (300, 33, 70, 12), (784, 100, 10)):
        training = Training(
            sizes, (True,) * (len(sizes) - 1), 4, 30, 0, threads, "sgd", rides=False,
            ordered=False, is_long=True, skips=True, skips_x=False, groups=(), clips=True,
        )  # fmt: skip
        operations = plan_training(training, this_machine()).operations
        clips = operations[operations[:, 0] == record.OPCODES["clip"]]
        places = [record.FIELDS["clip"].index(name) for name in ("each", "count")]
        (each, count), *others = {tuple(row) for row in clips[:, places].tolist()}
        assert not others
        assert count == 1 or (each & (each - 1) == 0 and count <= 8 * threads)

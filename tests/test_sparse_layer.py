"""Layers in training pass over the zeros of their inputs: the bits of the reference's steps."""

from itertools import product

import numpy as np
import pytest
from fastmlp_kernels.compiling.cpu import vector_bits
from fastmlp_kernels.steps import zeros
from helpers import (
    DTYPES,
    assert_same_bits,
    floats,
    layers_by_columns,
    run_operation,
    with_threads,
)

import fastmlp
from fastmlp import reference
from fastmlp.model import epochs
from fastmlp.plan import ways
from fastmlp.plan.step import plan_training
from fastmlp.plan.ways import STATES

SIZES = [200, 90, 4]  # 4 words of inputs, the last of 8 bits
BY_LEAVES = [530, 50, 4]  # three leaves of inputs, tasks of their own


def data(samples, dtype, sizes=SIZES, share=0.2, seed=0):
    """Samples of which a share isn't zero, zeros of both signs, and labels."""
    x = floats(seed, (samples, sizes[0]), dtype, -3, 1)
    raw = np.random.PCG64(seed + 1).random_raw(x.size).reshape(x.shape)
    uniform = (raw >> np.uint64(11)) * 2.0**-53
    x = np.where(uniform < share, x, np.where(uniform < 0.6, 0, -0.0)).astype(dtype)
    return x, np.arange(samples) * 7 % sizes[-1]


def passes_over(model, x):
    return epochs.pays_to_skip(x, model.sizes)


def fitted(module, x, labels, sizes, bias, change, how):
    model = module.MLP(sizes, bias, x.dtype, rng=2)
    if change is not None:
        change(model)
    with np.errstate(all="ignore"):
        return model, model.fit(x, labels, rng=4, check_finite=False, **how)


def fit_both(x, labels, sizes=SIZES, bias=True, change=None, passes=True, **how):
    """Fit a model with 1, 2 and 3 threads, and its reference, which is returned; compare them.

    passes: whether the first layer shall pass over zeros.
    """
    expected, history = fitted(reference, x, labels, sizes, bias, change, how)
    for num_threads in (1, 2, 3):
        with with_threads(num_threads):
            model, own = fitted(fastmlp, x, labels, sizes, bias, change, how)
        assert passes_over(model, x) == (passes and vector_bits() > 0)
        assert_same_bits(model.flat_parameters, expected.flat_parameters)
        assert_same_bits(np.array(own.loss), np.array(history.loss))
        assert own.accuracy == history.accuracy
    return expected


# The later optimizers differ from the first three in their update alone.
FIRST, LATER = ("sgd", "momentum", "adam"), ("nesterov", "adamw")
BATCHES = [(1, 0.0), (30, 0.0), (30, 1e-2), (64, 0.0), (150, 1e-2)]
RUNS = [(optimizer, *batch) for optimizer in FIRST for batch in BATCHES]
RUNS += [(optimizer, 30, 1e-2) for optimizer in LATER]


@pytest.mark.parametrize(("optimizer", "batch_size", "weight_decay"), RUNS)
@pytest.mark.parametrize("sizes", [SIZES, BY_LEAVES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_optimizer(dtype, sizes, optimizer, batch_size, weight_decay):
    assert {*FIRST, *LATER} == {*STATES}
    x, labels = data(67 if batch_size == 1 else 161, dtype, sizes)
    how = {"optimizer": optimizer, "learning_rate": 0.02, "weight_decay": weight_decay}
    epochs = 1 if batch_size == 1 else 2
    fit_both(x, labels, sizes, epochs=epochs, batch_size=batch_size, **how)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "samples"),
    [
        ([256, 70, 3], 90, 100),  # the bias is a leaf of its own
        ([512, 50, 3], 90, 200),
        ([768, 40, 3], 70, 200),  # a leaf of the bias alone joins its sibling
        ([784, 40, 3], 70, 200),  # so does a leaf of 16 inputs, and one of 82 doesn't
        ([850, 40, 3], 70, 200),
        ([1300, 40, 3], 21, 200),  # six leaves of inputs
        ([530, 130, 150, 3], 40, 400),  # three leaves of inputs; the second layer goes by columns
        ([300, 60, 3], 600, 700),  # three leaves of samples
        ([90, 200, 3], 3000, 3300),  # runs of leaves for one thread
        ([90, 190, 3], 4096, 4096 + 3000),  # runs of leaves, and fewer in the last batch
    ],
)
@pytest.mark.parametrize("bias", [True, [False, True, False]])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_size(dtype, bias, sizes, batch_size, samples):
    x, labels = data(samples, dtype, sizes)
    bias = bias if bias is True else bias[: len(sizes) - 1]
    fit_both(x, labels, sizes, bias, epochs=1, batch_size=batch_size, learning_rate=0.01)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("sizes", [SIZES, BY_LEAVES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_samples_as_they_lie(dtype, sizes, shuffle):
    x, labels = data(300, dtype, sizes)
    fit_both(x, labels, sizes, epochs=2, batch_size=70, optimizer="sgd", shuffle=shuffle)


@pytest.mark.parametrize(
    ("batch_size", "value"),
    [(40, -0.0), (40, np.nan), (40, np.inf), (40, -np.inf), (3100, -0.0), (3100, np.inf)],
)
@pytest.mark.parametrize("sizes", [SIZES, BY_LEAVES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_zeros_matter_for(dtype, sizes, batch_size, value):
    # Of an input that is always zero: 0 * inf makes NaN of the sum, and the relu +0 of it.
    x, labels = data(batch_size + 60, dtype, sizes)
    x[:, 3] = 0

    def change(model):
        model.W1[3] = value

    fit_both(x, labels, sizes, change=change, epochs=1, batch_size=batch_size, optimizer="sgd")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_of_minus_zero(dtype):
    # The gradient is a product that underflows to -0, and a zero behind it makes +0 of that. Of -0,
    # the one makes +0, the other leaves it.
    x, labels = data(120, dtype)
    x[:, 3] = 0
    x[::7, 3] = np.finfo(dtype).smallest_subnormal

    def change(model):
        model.W1[3] = -0.0

    expected = fit_both(x, labels, change=change, epochs=1, batch_size=40, optimizer="sgd")
    assert np.signbit(expected.W1[3]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sample_that_is_not_finite(dtype, optimizer, value):
    x, labels = data(200, dtype)
    x[75, 3] = value
    how = {"optimizer": optimizer, "learning_rate": 0.1, "shuffle": False}
    fit_both(x, labels, epochs=1, batch_size=40, **how)


@pytest.mark.parametrize("batch_size", [40, 3100])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_that_are_not_finite(dtype, value, batch_size):
    x, labels = data(batch_size + 60, dtype)
    x[:, 3] = 0

    def change(model):
        model.W2[1, 1] = value

    expected = fit_both(x, labels, change=change, epochs=1, batch_size=batch_size, optimizer="sgd")
    assert np.isnan(expected.W1[3]).any()  # 0 * NaN


@pytest.mark.parametrize(
    ("optimizer", "batch_size"), [("sgd", 40), ("momentum", 40), ("momentum", 3100)]
)
@pytest.mark.parametrize("sizes", [SIZES, BY_LEAVES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_overflow_on_the_way(dtype, sizes, optimizer, batch_size):
    x, labels = data(batch_size + 90, dtype, sizes)
    rates = np.full(-(-len(x) // batch_size), 0.01)
    rates[-2] = np.finfo(dtype).max
    fit_both(
        x, labels, sizes, epochs=1, batch_size=batch_size, optimizer=optimizer,
        learning_rate=rates, shuffle=False,
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [SIZES, BY_LEAVES])
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_weight_that_overflows(dtype, sizes):
    # Of an input that is zero in all later steps, where 0 * inf makes NaN.
    x, labels = data(120, dtype, sizes)
    x[:, 3] = 0
    x[5, 3] = np.finfo(dtype).max

    def change(model):
        model.W1[3] = 0
        model.W2 *= dtype(1e3)

    how = {"optimizer": "sgd", "learning_rate": 1e-3, "shuffle": False}
    expected = fit_both(x, labels, sizes, change=change, epochs=1, batch_size=40, **how)
    assert np.isinf(expected.W1[3]).any()


def test_a_rate_beyond_float32():
    x, labels = data(90, np.float32)
    fit_both(x, labels, epochs=1, batch_size=30, optimizer="sgd", learning_rate=1e39)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_that_underflow(dtype):
    # Products that round to -0, beside zeros that make +0 of it.
    x, labels = data(120, dtype)
    x *= dtype(np.finfo(dtype).smallest_subnormal * 8)

    def change(model):
        model.W1 *= dtype(0.01)

    fit_both(x, labels, change=change, epochs=2, batch_size=40, optimizer="sgd", learning_rate=1)


# Hidden layers, where all large ones do; with 3 threads back by columns, as larger ones.


@pytest.fixture
def back_by_columns(monkeypatch):
    monkeypatch.setattr(ways, "LARGE_WEIGHTS", ways.SMALLEST_WEIGHTS)
    for kept in (epochs.prepare, plan_training):
        kept.cache_clear()
    yield
    for kept in (epochs.prepare, plan_training):
        kept.cache_clear()


HIDDEN = [130, 128, 130, 4]  # the first two layers go by columns, the second passes over zeros
BATCH, STEPS = 20, 9
LAST_RATE = np.array([0.0] * (STEPS - 1) + [0.01])  # the last step alone changes weights


def fit_hidden(dtype, share=0.9, change=None, change_x=None, **how):
    x, labels = data(BATCH * STEPS, dtype, HIDDEN, share)
    if change_x is not None:
        change_x(x)
    assert layers_by_columns(fastmlp.MLP(HIDDEN, dtype=dtype), STEPS, 2) == 2
    how = {"epochs": 1, "batch_size": BATCH, "optimizer": "sgd", "learning_rate": 0.01} | how
    return fit_both(x, labels, HIDDEN, change=change, passes=share < 0.5, **how)


HIDDEN_RUNS = list(product(FIRST, (0, 1e-2), (0.2, 0.9)))
HIDDEN_RUNS += [(name, 1e-2, 0.9) for name in LATER]


@pytest.mark.parametrize(("optimizer", "weight_decay", "share"), HIDDEN_RUNS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("back_by_columns")
def test_hidden_layers(dtype, optimizer, weight_decay, share):
    fit_hidden(dtype, share, optimizer=optimizer, weight_decay=weight_decay, epochs=2)


@pytest.mark.parametrize(
    ("sizes", "batch_size", "samples"),
    [
        ([70, 300, 280, 90, 3], 70, 600),  # more leaves of inputs than one, and of outputs
        ([130, 128, 257, 3], 260, 8 * 260 + 20),  # two leaves of samples
        ([300, 130, 130, 3], 1, 10),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("back_by_columns")
def test_hidden_sizes(dtype, bias, sizes, batch_size, samples):
    x, labels = data(samples, dtype, sizes, share=0.9)
    how = {"epochs": 1, "batch_size": batch_size, "learning_rate": 0.01}
    fit_both(x, labels, sizes, bias, passes=False, **how)


def kill_unit(model):
    """Make the first hidden layer's unit 3 zero for every sample."""
    model.W1[:, 3] = 0
    model.W1[-1, 3] = -1


@pytest.mark.parametrize("layer", ["W1", "W2", "W3"])
@pytest.mark.parametrize("value", [-0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("back_by_columns")
def test_hidden_weights_that_zeros_matter_for(dtype, value, layer):
    def change(model):
        kill_unit(model)
        # W2: makes NaN of 0 * inf, and the relu 0 of it. W3: gradients that are not finite.
        getattr(model, layer)[3] = value

    expected = fit_hidden(dtype, change=change)
    if layer == "W3" and not np.isfinite(value):
        assert np.isnan(expected.W2[3]).any()  # 0 * NaN


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("back_by_columns")
def test_a_hidden_weight_of_minus_zero(dtype):
    # As test_a_weight_of_minus_zero, with a hidden unit that is 0 or subnormal.
    def change(model):
        model.W1[:, 3] = 0
        model.W1[:5, 3] = np.finfo(dtype).smallest_subnormal
        model.W2[3] = -0.0

    expected = fit_hidden(dtype, change=change)
    assert np.signbit(expected.W2[3][expected.W2[3] == 0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("back_by_columns")
def test_a_first_weight_of_minus_zero(dtype):
    # Of most samples the first layer's gradient is a sum of products that underflow, whose zero has
    # a sign that depends on the zeros between them; so has the zero to which x makes the gradient
    # of W1 underflow then.
    least = np.finfo(dtype).smallest_subnormal

    def change(model):
        model.W1[3] = -0.0
        number = np.arange(model.W2.size).reshape(model.W2.shape)
        keep = number * 11 % 53 == 0
        keep[:, -1] = True
        signs = np.where(number * 7 % 13 > 6, least, -least)
        model.W2[...] = np.where(keep, model.W2, signs)

    def tiny(x):
        x[:, 3] = 0
        x[-BATCH:, 3] = least

    expected = fit_hidden(
        dtype, change=change, change_x=tiny, learning_rate=LAST_RATE, shuffle=False
    )
    assert np.signbit(expected.W1[3]).any()
    assert not np.signbit(expected.W1[3]).all()


@pytest.mark.parametrize("optimizer", STATES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("back_by_columns")
def test_a_last_gradient_that_is_not_finite(dtype, optimizer):
    # No later step would make the NaN again.
    def change(model):
        kill_unit(model)
        model.W3 *= dtype(1e6)

    def huge(x):
        x[-1] *= dtype(1e-4) * np.finfo(dtype).max

    expected = fit_hidden(
        dtype,
        change=change,
        change_x=huge,
        optimizer=optimizer,
        learning_rate=LAST_RATE,
        shuffle=False,
    )
    assert np.isnan(expected.W2[3]).any()  # 0 * NaN


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("back_by_columns")
def test_a_gradient_that_overflows_on_its_way_back(dtype):
    # It comes from finite ones, in the last step alone: before, all labels are as sure as can be.
    x, _ = data(BATCH * STEPS, dtype, HIDDEN)
    x[:, 5] = 0
    labels = (np.arange(len(x)) >= len(x) - BATCH).astype(int)

    def change(model):
        kill_unit(model)
        model.W2[3] = np.finfo(dtype).max / 2
        model.W3 *= dtype(1e4)
        model.W3[-1, 0] = 1e7

    expected = fit_both(
        x, labels, HIDDEN, change=change, epochs=1, batch_size=BATCH, optimizer="sgd",
        learning_rate=LAST_RATE, shuffle=False,
    )  # fmt: skip
    assert np.isnan(expected.W1[5, 3])  # 0 * NaN


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("back_by_columns")
def test_hidden_weights_that_overflow_on_the_way(dtype, optimizer):
    rates = np.full(STEPS, 0.01)
    rates[4] = np.finfo(dtype).max
    fit_hidden(dtype, optimizer=optimizer, learning_rate=rates, shuffle=False)


def test_which_data_pays():
    x, _ = data(100, np.float32)
    model = fastmlp.MLP(SIZES, rng=0)
    assert passes_over(model, x) == (vector_bits() > 0)
    assert not passes_over(model, x[:50])
    assert not passes_over(model, data(100, np.float32, share=0.8)[0])
    assert not passes_over(fastmlp.MLP([200, 4], rng=0), x)  # no relu
    assert not passes_over(fastmlp.MLP([200, 9, 4], rng=0), x)  # a small layer


@pytest.mark.parametrize("rows", [1, 5, 63, 64])
@pytest.mark.parametrize("inputs", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("dtype", DTYPES)
def test_words(dtype, inputs, rows):
    x, _ = data(rows, dtype, [inputs, 2], share=0.4)
    x[0, 0], x[-1, -1] = np.nan, np.finfo(dtype).smallest_subnormal
    each, stride = -(-inputs // 64), 3
    row_words = np.zeros((rows, each), np.uint64)
    column_words = np.zeros((inputs + 1, stride), np.uint64)
    run_operation(
        zeros.find_kernel(x.dtype), "find", rows, x=x, x_row=inputs, inputs=inputs, stop=each,
        words=row_words, words_row=each, column_words=column_words.reshape(-1)[1:], stride=stride,
        square=np.zeros(64, np.uint64),
    )  # fmt: skip
    in_rows = np.unpackbits(row_words.view(np.uint8), axis=1, bitorder="little")[:, :inputs]
    np.testing.assert_array_equal(in_rows, x != 0)
    middle = np.ascontiguousarray(column_words[:, 1:2]).view(np.uint8)
    in_columns = np.unpackbits(middle, axis=1, bitorder="little")[:, :rows]
    np.testing.assert_array_equal(in_columns[:-1], (x != 0).T)
    assert in_columns[-1].all()
    assert not column_words[:, [0, 2]].any()

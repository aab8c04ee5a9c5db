"""Hidden layers of every activation: an epoch by its plan has the reference's bits."""

import pickle

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, with_threads

import fastmlp
from fastmlp import reference
from fastmlp.plan.blocking import machine
from fastmlp.plan.ways import ACTIVATIONS, Training, choose

MODULES = fastmlp, reference

# The ways that layers go: sizes, samples, batch, optimizer, the share of zeros in x.
WAYS = {
    "by samples": ([10, 16, 12, 3], 100, 32, "adam", 0),
    "by columns": ([130, 140, 150, 30, 4], 200, 24, "sgd", 0),
    "zeros, by groups": ([530, 60, 40, 5], 200, 24, "momentum", 0.7),
    "zeros, by columns": ([300, 220, 180, 5], 200, 24, "adam", 0.7),
    "many leaves": ([20, 19, 13, 3], 2200, 2080, "adam", 0),
    "zeros, many leaves": ([200, 150, 6, 3], 2080, 2080, "sgd", 0.7),
}


def data(sizes, samples, zeros, dtype):
    x = floats(1, (samples, sizes[0]), dtype, -3, 1)
    x[np.random.PCG64(2).random_raw(x.size).reshape(x.shape) < zeros * 2.0**64] = 0
    return x, np.arange(samples) * 7 % sizes[-1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_an_epoch(way, dtype):
    sizes, samples, batch_size, optimizer, zeros = WAYS[way]
    x, y = data(sizes, samples, zeros, dtype)
    # Neighbours of every kind over the ways: with relu on both sides, below, above, nowhere.
    first = list(WAYS).index(way) + DTYPES.index(dtype)
    names = [ACTIVATIONS[(first + 2 * layer) % len(ACTIVATIONS)] for layer in range(len(sizes) - 2)]

    def fitted(module):
        model = module.MLP(sizes, dtype=dtype, rng=3, activation=names)
        model.W1[-1] = 0.125  # a bias
        how = {"epochs": 1, "batch_size": batch_size, "optimizer": optimizer}
        model.fit(x, y, learning_rate=0.01, rng=5, **how)
        model.forward(x[:50])
        model.backward(np.eye(sizes[-1], dtype=dtype)[y[:50]])
        arrays = model.flat_parameters, model.flat_gradients
        return *arrays, model.predict_log_proba(x[:33]), model.predict(x[:70])

    expected = fitted(reference)
    for num_threads in (1, 2, 3):
        with with_threads(num_threads):
            found = fitted(fastmlp)
        for one, other in zip(found, expected, strict=True):
            assert_same_bits(one, other)


def test_only_relu_makes_zeros_to_pass_over():
    """Where a neighbour is no relu, a hidden layer's products take every element."""
    sizes = (130, 140, 150, 160, 4)
    for activation, expected in [
        (("relu",) * 3, [False, True, True, False]),
        (("relu", "tanh", "relu"), [False, False, False, False]),
        (("silu", "relu", "relu"), [False, False, True, False]),
    ]:
        training = Training(
            sizes, (True,) * 4, 4, 24, 0, 2, "sgd", rides=True, ordered=True, is_long=True,
            skips=True, skips_x=False, groups=(), activation=activation,
        )  # fmt: skip
        assert [layer.skips for layer in choose(training, machine(256, False))] == expected


def test_initial_weights_have_the_bound_of_their_activation():
    """He's before relu and its kin, Glorot's before the others: the same draws, another bound."""
    relu = fastmlp.MLP([6, 30, 4], dtype=np.float64, rng=1)
    for name in ACTIVATIONS:
        model = fastmlp.MLP([6, 30, 4], dtype=np.float64, rng=1, activation=name)
        is_kin = name in ("relu", "leaky_relu", "silu", "gelu")
        bound = np.sqrt(6 / (6 if is_kin else 6 + 30))
        raw = np.random.PCG64(1).random_raw(6 * 30).reshape(6, 30)
        u = (raw >> np.uint64(11)) * 2.0**-53
        assert_same_bits(model.W1[:6], (2 * u - 1) * bound)
        assert_same_bits(model.W2, relu.W2)


@pytest.mark.parametrize("module", MODULES, ids=["fastmlp", "reference"])
def test_names(module):
    model = module.MLP([4, 3, 3, 2], activation=["tanh", "relu"], rng=0)
    assert model.activation == ("tanh", "relu")
    assert "activation=['tanh', 'relu']" in repr(model)
    assert pickle.loads(pickle.dumps(model)).activation == ("tanh", "relu")
    state = model.__getstate__()
    del state["activation"]  # as version 1 kept it
    old = module.MLP([4, 3, 3, 2])
    old.__setstate__(state)
    assert old.activation == ("relu", "relu")
    with pytest.raises(AttributeError, match="make another model"):
        model.activation = ("relu", "relu")
    for wrong, kind, text in [
        ("Tanh", ValueError, "expected one of .*got 'Tanh'; pass activation='relu'"),
        (["tanh"], ValueError, "one name, or 2, one per hidden layer, got 1"),
        (["tanh", 3], ValueError, "got 3; pass"),
        (7, TypeError, "got int; pass activation='relu'"),
    ]:
        with pytest.raises(kind, match=text):
            module.MLP([4, 3, 3, 2], activation=wrong)
    module.MLP([4, 2], activation="tanh")  # no hidden layer
    with pytest.raises(ValueError, match="got 'x'"):
        module.MLP([4, 2], activation="x")

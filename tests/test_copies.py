"""Copies of models: what they keep, and that their memory is their own."""

import copy
import pickle
import threading

import numpy as np
import pytest
from helpers import assert_same_bits, floats

import fastmlp
from fastmlp import reference


def pickled(model):
    return pickle.loads(pickle.dumps(model))


class Named(fastmlp.MLP):
    __slots__ = ("note",)

    def __init__(self, name):
        super().__init__([4, 3, 2], rng=13)
        self.name = name


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
def test_copies_keep_what_users_hang_on_a_model(duplicate):
    model = Named("first")
    model.feature_names_in_ = ["a", "b", "c", "d"]
    model.note = 5
    model.forward(np.ones((1, 4), np.float32))
    model.predict(np.ones((1, 4), np.float32))
    twin = duplicate(duplicate(model))
    assert (twin.name, twin.feature_names_in_, twin.note) == ("first", ["a", "b", "c", "d"], 5)
    assert {*vars(twin)} == {*vars(fastmlp.MLP([4, 2]))} | {"name", "feature_names_in_"}
    assert_same_bits(twin.flat_parameters, model.flat_parameters)


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_training_needs_no_copy_of_what_users_hang_on_a_model(module):
    model = module.NotebookMLP(rng=0)
    model.lock = threading.Lock()
    history = model.fit(np.ones((2, 784)), [0, 1], epochs=1)
    assert len(history.loss) == 1


def out_of_band(model):
    """Protocol 5 with bytes, as multiprocessing and dask hand them over: read-only memory."""
    buffers = []
    stream = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(stream, buffers=[bytes(buffer.raw()) for buffer in buffers])


def mapped(mode):
    """A state whose arrays are maps of a file, as joblib's mmap_mode makes them."""

    def load(model, folder):
        state = model.__getstate__()
        np.save(folder / "flat_parameters.npy", state["flat_parameters"])
        state["flat_parameters"] = np.load(folder / "flat_parameters.npy", mmap_mode=mode)
        return from_state(type(model), state)

    return load


def swapped(model):
    state = model.__getstate__()
    state["dtype"] = state["dtype"].newbyteorder()
    state["flat_parameters"] = state["flat_parameters"].astype(state["dtype"])
    return from_state(type(model), state)


def shared(model):
    """A state whose array is a part of another, as shared memory gives it."""
    state = model.__getstate__()
    weights = state["flat_parameters"]
    state["flat_parameters"] = np.append(weights, weights)[: weights.size]
    return from_state(type(model), state)


def frozen(model):
    model = copy.deepcopy(model)
    model.flat_parameters.flags.writeable = False
    return copy.copy(model)


def from_state(kind, state):
    model = kind.__new__(kind)
    model.__setstate__(state)
    return model


@pytest.mark.parametrize(
    "load",
    [
        lambda model, _: out_of_band(model),
        lambda model, _: pickle.loads(pickle.dumps(model, protocol=5)),
        mapped("r"),
        mapped("r+"),
        lambda model, _: swapped(model),
        lambda model, _: shared(model),
        lambda model, _: frozen(model),
    ],
    ids=["out of band", "protocol 5", "a map", "a writable map", "swapped", "shared", "frozen"],
)
@pytest.mark.parametrize("module", [fastmlp, reference])
def test_a_model_from_elsewhere_has_weights_of_its_own(module, load, tmp_path):
    model, x = module.MLP([4, 3, 2], rng=13), floats(14, (6, 4), np.float32)
    loaded = load(model, tmp_path)
    assert loaded.dtype is loaded.flat_parameters.dtype is np.dtype(np.float32)
    assert loaded.flat_parameters.base is loaded.flat_gradients.base is None
    assert_same_bits(loaded.predict(x), model.predict(x))
    for one in (model, loaded):
        one.forward(x)
        one.backward(fastmlp.one_hot(np.arange(6) % 2, 2))
        one.W1 -= one.W1_grad
        one.fit(x, np.arange(6) % 2, epochs=2, rng=1)
    assert_same_bits(loaded.flat_parameters, model.flat_parameters)
    for file in tmp_path.glob("flat_parameters.npy"):
        assert_same_bits(np.load(file), module.MLP([4, 3, 2], rng=13).flat_parameters)


def test_a_model_that_takes_another_state_predicts_by_it():
    model, other = (fastmlp.MLP([4, 3, 2], rng=seed) for seed in (1, 2))
    x = floats(14, (60, 4), np.float32)
    expected = other.predict(x)
    assert (model.predict(x) != expected).any()
    model.__setstate__(copy.deepcopy(other.__getstate__()))
    assert_same_bits(model.predict(x), expected)


def with_gradients(model):
    """A state as it was when gradients were in it."""
    state = model.__getstate__()
    return from_state(type(model), state | {"flat_gradients": model.flat_gradients + 1})


@pytest.mark.parametrize("duplicate", [pickled, copy.copy, copy.deepcopy, with_gradients])
def test_gradients_are_in_no_copy(duplicate):
    model = fastmlp.MLP([100, 30, 2], rng=13)
    assert len(pickle.dumps(model)) < model.flat_parameters.nbytes + 1000
    model.flat_gradients[...] = 1
    twin = duplicate(model)
    assert not twin.flat_gradients.any()
    assert np.shares_memory(twin.W2_grad, twin.flat_gradients)
    assert twin.flat_gradients.shape == twin.flat_parameters.shape
    assert model.flat_gradients.all()


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_frozen_weights_are_not_trained(module):
    model, x = module.MLP([4, 3, 2], rng=13), floats(14, (6, 4), np.float32)
    model.flat_parameters.flags.writeable = False
    with pytest.raises(ValueError, match=r"expected writable weights, got read-only ones; train"):
        model.fit(x, np.arange(6) % 2, callback=lambda _: pytest.fail("an epoch was trained"))
    copy.deepcopy(model).fit(x, np.arange(6) % 2, epochs=1)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_copies_have_a_buffer_of_their_own(duplicate):
    model = fastmlp.MLP([4, 3, 2], rng=13)
    x = floats(14, (5, 4), np.float32)
    log_prob = model.forward(x)
    twin = duplicate(model)
    assert_same_bits(twin.forward(x), log_prob)
    twin.W1 += 1
    assert np.shares_memory(twin.W1, twin.flat_parameters)
    assert not np.shares_memory(twin.flat_parameters, model.flat_parameters)
    assert_same_bits(model.forward(x), log_prob)
    assert not hasattr(duplicate(model), "log_prob")

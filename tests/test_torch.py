"""PyTorch's modules as models, and back: by stand-ins of its modules, and by itself where it is."""

from importlib.util import find_spec

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats

import fastmlp
from fastmlp.plan.ways import ACTIVATIONS
from fastmlp.torch import from_torch, to_torch

NEEDS_TORCH = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch isn't installed")


class Module:
    """What from_torch reads of a module: its attributes, and its children by name."""

    def __init__(self, *modules, **attributes):
        self.modules = modules
        vars(self).update(attributes)

    def named_children(self):
        return [(str(number), module) for number, module in enumerate(self.modules)]

    def __repr__(self):
        return type(self).__name__


def kind(name):
    return type(name, (Module,), {})


NAMES = ("Sequential", "Linear", "ReLU", "Tanh", "Sigmoid", "SiLU", "GELU", "LeakyReLU", "Identity")
Sequential, Linear, ReLU, Tanh, Sigmoid, SiLU, GELU, LeakyReLU, Identity = map(kind, NAMES)
Dropout, Flatten, Softmax, LogSoftmax, ELU = map(
    kind, ("Dropout", "Flatten", "Softmax", "LogSoftmax", "ELU")
)


class Tensor:
    """What from_torch reads of a tensor."""

    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    def cpu(self):
        return self

    def __array__(self, dtype=None, copy=None):
        return self.array


def linear(inputs, outputs, bias=True, dtype=np.float32, seed=1):
    b = floats(seed + 1, outputs, dtype) if bias else None
    W = floats(seed, (outputs, inputs), dtype)
    return Linear(weight=Tensor(W), bias=None if b is None else Tensor(b))


def of_layer(module):
    W = module.weight.array.T
    return W if module.bias is None else np.concatenate([W, module.bias.array[np.newaxis]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sequential_is_read(dtype):
    sizes = range(3, 11)
    layers = [linear(n, n + 1, n % 2 == 0, dtype, n) for n in sizes]
    functions = [
        *(ReLU(), Tanh(), Sigmoid(), SiLU(), GELU(approximate="tanh")),
        *(LeakyReLU(negative_slope=0.01), Identity()),
    ]
    pairs = zip(layers[1:-1], functions[1:], strict=True)
    inner = Sequential(*[one for pair in pairs for one in pair])
    module = Sequential(
        Flatten(), layers[0], functions[0], Dropout(), inner, layers[-1], LogSoftmax(dim=1)
    )
    model = from_torch(module)
    assert model.activation == ACTIVATIONS_IN_ORDER
    assert model.loss_name == "cross_entropy"
    assert model.dtype == dtype
    for W, layer in zip(model.parameters, layers, strict=True):
        assert_same_bits(W, of_layer(layer))
    W = layers[0].weight.array.copy()
    model.W1 += 1
    assert_same_bits(layers[0].weight.array, W)  # in memory of its own


ACTIVATIONS_IN_ORDER = ("relu", "tanh", "logistic", "silu", "gelu", "leaky_relu", "identity")


def test_what_is_behind_the_last_layer_is_the_loss():
    one, two = linear(3, 4), linear(4, 2)
    assert set(ACTIVATIONS_IN_ORDER) == {*ACTIVATIONS}
    for end, loss in ((Softmax(dim=-1), "cross_entropy"), (Sigmoid(), "binary_cross_entropy")):
        assert from_torch(Sequential(one, ReLU(), two, end)).loss_name == loss
        assert from_torch(Sequential(one, ReLU(), two, end), loss=loss).loss_name == loss
        with pytest.raises(ValueError, match=rf"loss: expected None or '{loss}', as .* says, got "):
            from_torch(Sequential(one, ReLU(), two, end), loss="huber")
    assert from_torch(Sequential(one, ReLU(), two)).loss_name == "squared_error"
    model = from_torch(Sequential(one, two), loss="cross_entropy")
    assert (model.loss_name, model.activation) == ("cross_entropy", ("identity",))
    assert from_torch(one).sizes == (3, 4)


WRONG = {
    "another activation": ([linear(3, 4), ELU(), linear(4, 2)], r"module 1: expected Linear, ReLU"),
    "gelu": ([linear(3, 4), GELU(approximate="none")], r"module 1: expected approximate='tanh', w"),
    "slope": ([linear(3, 4), LeakyReLU(negative_slope=0.2)], r"module 1: expected negative_slope="),
    "two activations": ([linear(3, 4), ReLU(), Tanh(), linear(4, 2)], r"module 2: expected Linear"),
    "relu at the end": ([linear(3, 4), ReLU()], r"module: expected numbers, or a softmax or sigmo"),
    "relu before": ([ReLU(), linear(3, 4)], r"module 0: expected Linear"),
    "softmax between": ([linear(3, 4), Softmax(dim=1), linear(4, 2)], r"module 1: expected a laye"),
    "along samples": ([linear(3, 4), Softmax(dim=0)], r"module 1: expected Linear"),
    "flatten between": ([linear(3, 4), Flatten()], r"module 1: expected Linear"),
    "sizes": ([linear(3, 4), ReLU(), linear(5, 2)], r"module 2: expected 4 inputs, the outputs be"),
    "nothing": ([Dropout()], r"module: expected a Linear layer in it, got none; make"),
}


@pytest.mark.parametrize(("modules", "words"), WRONG.values(), ids=WRONG)
def test_another_module_is_named(modules, words):
    with pytest.raises(ValueError, match=words):
        from_torch(Sequential(*modules))


def test_a_state_dict_is_read():
    layers = [linear(3, 4), linear(4, 5, bias=False, seed=5), linear(5, 2, seed=7)]
    state = {}
    for number, layer in enumerate(layers):
        state[f"net.{2 * number}.weight"] = layer.weight
        if layer.bias is not None:
            state[f"net.{2 * number}.bias"] = layer.bias.array
    model = from_torch(state, activation="tanh", loss="cross_entropy")
    for W, layer in zip(model.parameters, layers, strict=True):
        assert_same_bits(W, of_layer(layer))
    assert (model.activation, model.loss_name) == (("tanh", "tanh"), "cross_entropy")
    assert from_torch(state, ["relu", "gelu"]).activation == ("relu", "gelu")
    other = Module(state_dict=lambda: state)  # a class of the user's own
    assert_same_bits(from_torch(other, "silu").flat_parameters, model.flat_parameters)
    assert from_torch({"weight": layers[0].weight}).bias == (False,)
    with pytest.raises(ValueError, match=r"activation: expected that of the hidden .*; pass activ"):
        from_torch(state)
    with pytest.raises(ValueError, match=r"activation: expected None, as the Sequential says it"):
        from_torch(Sequential(layers[0]), activation="relu")
    norm = {"1.weight": np.ones(4, np.float32), "1.bias": np.ones(4, np.float32)}
    with pytest.raises(ValueError, match=r"1.weight: expected the weight \(outputs, inputs\) or b"):
        from_torch(state | norm, "relu")
    with pytest.raises(ValueError, match=r"1.running_mean: expected the weight"):
        from_torch(state | {"1.running_mean": np.ones(4, np.float32)}, "relu")
    with pytest.raises(ValueError, match=r"net.0.weight: expected a bias of shape \(4,\), got sha"):
        from_torch(state | {"net.0.bias": np.ones(3, np.float32)}, "relu")
    with pytest.raises(ValueError, match=r"net.4.weight: expected 4 inputs, the outputs before"):
        from_torch({key: state[key] for key in state if "2" not in key}, "relu")
    with pytest.raises(TypeError, match=r"net.0.weight: expected weights and bias of float32, or "):
        from_torch(state | {"net.0.weight": np.ones((4, 3), np.float16)}, "relu")
    with pytest.raises(TypeError, match=r"net.4.weight: expected float32, as before it, got float"):
        from_torch(state | {"net.4.weight": np.ones((2, 5)), "net.4.bias": np.ones(2)}, "relu")
    bad = layers[0].weight.array.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"net.0.weight\[1, 2\]: expected finite numbers, got nan"):
        from_torch(state | {"net.0.weight": bad}, "relu")
    with pytest.raises(TypeError, match=r"from_torch: expected a module of PyTorch, or a state_di"):
        from_torch([1])
    with pytest.raises(ValueError, match=r"state_dict: expected a Linear layer's weight, got \[\]"):
        from_torch({})


@NEEDS_TORCH
@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(dtype):
    import torch

    sizes = [5, *range(6, 6 + len(ACTIVATIONS)), 3]
    bias = [layer % 3 != 1 for layer in range(len(sizes) - 1)]
    x = floats(1, (50, 5), dtype)
    for loss in ("cross_entropy", "squared_error", "binary_cross_entropy"):
        model = fastmlp.MLP(sizes, bias, dtype, rng=3, activation=ACTIVATIONS, loss=loss)
        state = torch.get_rng_state()
        module = to_torch(model)
        assert torch.equal(torch.get_rng_state(), state)
        with torch.no_grad():
            y = module(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(y, model.forward(x), rtol=1e-5, atol=1e-5)
        back = from_torch(module, loss=None if loss == "cross_entropy" else loss)
        assert repr(back) == repr(model)
        assert_same_bits(back.flat_parameters, model.flat_parameters)
        twin = from_torch(module.state_dict(), ACTIVATIONS, loss=loss)
        assert_same_bits(twin.flat_parameters, model.flat_parameters)
        before = model.flat_parameters.copy()
        torch.nn.init.zeros_(module[0].weight)
        assert_same_bits(model.flat_parameters, before)


@NEEDS_TORCH
def test_a_module_of_bfloat16_is_refused():
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(3, 2, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match=r"module 0: expected float32 or float64, got torch.bfloat"):
        from_torch(module)
    with pytest.raises(TypeError, match=r"to_torch: expected an MLP, got Linear; pass model="):
        to_torch(torch.nn.Linear(3, 2))

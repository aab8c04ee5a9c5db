"""PyTorch's models as ours, and ours as PyTorch's: only `to_torch` imports PyTorch.

docs/other-frameworks.md says which modules are read, and how near the outputs are.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import Array, dtype_error, shape_error
from .choices import Activation, LossName

if TYPE_CHECKING:
    from .model.estimator import Estimator
    from .model.foreign import Layer
    from .model.mlp import MLP

__all__ = ["from_torch", "to_torch"]

MEND = "make an nn.Sequential of Linear layers and activations of it"
# Modules by their classes' names, and what an attribute of theirs must be.
ACTIVATIONS: dict[str, tuple[str, dict[str, object]]] = {
    "ReLU": ("relu", {}),
    "Tanh": ("tanh", {}),
    "Sigmoid": ("logistic", {}),
    "SiLU": ("silu", {}),
    "GELU": ("gelu", {"approximate": "tanh"}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": 0.01}),
}
SOFTMAXES = ("LogSoftmax", "Softmax")


def from_torch(
    module: Any, activation: Activation | Sequence[Activation] | None = None, *,
    loss: LossName | None = None,
) -> "MLP":
    """Return an MLP with the weights of an nn.Sequential, or of a state_dict, as they are.

    module: an nn.Sequential of Linear, ReLU, Tanh, Sigmoid, SiLU, GELU(approximate="tanh") and
    LeakyReLU(0.01), with a LogSoftmax, Softmax or Sigmoid at the end or none; Dropout, Identity and
    a Flatten before all do nothing. Or another module, or a state_dict of tensors or arrays, whose
    layers follow each other as their names do; `activation` is then that of the hidden layers, one
    name or one for each, as in MLP.

    loss: what the last layer's outputs are, where no module behind it says so: by default
    "squared_error", numbers, which `predict` returns as the module does; "cross_entropy" for the
    logits of classes. Outputs are the module's within rounding: sums have another order.

    Raises TypeError for dtypes but float32 and float64, ValueError that names the module or the
    array for anything else.
    """
    from .model.foreign import loss_asked, model_of

    kind = type(module).__name__
    if kind in ("Sequential", "Linear"):
        if activation is not None:
            expected = f"None, as the {kind} says it"
            raise shape_error("activation", expected, repr(activation), "leave activation out")
        layers, names, end = _read([("module", module)] if kind == "Linear" else _flat(module))
        chosen = loss_asked(*end, loss, "squared_error") if end else loss
        return model_of(layers, names, chosen or "squared_error")
    layers = _layers_of(module if isinstance(module, Mapping) else _state_of(module))
    if activation is None and len(layers) > 1:
        expected = "that of the hidden layers, which a state_dict doesn't say"
        raise shape_error("activation", expected, "none", "pass activation='relu'")
    return model_of(layers, activation or "relu", loss or "squared_error")


def to_torch(model: "Estimator") -> Any:
    """Return an nn.Sequential with the weights of an MLP, as they are, in memory of its own.

    It computes what `model.forward` does, within rounding: a LogSoftmax is the last module for
    cross_entropy, which nn.NLLLoss takes, and none for other losses. Raises ModuleNotFoundError
    without PyTorch, TypeError for another model.
    """
    import torch
    from torch import nn

    from .model.foreign import layers_of

    kinds = {name: (kind, values) for kind, (name, values) in ACTIVATIONS.items()}
    kinds["identity"] = "Identity", {}
    modules: list[Any] = []
    layers = layers_of(model, "to_torch")
    for number, (_, W, b) in enumerate(layers):
        inputs, outputs = W.shape
        own = {"bias": b is not None, "dtype": getattr(torch, model.dtype.name)}
        # skip_init: else it would draw weights, and move the user's random generator.
        linear = nn.utils.skip_init(nn.Linear, inputs, outputs, **own)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(np.ascontiguousarray(W.T)))
            if b is not None:
                linear.bias.copy_(torch.from_numpy(b.copy()))
        modules.append(linear)
        if number < len(layers) - 1:
            kind, values = kinds[model.activation[number]]
            modules.append(getattr(nn, kind)(**values))
    if model.loss_name == "cross_entropy":
        modules.append(nn.LogSoftmax(dim=1))
    return nn.Sequential(*modules)


def _flat(sequential: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Return the modules in their order, by name, those of inner Sequentials in their place."""
    for name, module in sequential.named_children():
        if type(module).__name__ == "Sequential":
            yield from _flat(module, f"{prefix}{name}.")
        else:
            yield f"module {prefix}{name}", module


def _read(
    modules: Any,
) -> tuple[list["Layer"], list[str], tuple[str, str] | None]:
    """Return the layers, the activations between them, and name and loss of what is behind them."""
    from .model.foreign import LINKS, Layer

    layers: list[Layer] = []
    names: list[str] = []  # of the activations after each layer, as far as they are known
    end: tuple[str, str] | None = None
    for name, module in modules:
        kind = type(module).__name__
        if end is not None and kind not in ("Dropout", "Identity"):
            raise _refused(end[0], "a layer's activation, or nothing behind it", kind)
        if kind == "Linear":
            names += ["identity"] * (len(layers) - len(names))
            b = None if module.bias is None else _array(name, module.bias)
            layers.append(Layer(name, _array(name, module.weight).T, b))
        elif kind in ACTIVATIONS and len(names) == len(layers) - 1:
            names.append(_activation(name, module))
        elif kind in SOFTMAXES and len(names) == len(layers) - 1 and module.dim in (1, -1):
            end = name, "cross_entropy"
        elif kind not in ("Dropout", "Identity") and not (kind == "Flatten" and not layers):
            expected = f"Linear, {', '.join(ACTIVATIONS)} behind it, or a softmax at the end"
            raise _refused(name, expected, module)
    if not layers:
        raise shape_error("module", "a Linear layer in it", "none", MEND)
    if len(names) == len(layers):
        last = names.pop()
        if last not in LINKS:
            raise shape_error("module", "numbers, or a softmax or sigmoid, at the end", last, MEND)
        end = "the last Sigmoid", LINKS[last]
    return layers, names, end


def _activation(name: str, module: Any) -> str:
    ours, values = ACTIVATIONS[type(module).__name__]
    for key, value in values.items():
        if getattr(module, key) != value:
            raise _refused(name, f"{key}={value!r}, which fastmlp's {ours} has", module)
    return ours


def _state_of(module: Any) -> Mapping[str, Any]:
    if not hasattr(module, "state_dict"):
        got = type(module).__name__
        mend = "pass module.state_dict()"
        raise dtype_error("from_torch", "a module of PyTorch, or a state_dict", got, mend)
    state: Mapping[str, Any] = module.state_dict()
    return state


def _layers_of(state: Mapping[str, Any]) -> list["Layer"]:
    """Return the layers of a state_dict: each has a weight, and then a bias or none."""
    from .model.foreign import Layer

    arrays = {str(key): _array(str(key), value) for key, value in state.items()}
    layers: list[Layer] = []
    for key, array in arrays.items():
        name, _, part = key.rpartition(".")
        prefix = key.removesuffix(part)
        if part == "weight" and array.ndim == 2:
            layers.append(Layer(key, array.T, arrays.get(f"{prefix}bias")))
        elif part != "bias" or arrays.get(f"{prefix}weight", array).ndim != 2:
            expected = "the weight (outputs, inputs) or bias of a Linear layer"
            raise _refused(key, expected, f"shape {array.shape}")
    if not layers:
        raise shape_error("state_dict", "a Linear layer's weight", sorted(arrays), MEND)
    for name, W, b in layers:
        if b is not None and b.shape != W.shape[1:]:
            raise _refused(name, f"a bias of shape {W.shape[1:]}", f"shape {b.shape}")
    return layers


def _array(name: str, tensor: Any) -> Array:
    """Return a tensor, or an array, as an array: of a GPU or with gradients, too."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
    try:
        array = np.asarray(tensor)
    except TypeError:  # of dtypes that NumPy lacks
        got = getattr(tensor, "dtype", type(tensor).__name__)
        mend = "pass module.float()"
        raise dtype_error(name, "float32 or float64", got, mend) from None
    return array


def _refused(name: str, expected: str, got: object) -> ValueError:
    return shape_error(name, expected, got, MEND)

"""The weights of a model: one flat buffer for all layers, and their initial values."""

import copy
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import DTypeLike

from ..checks import Array, converted, dtype_error, plain_array, shape_error
from ..choices import Activation, LossName
from ..mends import array_code, numbers_mend, one_hot_mend
from .draws import Rng, bit_generator, uniform
from .losses import CROSS_ENTROPY, checked_loss
from .parameter_checks import (
    checked_activation,
    checked_bias,
    checked_dtype,
    checked_sizes,
    inputs_mend,
)

_WEIGHTS = r"[wW]\d+(_\w+)?"
_WHAT_IT_HAS = "dir(model) lists what it has"
_NOT_SCIKIT_LEARN = "it is no scikit-learn estimator, though its methods are named alike"
# What other libraries' models have: where it is here.
_ELSEWHERE = {
    **dict.fromkeys(
        ("__sklearn_tags__", "get_params", "set_params", "classes_", "fit_predict", "transform"),
        _NOT_SCIKIT_LEARN,
    ),
    "coefs_": "parameters has the weights",
    "train": "fit(x, y) trains",
    "evaluate": "score(x, y) and loss(x, y) evaluate",
    "state_dict": "flat_parameters has all weights",
}

_FIXED = ("sizes", "bias", "activation", "dtype", "loss_name", "delta")
_BUFFERS = ("flat_parameters", "flat_gradients")
# What is made again when it is asked for: views, what predict knows, what the last forward and
# backward kept.
_MADE_AGAIN = (
    *("_named", "_predictors", "_packed_copies", "flat_gradients"),
    *("_last_forward", "_last_logits", "log_prob"),
)


class Parameters:
    """The arrays W1, W2, ... of a multilayer perceptron and their gradients W1_grad, W2_grad, ...

    Wk has shape (inputs + bias, outputs); where the layer has a bias, it is the last row. All are
    views into `flat_parameters`, their gradients into `flat_gradients`: assigning to one, as in
    `model.W1 = array` or `model.W1 -= step`, writes into the buffer. `parameters` and `gradients`
    are the lists of the arrays. `log_prob`, which is also `h{layers}_log`, is the result of the
    last forward.
    """

    sizes: tuple[int, ...]
    bias: tuple[bool, ...]
    activation: tuple[Activation, ...]
    dtype: np.dtype[Any]
    flat_gradients: Array
    log_prob: Array
    loss_name: LossName = "cross_entropy"  # as of models that were pickled without it
    delta: float | None = None
    _named: dict[str, Array]
    if TYPE_CHECKING:  # of a network of up to six layers; of a deeper one, see `parameters`
        W1: Array
        W2: Array
        W3: Array
        W4: Array
        W5: Array
        W6: Array
        W1_grad: Array
        W2_grad: Array
        W3_grad: Array
        W4_grad: Array
        W5_grad: Array
        W6_grad: Array
        h2_log: Array

    def __init__(
        self,
        sizes: Sequence[int],
        bias: bool | Sequence[bool] = True,
        dtype: DTypeLike = np.float32,
        rng: Rng = None,
        *,
        activation: Activation | Sequence[Activation] = "relu",
        loss: LossName = "cross_entropy",
        delta: float | None = None,
    ) -> None:
        self.loss_name, self.delta = checked_loss(loss, delta)
        self.sizes = checked_sizes(sizes, self.loss_name)
        self.bias = checked_bias(bias, len(self.sizes) - 1)
        self.activation = checked_activation(activation, len(self.sizes) - 2)
        self.dtype = checked_dtype(dtype)
        generator = bit_generator(rng)
        count = sum(rows * columns for rows, columns in self._shapes())
        self.__dict__["flat_parameters"] = np.zeros(count, self.dtype)
        self.flat_gradients = np.zeros(count, self.dtype)
        self._name_views()
        self._draw_weights(generator)

    def _draw_weights(self, generator: np.random.PCG64) -> None:
        for layer, W in enumerate(self.parameters):
            inputs, outputs = self.sizes[layer : layer + 2]
            activation = (*self.activation, "identity")[layer]
            W[:inputs] = uniform(generator, (inputs, outputs), _bound(inputs, outputs, activation))

    @property
    def flat_parameters(self) -> Array:
        """All weights, layer after layer, each W row after row."""
        return lent(self.__dict__)

    def _lend(self) -> None:
        """Note that the caller has a view of the weights, and may write to it."""
        lent(self.__dict__)

    @property
    def parameters(self) -> list[Array]:
        """The arrays W1, W2, ...: views into `flat_parameters`."""
        views = [self._named[f"W{layer}"] for layer in range(1, len(self.sizes))]
        self._lend()
        return views

    @property
    def gradients(self) -> list[Array]:
        """The arrays W1_grad, W2_grad, ...: views into `flat_gradients`."""
        return [self._named[f"W{layer}_grad"] for layer in range(1, len(self.sizes))]

    def _shapes(self) -> list[tuple[int, int]]:
        rows = [inputs + bias for inputs, bias in zip(self.sizes, self.bias, strict=False)]
        return list(zip(rows, self.sizes[1:], strict=True))

    def _name_views(self) -> None:
        named, start = {}, 0
        for layer, (rows, columns) in enumerate(self._shapes(), start=1):
            place = slice(start, start := start + rows * columns)
            named[f"W{layer}"] = self.flat_parameters[place].reshape(rows, columns)
            named[f"W{layer}_grad"] = self.flat_gradients[place].reshape(rows, columns)
        self._named = named

    def __dir__(self) -> list[str]:
        results = ["log_prob", f"h{len(self.sizes) - 1}_log"]
        return [*super().__dir__(), *self._named, *results * (self.loss_name == CROSS_ENTROPY)]

    if not TYPE_CHECKING:  # which would let every name pass

        def __getattr__(self, name: str) -> Array:
            # Called only where the usual look-up has failed.
            attributes = self.__dict__
            named: dict[str, Array] = attributes.get("_named", {})
            if name in named:
                array = named[name]
                self._lend()
                return array
            layers = len(attributes.get("sizes", (None,))) - 1
            if name == f"h{layers}_log":
                name = "log_prob"
            if name == "log_prob":
                if name in attributes:
                    return self.log_prob
                if self.loss_name != CROSS_ENTROPY:
                    message = f"{type(self).__name__} has no {name!r} with loss={self.loss_name!r}"
                    message += "; forward returns the outputs"
                    raise AttributeError(message, name=name, obj=self)
                raise AttributeError(
                    f"{type(self).__name__}.log_prob: expected a forward before it, got none; "
                    "call forward first"
                )
            message = f"{type(self).__name__} has no {name!r}; {_ELSEWHERE.get(name, _WHAT_IT_HAS)}"
            if re.fullmatch(rf"{_WEIGHTS}|h\d+\w*", name):
                known = ", ".join([*named, "log_prob", f"h{layers}_log"])
                message = (
                    f"{type(self).__name__}: expected one of the arrays {known}, got {name!r}; "
                    f"this model has {layers} layers"
                )
            raise AttributeError(message, name=name, obj=self)

        def __setattr__(self, name: str, value: object) -> None:
            attributes = self.__dict__
            named = attributes.get("_named")
            if named is None:  # still being made
                object.__setattr__(self, name, value)
                return
            array = named.get(name)
            if name in ("flat_parameters", "flat_gradients"):
                array = attributes[name]
            if array is not None:
                self._lend()
                if value is not array:  # `model.W1 -= step` assigns the array to itself
                    _write(name, array, value)
            elif name in _FIXED or re.fullmatch(_WEIGHTS, name):
                raise AttributeError(
                    f"{type(self).__name__}.{name}: expected one of {', '.join(named)} or the flat "
                    "buffers, whose values can be assigned; make another model for other sizes",
                    name=name,
                    obj=self,
                )
            else:
                object.__setattr__(self, name, value)

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        attributes, slots = state if isinstance(state, tuple) else (state, {})
        kept = {name: value for name, value in attributes.items() if name not in _MADE_AGAIN}
        self._lend()  # a shallow copy shares the weights
        return (kept, slots) if slots else kept

    def __setstate__(self, state: Any) -> None:
        attributes, slots = state if isinstance(state, tuple) else (state, {})
        own = self.__dict__
        for name in _MADE_AGAIN:
            own.pop(name, None)
        own.update(attributes)
        for name, value in slots.items():
            object.__setattr__(self, name, value)
        own["dtype"] = np.dtype(self.dtype.type)
        own.setdefault("activation", ("relu",) * (len(self.sizes) - 2))  # kept by version 1
        own["flat_parameters"] = _own_memory(self.flat_parameters, self.dtype)
        own["flat_gradients"] = np.zeros(self.flat_parameters.size, self.dtype)
        self._name_views()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # What makes a model can't change, so copies share it: a third of the time.
        new = memo[id(self)] = type(self).__new__(type(self))
        state = self.__getstate__()
        attributes, slots = state if isinstance(state, tuple) else (state, {})
        own = {
            name: value if name in _FIXED else copy.deepcopy(value, memo)
            for name, value in attributes.items()
        }
        new.__setstate__((own, copy.deepcopy(slots, memo)))
        return new

    def _refuse_read_only(self) -> None:
        """Raise ValueError where the weights can't be written, as their owner has chosen."""
        if not self.flat_parameters.flags.writeable:
            raise ValueError(
                "flat_parameters: expected writable weights, got read-only ones; train a copy, "
                "copy.deepcopy(model)"
            )

    def _worker(self) -> Self:
        """Return a copy that has weights and gradients of its own, and shares all else."""
        worker = copy.copy(self)
        for name in _BUFFERS:
            worker.__dict__[name] = self.__dict__[name].copy()
        worker._name_views()
        return worker

    def __repr__(self) -> str:
        names = list(dict.fromkeys(self.activation))
        more = f", activation={names[0]!r}" if len(names) == 1 and names != ["relu"] else ""
        if len(names) > 1:
            more = f", activation={list(self.activation)}"
        if self.loss_name != CROSS_ENTROPY:
            more += f", loss={self.loss_name!r}"
        if self.delta is not None:
            more += f", delta={self.delta}"
        return (
            f"{type(self).__name__}({list(self.sizes)}, bias={list(self.bias)}, "
            f"dtype={self.dtype.name}{more})"
        )

    def _inputs(self, x: Array, name: str = "x") -> Array:
        """Return x as a matrix (N, inputs); raise where it does not fit the model."""
        given, x = x, plain_array(name, x, self.dtype)
        if x.dtype.kind not in "fiub":
            mend = numbers_mend(name, given, x, self.dtype)
            raise dtype_error(name, f"an array of {self.dtype}", x.dtype, mend)
        if np.result_type(x, self.dtype) != self.dtype:
            mend = numbers_mend(name, given, x, self.dtype)
            raise dtype_error(
                name,
                f"{self.dtype}, the model's dtype, or a narrower one",
                x.dtype,
                f"{mend}, or make the model with dtype=np.float64",
            )
        columns = math.prod(x.shape[1:])
        if x.ndim < 2 or columns != self.sizes[0]:
            raise shape_error(
                name,
                f"(samples, ...) with {self.sizes[0]} numbers for each sample, the model's inputs",
                f"shape {x.shape}",
                inputs_mend(array_code(name, given), x, self.sizes[0]),
            )
        return converted(name, x, self.dtype).reshape(len(x), columns)

    def _labels(self, label: Array, samples: int) -> Array:
        """Return label (N, classes) in the model's dtype; raise where it does not fit."""
        given, label = label, plain_array("label", label)
        shape = (samples, self.sizes[-1])
        if label.dtype.kind not in "fiub":
            mend = one_hot_mend("label", given, label, shape)
            raise dtype_error("label", f"one-hot rows of {self.dtype}", label.dtype, mend)
        if label.shape != shape:
            raise shape_error(
                "label",
                f"shape {shape}, a one-hot row for each sample of the last forward",
                f"shape {label.shape}",
                one_hot_mend("label", given, label, shape),
            )
        narrow = converted("label", label, self.dtype)
        if narrow is not label and not np.array_equal(narrow, label, equal_nan=True):
            raise dtype_error(
                "label",
                f"values that {self.dtype}, the model's dtype, holds exactly",
                label.dtype,
                f"{numbers_mend('label', given, label, self.dtype)}, which rounds them",
            )
        return narrow


def lent(attributes: dict[str, Any]) -> Array:
    """Return a model's weights to somebody who may write to them, see packed_copies.py."""
    weights: Array = attributes["flat_parameters"]
    copies = attributes.get("_packed_copies")
    if copies is not None:
        copies.lend()
    return weights


def _bound(inputs: int, outputs: int, activation: str) -> float:
    """Return the largest initial weight, which keeps the outputs as large as the inputs.

    Before a relu or its kin: He et al., "Delving deep into rectifiers", 2015. Else, as in the last
    layer: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010.
    """
    if activation in ("relu", "leaky_relu", "silu", "gelu"):
        return math.sqrt(6 / inputs)
    return math.sqrt(6 / (inputs + outputs))


def _own_memory(buffer: Array, dtype: np.dtype[Any]) -> Array:
    """Return `buffer`, or a copy where it isn't memory of its own that can be written to.

    It isn't where joblib maps a file, or pickle's protocol 5 takes bytes from elsewhere.
    """
    flags = buffer.flags
    usual = type(buffer) is np.ndarray and buffer.dtype is dtype
    if usual and flags.owndata and flags.carray:
        return buffer
    own = np.empty(buffer.shape, dtype)
    own[...] = buffer
    return own


def _write(name: str, array: Array, value: object) -> None:
    given, value = value, plain_array(name, value, array.dtype)
    if value.shape != array.shape:
        raise shape_error(
            name, f"shape {array.shape}", f"shape {value.shape}", "give an array of that shape"
        )
    if value.dtype.kind not in "fiub" or np.result_type(value, array.dtype) != array.dtype:
        raise dtype_error(
            name,
            f"{array.dtype}, the model's dtype, or a narrower one",
            value.dtype,
            numbers_mend(name, given, value, array.dtype),
        )
    array[...] = converted(name, value, array.dtype)

"""The table of providers: one module for each, one function in it for each operation it has.

An operation's function takes the arrays and returns a call without arguments, which does the work
once, into memory of its own where the library can, and returns the result. Where a library has
several forms, it returns them by name and the fastest counts (see `measure`). The operations:

layer(x, W, b)               relu(x @ W + b)
matmul(x, W)                 x @ W
relu, softmax, log, log_softmax(x, grad_y)   (forward(x), backward(grad_y))
tanh, logistic, silu, gelu, leaky_relu(x, grad_y)   the same
predict(x, parameters)       the class of each sample; parameters: W1, W2, ..., biases as last rows
predict_proba(x, parameters) the probabilities of its classes
sgd, momentum, nesterov, adam, adamw(p, g)   p after an update; a copy of p changes with each call
train(x, y, parameters, batch_size, learning_rate)
    [W1, b1, W2, b2, ...] after one more epoch of plain sgd on the mean loss of each batch, in
    order; x (N, inputs), y integer classes (N,); the arrays may be overwritten by the next call
regress(x, y, parameters, batch_size, learning_rate)
    the same after one more epoch of Adam on the squared error of each batch, with tanh in place of
    relu; y (N,) in the dtype of x; Adam goes on from call to call
fit_many(x, y, members, batch_size, epochs, learning_rate)
    f(i): the same arrays of network i, after more epochs of each of the networks whose parameters
    are the members, in order, by an Adam that starts anew; y: integer classes (N,), or numbers (N,)
    for tanh in place of relu and the squared error of one output
estimator(name, settings, x, y)   scikit-learn's estimator of this name and settings, fitted
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Call: TypeAlias = Callable[[], Any]

# What the updates are timed with.
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 1e-3, 0.9, 0.01


class Provider(NamedTuple):
    """A module of this package, what must be installed for it, and whether it trains.

    most_work: with more operations and bytes than these it would take minutes, and is left out.
    """

    module: str
    needs: tuple[str, ...] = ()
    trains: bool = True
    most_work: float = float("inf")

    def missing(self) -> list[str]:
        """Return which of its libraries aren't installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]

    def form(self, operation: str) -> Callable[..., Call | dict[str, Call]] | None:
        """Return its function for an operation, None where it has none; imports its library."""
        module = importlib.import_module(f"{__name__}.{self.module}")
        form: Callable[..., Call | dict[str, Call]] | None = getattr(module, operation, None)
        return form


PROVIDERS = {
    "fastmlp": Provider("compiled"),
    "fastmlp reference": Provider("plain", trains=False, most_work=3e7),
    "numpy notebook": Provider("numpy_notebook"),
    "numpy lean": Provider("numpy_lean"),
    "torch eager": Provider("torch_eager", ("torch",)),
    "torch.compile": Provider("torch_compile", ("torch",)),
    "torch oneDNN": Provider("torch_onednn", ("torch",), trains=False),
    "jax": Provider("jax_jit", ("jax",)),
    "scikit-learn": Provider("scikit_learn", ("sklearn",)),
    "onnxruntime": Provider("onnx_runtime", ("onnxruntime", "onnx"), trains=False),
}


def split(parameters: list[Array]) -> list[tuple[Array, Array]]:
    """Return contiguous copies (W, b) of each layer of `parameters`."""
    return [(W[:-1].copy(), W[-1].copy()) for W in parameters]


def batches(samples: int, batch_size: int) -> list[slice]:
    """Return the slices of an epoch; the last batch may be smaller."""
    return [slice(i, min(i + batch_size, samples)) for i in range(0, samples, batch_size)]


def one_hot_rows(y: Array, classes: int, dtype: Any) -> Array:
    """Return a row with a single 1 for each class of y."""
    return np.eye(classes, dtype=dtype)[y]

"""The table of benchmark providers: each library's fastest form of an operation.

A function takes the arrays and returns a call without arguments that does the work once, into
memory of its own where the library can. It is None where the library isn't installed.
"""

import os

for _variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_variable, None)  # what a shell sets against NumPy, before NumPy loads

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

import fastmlp

Array = np.ndarray[Any, np.dtype[Any]]
Call = Callable[[], object]


def installed(module: str) -> bool:
    """Tell whether a library can be imported."""
    return importlib.util.find_spec(module) is not None


def fastmlp_layer(x: Array, W: Array, b: Array) -> Call:
    layer, out = fastmlp.MatmulRelu(), np.empty((len(x), W.shape[1]), x.dtype)
    return lambda: layer.forward(x, W, b, out=out)


def numpy_layer(x: Array, W: Array, b: Array) -> Call:
    out = np.empty((len(x), W.shape[1]), x.dtype)

    def call() -> Array:
        np.matmul(x, W, out=out)
        np.add(out, b, out=out)
        return np.maximum(out, 0, out=out)

    return call


def torch_layer(x: Array, W: Array, b: Array) -> Call:
    import torch

    tx, tW, tb = (torch.from_numpy(array) for array in (x, W, b))
    out = torch.empty(len(x), W.shape[1], dtype=tx.dtype)

    def call() -> object:
        with torch.inference_mode():
            torch.addmm(tb, tx, tW, out=out)
            return torch.relu_(out)

    return call


def onednn_layer(x: Array, W: Array, b: Array) -> Call:
    import torch

    tx, tb = torch.from_numpy(x), torch.from_numpy(b)
    weight = torch.from_numpy(np.ascontiguousarray(W.T))
    weight = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))

    def call() -> object:
        with torch.inference_mode():
            return torch.ops.mkldnn._linear_pointwise(tx, weight, tb, "relu", [], "")

    return call


def jax_layer(x: Array, W: Array, b: Array) -> Call:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    jx, jW, jb = (jax.device_put(array) for array in (x, W, b))
    function = jax.jit(lambda x, W, b: jnp.maximum(x @ W + b, 0))
    return lambda: function(jx, jW, jb).block_until_ready()


def fastmlp_matmul(x: Array, W: Array) -> Call:
    operation, out = fastmlp.Matmul(), np.empty((len(x), W.shape[1]), x.dtype)
    return lambda: operation.forward(x, W, out=out)


def numpy_matmul(x: Array, W: Array) -> Call:
    out = np.empty((len(x), W.shape[1]), x.dtype)
    return lambda: np.matmul(x, W, out=out)


def torch_matmul(x: Array, W: Array) -> Call:
    import torch

    tx, tW = torch.from_numpy(x), torch.from_numpy(W)
    out = torch.empty(len(x), W.shape[1], dtype=tx.dtype)

    def call() -> object:
        with torch.inference_mode():
            return torch.matmul(tx, tW, out=out)

    return call


def jax_matmul(x: Array, W: Array) -> Call:
    import jax

    jax.config.update("jax_enable_x64", True)
    jx, jW = jax.device_put(x), jax.device_put(W)
    function = jax.jit(lambda x, W: x @ W)
    return lambda: function(jx, jW).block_until_ready()


LAYER: dict[str, tuple[str, Callable[[Array, Array, Array], Call]]] = {
    "fastmlp": ("fastmlp", fastmlp_layer),
    "numpy": ("numpy", numpy_layer),
    "torch": ("torch", torch_layer),
    "torch oneDNN": ("torch", onednn_layer),
    "jax": ("jax", jax_layer),
}

MATMUL: dict[str, tuple[str, Callable[[Array, Array], Call]]] = {
    "fastmlp": ("fastmlp", fastmlp_matmul),
    "numpy": ("numpy", numpy_matmul),
    "torch": ("torch", torch_matmul),
    "jax": ("jax", jax_matmul),
}

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


def fastmlp_predict(x: Array, model: fastmlp.MLP) -> Call:
    return lambda: model.predict(x)


def numpy_predict(x: Array, model: fastmlp.MLP) -> Call:
    layers = [(W[:-1], W[-1]) for W in model.parameters]

    def call() -> Array:
        h = x
        for W, b in layers[:-1]:
            h = h @ W
            h += b
            np.maximum(h, 0, out=h)
        W, b = layers[-1]
        return np.argmax(h @ W + b, axis=1)

    return call


def torch_predict(x: Array, model: fastmlp.MLP) -> Call:
    import torch

    tx = torch.from_numpy(x)
    layers = [
        (torch.from_numpy(np.ascontiguousarray(W[:-1].T)), torch.from_numpy(W[-1].copy()))
        for W in model.parameters
    ]
    linear = torch.nn.functional.linear

    def call() -> object:
        with torch.inference_mode():
            h = tx
            for W, b in layers[:-1]:
                h = torch.relu_(linear(h, W, b))
            return linear(h, *layers[-1]).argmax(1)

    return call


def jax_predict(x: Array, model: fastmlp.MLP) -> Call:
    import jax
    import jax.numpy as jnp

    jx = jax.device_put(x)
    layers = [(jax.device_put(W[:-1]), jax.device_put(W[-1])) for W in model.parameters]

    def function(h: Any, layers: Any) -> Any:
        for W, b in layers[:-1]:
            h = jnp.maximum(h @ W + b, 0)
        return jnp.argmax(h @ layers[-1][0] + layers[-1][1], axis=1)

    compiled = jax.jit(function)
    return lambda: compiled(jx, layers).block_until_ready()


def onnxruntime_predict(x: Array, model: fastmlp.MLP) -> Call:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, h = [], [], "x"
    for layer, W in enumerate(model.parameters, start=1):
        weights += [
            numpy_helper.from_array(W[:-1].copy(), f"W{layer}"),
            numpy_helper.from_array(W[-1].copy(), f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [h, f"W{layer}", f"b{layer}"], [f"h{layer}"]))
        h = f"h{layer}"
        if layer < len(model.parameters):
            nodes.append(helper.make_node("Relu", [h], [f"r{layer}"]))
            h = f"r{layer}"
    nodes.append(helper.make_node("ArgMax", [h], ["classes"], axis=1, keepdims=0))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))]
    outputs = [helper.make_tensor_value_info("classes", TensorProto.INT64, [len(x)])]
    graph = helper.make_graph(nodes, "mlp", inputs, outputs, weights)
    opset = helper.make_opsetid("", 17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = fastmlp.get_num_threads() if len(x) > 1 else 1
    session = onnxruntime.InferenceSession(
        onnx.ModelProto.SerializeToString(
            helper.make_model(graph, opset_imports=[opset], ir_version=9)
        ),
        options,
        providers=["CPUExecutionProvider"],
    )
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    result = onnxruntime.OrtValue.ortvalue_from_shape_and_type([len(x)], np.int64)
    binding.bind_ortvalue_output("classes", result)

    def call() -> Array:
        session.run_with_iobinding(binding)
        return result.numpy()

    return call


Table = dict[str, tuple[str, Callable[..., Call]]]

# A provider's name, the module that must be installed, and its form of the operation.
LAYER: Table = {
    "fastmlp": ("fastmlp", fastmlp_layer),
    "numpy": ("numpy", numpy_layer),
    "torch": ("torch", torch_layer),
    "torch oneDNN": ("torch", onednn_layer),
    "jax": ("jax", jax_layer),
}
MATMUL: Table = {
    "fastmlp": ("fastmlp", fastmlp_matmul),
    "numpy": ("numpy", numpy_matmul),
    "torch": ("torch", torch_matmul),
    "jax": ("jax", jax_matmul),
}
PREDICT: Table = {
    "fastmlp": ("fastmlp", fastmlp_predict),
    "numpy": ("numpy", numpy_predict),
    "torch": ("torch", torch_predict),
    "jax": ("jax", jax_predict),
    "onnxruntime": ("onnxruntime", onnxruntime_predict),
}


def make(table: Table, name: str) -> Callable[..., Call]:
    """Return a provider's function; skip the benchmark where its library isn't installed."""
    import pytest

    module, function = table[name]
    if not installed(module):
        pytest.skip(f"{module} isn't installed")
    return function

"""onnxruntime: inference only, the network as a graph made by hand."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..environment import threads
from . import Array, Call


def predict(x: Array, parameters: list[Array]) -> Call:
    head = helper.make_node("ArgMax", ["z"], ["result"], axis=1, keepdims=0)
    return _forward(x, parameters, head, np.empty(len(x), np.int64))


def predict_proba(x: Array, parameters: list[Array]) -> Call:
    result = np.empty((len(x), parameters[-1].shape[1]), x.dtype)
    return _forward(x, parameters, helper.make_node("Softmax", ["z"], ["result"], axis=1), result)


def _forward(x: Array, parameters: list[Array], head: onnx.NodeProto, like: Array) -> Call:
    options = onnxruntime.SessionOptions()
    # A single row is faster on one thread.
    options.intra_op_num_threads = threads() if len(x) > 1 else 1
    model = graph(len(x), parameters, head).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    result = onnxruntime.OrtValue.ortvalue_from_numpy(like)
    binding.bind_ortvalue_output("result", result)

    def call() -> Array:
        session.run_with_iobinding(binding)
        return result.numpy()

    return call


def graph(rows: int | str, parameters: list[Array], head: onnx.NodeProto) -> onnx.ModelProto:
    """Return the network as a graph from x to its head's result; rows: a name for any number."""
    nodes, weights, h = [], [], "x"
    for layer, W in enumerate(parameters, start=1):
        weights += [
            numpy_helper.from_array(W[:-1].copy(), f"W{layer}"),
            numpy_helper.from_array(W[-1].copy(), f"b{layer}"),
        ]
        name = "z" if layer == len(parameters) else f"h{layer}"
        nodes.append(helper.make_node("Gemm", [h, f"W{layer}", f"b{layer}"], [name]))
        h = name
        if layer < len(parameters):
            nodes.append(helper.make_node("Relu", [h], [f"r{layer}"]))
            h = f"r{layer}"
    real = TensorProto.FLOAT if parameters[0].dtype == np.float32 else TensorProto.DOUBLE
    inputs = [helper.make_tensor_value_info("x", real, [rows, len(parameters[0]) - 1])]
    result = (TensorProto.INT64, [rows])
    if head.op_type == "Softmax":
        result = (real, [rows, parameters[-1].shape[1]])
    outputs = [helper.make_tensor_value_info("result", *result)]
    made = helper.make_graph([*nodes, head], "mlp", inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

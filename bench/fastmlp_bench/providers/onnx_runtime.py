"""onnxruntime: inference only, the network as a graph made by hand."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..environment import threads
from . import Array, Call


def predict(x: Array, parameters: list[Array]) -> Call:
    options = onnxruntime.SessionOptions()
    # A single row is faster on one thread.
    options.intra_op_num_threads = threads() if len(x) > 1 else 1
    session = onnxruntime.InferenceSession(
        _model(x, parameters).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(x))
    result = onnxruntime.OrtValue.ortvalue_from_shape_and_type([len(x)], np.int64)
    binding.bind_ortvalue_output("classes", result)

    def call() -> Array:
        session.run_with_iobinding(binding)
        return result.numpy()

    return call


def _model(x: Array, parameters: list[Array]) -> onnx.ModelProto:
    nodes, weights, h = [], [], "x"
    for layer, W in enumerate(parameters, start=1):
        weights += [
            numpy_helper.from_array(W[:-1].copy(), f"W{layer}"),
            numpy_helper.from_array(W[-1].copy(), f"b{layer}"),
        ]
        nodes.append(helper.make_node("Gemm", [h, f"W{layer}", f"b{layer}"], [f"h{layer}"]))
        h = f"h{layer}"
        if layer < len(parameters):
            nodes.append(helper.make_node("Relu", [h], [f"r{layer}"]))
            h = f"r{layer}"
    nodes.append(helper.make_node("ArgMax", [h], ["classes"], axis=1, keepdims=0))
    real = TensorProto.FLOAT if x.dtype == np.float32 else TensorProto.DOUBLE
    inputs = [helper.make_tensor_value_info("x", real, list(x.shape))]
    outputs = [helper.make_tensor_value_info("classes", TensorProto.INT64, [len(x)])]
    graph = helper.make_graph(nodes, "mlp", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

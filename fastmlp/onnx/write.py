"""Graphs of ONNX (https://onnx.ai/onnx/intro/concepts.html) of models."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from .. import __version__
from ..checks import not_finite, shape_error
from ..files.replace import replace
from ..files.safetensors import path_of
from ..model.foreign import Layer, layers_of
from ..model.losses import CROSS_ENTROPY
from ..reference.activations import LEAK, A, B

if TYPE_CHECKING:
    from ..model.estimator import Estimator

OPSET, FORM = 17, 8  # and the file's form that came with it; all that is used is in 13, too
MOST = 1 << 31  # bytes, of a file of Protocol Buffers
PRODUCER = "fastmlp"
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}
# What makes y of x: operator, inputs, output. ONNX's own LeakyRelu and Gelu have constants of
# float32 only, and onnxruntime none in float64.
ACTIVATIONS = {
    "relu": ["Relu x y"],
    "tanh": ["Tanh x y"],
    "logistic": ["Sigmoid x y"],
    "silu": ["Sigmoid x s", "Mul x s y"],
    "gelu": [
        *("Mul x x square", "Mul square x cube", "Mul cube B curve", "Add x curve sum"),
        *("Mul sum A u", "Tanh u t", "Add t ONE more", "Mul x HALF half", "Mul half more y"),
    ],
    "leaky_relu": ["Mul x LEAK low", "Max x low y"],
    "identity": ["Identity x y"],
}
ENDS = {"x": "h", "y": "a"}
CONSTANTS = {"A": A, "B": B, "ONE": 1.0, "HALF": 0.5, "LEAK": LEAK}
LINKS: dict[str, tuple[str, dict[str, Any]]] = {
    CROSS_ENTROPY: ("LogSoftmax", {"axis": 1}),
    "binary_cross_entropy": ("Sigmoid", {}),
    "poisson": ("Exp", {}),
}


def write(model: "Estimator", path: str | os.PathLike[str]) -> None:
    """Do what `fastmlp.onnx.export` does."""
    name = path_of(path)
    graph = graph_of(model)
    checker.check_model(graph, full_check=True)
    replace(name, graph.SerializeToString(deterministic=True))


def graph_of(model: "Estimator") -> ModelProto:
    """Return the graph of a model: a Gemm for each layer, its activation, the loss' own link."""
    layers = layers_of(model, "export")
    flat = model.flat_parameters
    error = not_finite("flat_parameters", flat, flat.shape, "train the model at a lower rate")
    if error is not None:
        raise error
    if flat.nbytes >= MOST - (1 << 20):
        expected = "less than 2 GB of weights, as ONNX's files hold"
        raise shape_error("export", expected, f"{flat.nbytes} bytes", "use model.save(path)")
    y = "log_prob" if model.loss_name == CROSS_ENTROPY else "y"
    nodes = _nodes(model, layers, y)
    used = {name for node in nodes for name in node.input}
    arrays = {layer.name: layer.W for layer in layers}
    arrays |= {f"b{number}": b for number, (_, _, b) in enumerate(layers, 1) if b is not None}
    arrays |= {name: np.array(CONSTANTS[name], model.dtype) for name in CONSTANTS if name in used}
    kind, batch = TYPES[model.dtype.name], "N"
    graph = helper.make_graph(
        nodes, "mlp",
        [helper.make_tensor_value_info("x", kind, [batch, model.sizes[0]])],
        [helper.make_tensor_value_info(y, kind, [batch, model.sizes[-1]])],
        [numpy_helper.from_array(np.ascontiguousarray(one), name) for name, one in arrays.items()],
    )  # fmt: skip
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=FORM,
        producer_name=PRODUCER, producer_version=__version__,
    )  # fmt: skip
    delta = {} if model.delta is None else {"delta": repr(model.delta)}
    helper.set_model_props(made, {"loss": model.loss_name, **delta})
    return made


def _nodes(model: "Estimator", layers: list[Layer], y: str) -> list[NodeProto]:
    """Return the nodes that make y of x."""
    nodes, h = [], "x"
    for number, (name, _, b) in enumerate(layers, start=1):
        operands = [h, name] if b is None else [h, name, f"b{number}"]
        nodes.append(helper.make_node("Gemm", operands, [f"h{number}"], f"layer{number}"))
        h = f"h{number}"
        if number < len(layers):
            nodes += _activation(model.activation[number - 1], number)
            h = f"a{number}"
    operator, attributes = LINKS.get(model.loss_name, ("Identity", {}))
    nodes.append(helper.make_node(operator, [h], [y], "link", **attributes))
    return nodes


def _activation(name: str, number: int) -> list[NodeProto]:
    """Return the nodes that make a{number} of h{number}."""
    nodes = []
    for part, line in enumerate(ACTIVATIONS[name], start=1):
        operator, *names = line.split()
        *inputs, output = (
            one if one in CONSTANTS else f"{ENDS.get(one, f'{one}_')}{number}" for one in names
        )
        node = f"{name}{number}" if output == f"a{number}" else f"{name}{number}_{part}"
        nodes.append(helper.make_node(operator, inputs, [output], node))
    return nodes

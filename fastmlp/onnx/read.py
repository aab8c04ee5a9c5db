"""Models of graphs of ONNX: followed from the input to the outputs, one node after the other.

What a graph does to each number between two layers is computed for a grid of numbers: an
activation is known by its values, however an exporter writes it.
"""

import math
import os
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, ValueInfoProto, checker, external_data_helper, numpy_helper
from onnx import load_model_from_string as parse

from ..checks import shape_error
from ..files.safetensors import path_of
from ..model.foreign import LINKS, loss_asked, model_of
from ..model.losses import CROSS_ENTROPY
from .nodes import run
from .signals import Signal, Value, function_of
from .write import PRODUCER

if TYPE_CHECKING:
    from ..model.mlp import MLP

MEND = "export layers, their activations, and a softmax, sigmoid or exp behind them"


def read(path: str | os.PathLike[str], loss: str | None) -> "MLP":
    """Do what `fastmlp.onnx.load` does."""
    name = path_of(path)
    with open(name, "rb") as file:
        content = file.read()
    try:
        return _model_of(_parsed(content, os.path.dirname(os.path.abspath(name))), loss)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {' '.join(str(error).split())}") from None


def _parsed(content: bytes, folder: str) -> ModelProto:
    """Return the graph, with the weights of files beside it, as PyTorch writes large ones."""
    try:
        proto = parse(content)
        external_data_helper.load_external_data_for_model(proto, folder)
        checker.check_model(proto)
    except (DecodeError, checker.ValidationError) as error:
        got = " ".join(str(error).split()) or "something else"
        raise shape_error("content", "a graph of ONNX", got, "get the file again") from None
    return proto


def _model_of(proto: ModelProto, loss: str | None) -> "MLP":
    values = _values_of(proto.graph)
    signal, name = _end(proto.graph, values)
    props = {one.key: one.value for one in proto.metadata_props}
    own = props if proto.producer_name == PRODUCER else {}
    chosen = loss_asked(name, _loss_of(signal, name), loss, own.get("loss", "squared_error"))
    delta = float(own["delta"]) if chosen == own.get("loss") and "delta" in own else None
    model = model_of(signal.layers, signal.activations[1:], chosen, delta)
    shape = [one.dim_value for one in _input(proto.graph).type.tensor_type.shape.dim[1:]]
    if shape and math.prod(shape) not in (0, model.sizes[0]):  # 0: it is free
        got = f"shape (N, {', '.join(map(str, shape))})"
        raise shape_error("graph", f"an input of {model.sizes[0]} numbers", got, MEND)
    return model


def _values_of(graph: GraphProto) -> dict[str, Value]:
    """Return what each tensor of a graph is, or raise for the first node that makes another."""
    values: dict[str, Value] = {}
    for tensor in graph.initializer:
        try:
            values[tensor.name] = numpy_helper.to_array(tensor)
        except (KeyError, ValueError) as error:  # of types that ONNX lacks, and cut numbers
            name = f"initializer {tensor.name}"
            raise shape_error(name, "an array", error, "get the file again") from None
    values[_input(graph).name] = Signal()
    for node in graph.node:
        values[node.output[0]] = run(node, values)
    return values


def _input(graph: GraphProto) -> ValueInfoProto:
    """Return the one input: older graphs have their weights among these, too."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [one for one in graph.input if one.name not in weights]
    if len(inputs) != 1:
        got = [one.name for one in inputs]
        raise shape_error("graph", "one input, the samples", got, MEND)
    return inputs[0]


def _end(graph: GraphProto, values: dict[str, Value]) -> tuple[Signal, str]:
    """Return what the outputs are, and the name of it: classes beside it say nothing more."""
    ends = [(values.get(one.name), one.name) for one in graph.output]
    signals = [(end, name) for end, name in ends if isinstance(end, Signal) and end.layers]
    if not signals or len(signals) != len(ends):
        got = ", ".join(name for _, name in ends)
        raise shape_error("graph", "outputs of layers", got or "none", MEND)
    numbers = [one for one in signals if not one[0].is_class] or signals
    first, name = numbers[0]
    for other, its_name in signals:
        same = other.is_class or (other.y is first.y and other.head == first.head)
        if other.layers is not first.layers or not same:
            raise shape_error(f"output {its_name}", f"the same as {name}", "another one", MEND)
    return first, f"output {name}"


def _loss_of(signal: Signal, name: str) -> str | None:
    """Return the loss whose link the last numbers are; None for those of a layer itself."""
    if signal.head == "softmax":
        return CROSS_ENTROPY
    function = function_of(signal.y)
    if function == "identity":
        return CROSS_ENTROPY if signal.is_class else None
    if function not in LINKS:
        raise shape_error(name, "a layer's own, or softmax, sigmoid or exp of it", function, MEND)
    return LINKS[function]

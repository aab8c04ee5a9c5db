"""The operators of graphs that are read: what each makes of constants and signals."""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..checks import FLOATS, Array, shape_error
from ..model.foreign import Layer
from ..plan.ways import ACTIVATIONS
from ..reference.activations import y_and_slope
from .signals import GRID, Signal, Value, function_of

Attributes = dict[str, Any]
Operator = Callable[[NodeProto, Attributes, list[Value]], Value]
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
FLOAT_TYPES = {TensorProto.FLOAT: FLOATS[0], TensorProto.DOUBLE: FLOATS[1]}


def run(node: NodeProto, values: dict[str, Value]) -> Value:
    """Return the first output of a node, or raise ValueError that names it."""
    if node.domain not in DOMAINS or node.op_type not in NODES:
        expected = f"one of the operators {', '.join(sorted(NODES))}"
        got = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise refused(node, expected, got)
    missing = [name for name in node.input if name and name not in values]
    if missing:
        raise refused(node, "inputs that come before it", repr(missing[0]))
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    operands = [values[name] for name in node.input if name]
    try:
        with np.errstate(all="ignore"):
            return NODES[node.op_type](node, attributes, operands)
    except KeyError as error:  # of onnx's own tables
        raise refused(node, "types that ONNX has", f"number {error}") from None


def refused(node: NodeProto, expected: str, got: object) -> ValueError:
    """Return the error that names a node."""
    name = node.name or ", ".join(node.output)
    mend = "export layers, their activations, and a softmax, sigmoid or exp behind them"
    return shape_error(f"node {name} ({node.op_type})", expected, got, mend)


def _what(value: Value) -> str:
    """Return what a value is, for errors."""
    if isinstance(value, Signal):
        if value.head or value.is_class:
            return "classes" if value.is_class else "what a softmax has made"
        if value.y is GRID:
            return f"the outputs of layer {len(value.layers)}" if value.layers else "the input"
        return f"{function_of(value.y) or 'another function'} of numbers"
    return f"a constant of shape {value.shape}"


def _signal_and_constants(node: NodeProto, operands: list[Value]) -> tuple[Signal, list[Array]]:
    first, *others = operands
    if not isinstance(first, Signal) or not all(isinstance(one, np.ndarray) for one in others):
        got = " and ".join(map(_what, operands))
        raise refused(node, "numbers of samples, then constants", got)
    return first, [np.asarray(one) for one in others]


def _gemm(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    signal, (W, *b) = _signal_and_constants(node, operands)
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    wrong = {name: given for name, given in attributes.items() if usual.get(name, given) != given}
    if wrong or W.ndim != 2:
        raise refused(node, "x @ W + b", wrong or f"W of shape {W.shape}")
    made = _layer(node, signal, W.T if attributes.get("transB", 0) else W)
    return _with_bias(node, made, b[0]) if b else made


def _matmul(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    signal, (W, *_) = _signal_and_constants(node, operands)
    return _layer(node, signal, W)


def _layer(node: NodeProto, signal: Signal, W: Array) -> Signal:
    name = None if signal.head or signal.is_class else function_of(signal.y)
    if name not in ACTIVATIONS or (not signal.layers and name != "identity"):
        expected = f"x, or an activation, {', '.join(ACTIVATIONS)}"
        raise refused(node, expected, _what(signal))
    if W.ndim != 2 or W.dtype not in FLOATS:
        raise refused(node, "a matrix W of float32 or float64", f"{W.dtype} of shape {W.shape}")
    layer = Layer(f"node {node.name or node.output[0]}", W, None)
    return Signal((*signal.layers, layer), (*signal.activations, name))


def _with_bias(node: NodeProto, signal: Signal, b: Array) -> Signal:
    *before, last = signal.layers
    outputs = last.W.shape[1]
    if b.ndim > 2 or b.size not in (1, outputs) or (b.ndim == 2 and len(b) != 1):
        raise refused(node, f"a bias of shape ({outputs},)", f"shape {b.shape}")
    b = np.broadcast_to(b.reshape(-1), outputs)
    return signal._replace(layers=(*before, last._replace(b=b)))


def _add(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    for signal, b in (operands, operands[::-1]):
        if not isinstance(signal, Signal) or isinstance(b, Signal) or not signal.is_plain():
            continue
        if signal.layers and signal.layers[-1].b is None:
            return _with_bias(node, signal, b)
    return _of_two(np.add)(node, attributes, operands)


def _of_two(function: Callable[[Any, Any], Any]) -> Operator:
    """Return the operator of two operands, number by number."""

    def operate(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
        left, right = operands
        if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
            return np.asarray(function(left, right))
        signals = [one for one in operands if isinstance(one, Signal)]
        if not signals or not all(one.follows(signals[0]) for one in signals):
            got = " and ".join(map(_what, operands))
            raise refused(node, "functions of one layer's outputs", got)
        numbers: list[Any] = []
        for one in operands:
            if isinstance(one, np.ndarray) and one.size != 1:
                raise refused(node, "one constant for all outputs", _what(one))
            numbers.append(one.y if isinstance(one, Signal) else np.float64(np.ravel(one)[0]))
        return signals[0]._replace(y=np.asarray(function(*numbers)))

    return operate


def _of_one(function: Callable[[Array], Array]) -> Operator:
    """Return the operator of one operand, number by number."""

    def operate(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
        (x,) = operands
        if isinstance(x, np.ndarray):
            return np.asarray(function(x))
        if not isinstance(x, Signal) or not x.follows(x):
            raise refused(node, "numbers", _what(x))
        return x._replace(y=np.asarray(function(x.y)))

    return operate


def _leaky_relu(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    alpha = attributes.get("alpha", 0.01)
    return _of_one(lambda x: np.where(x < 0, alpha * x, x))(node, attributes, operands)


def _gelu(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    form = attributes.get("approximate", b"none").decode()
    if form != "tanh":
        raise refused(node, "approximate='tanh', which fastmlp's gelu is", repr(form))
    return _of_one(lambda x: y_and_slope("gelu", x)[0])(node, attributes, operands)


def _softmax(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    (x,) = operands
    if not isinstance(x, Signal) or not x.is_plain() or attributes.get("axis", -1) not in (1, -1):
        raise refused(node, "a layer's outputs, along a row", " and ".join(map(_what, operands)))
    return x._replace(head="softmax")


def _same(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    return operands[0]


def _dropout(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    x, last = operands[0], operands[-1]
    is_given = len(node.input) > 2 and node.input[2] != ""
    if is_given and (isinstance(last, Signal) or last.any()):  # else it does nothing
        raise refused(node, "a graph that was exported to predict", "training_mode")
    return x


def _flatten(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    if attributes.get("axis", 1) != 1 or not isinstance(operands[0], Signal):
        raise refused(node, "axis 1 of numbers of samples", attributes or _what(operands[0]))
    return operands[0]


def _cast(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    (x,), dtype = operands, FLOAT_TYPES.get(attributes["to"])
    if isinstance(x, np.ndarray):
        return x.astype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
    if isinstance(x, Signal) and (x.is_class or _keeps(x, dtype)):
        return x
    raise refused(node, "the weights' own dtype", helper.tensor_dtype_to_string(attributes["to"]))


def _keeps(signal: Signal, dtype: Any) -> bool:
    """Tell whether a layer's outputs are of this dtype; x takes that of the first layer."""
    return dtype is not None and (not signal.layers or signal.layers[-1].W.dtype == dtype)


def _transpose(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    (x,) = operands
    if not isinstance(x, np.ndarray):
        raise refused(node, "a constant", _what(x))
    return np.transpose(x, attributes.get("perm"))


def _constant(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    ((name, value),) = attributes.items()
    if name == "value":
        return np.asarray(numpy_helper.to_array(value))
    if name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise refused(node, "numbers", name)
    return np.array(value, np.float32 if "float" in name else np.int64)


def _concat(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    """Return 1 - p beside p, as scikit-learn has the probabilities of two classes."""
    signals = [one for one in operands if isinstance(one, Signal)]
    if len(signals) == len(operands) == 2 and signals[0].follows(signals[1]):
        no, yes = signals
        if function_of(yes.y) == "logistic" and function_of(1 - no.y) == "logistic":
            return yes._replace(head="both")
    raise refused(node, "1 - p and p of a sigmoid", " and ".join(map(_what, operands)))


def _classes(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    x = operands[0]
    if not isinstance(x, Signal) or attributes.get("axis", 0) not in (1, -1):
        raise refused(node, "the largest number of each row", _what(x))
    return x._replace(is_class=True)


def _labels(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    """Return classes as they are: what stands at their places, or in another shape."""
    for one in operands:
        if isinstance(one, Signal) and one.is_class:
            return one
    raise refused(node, "classes", " and ".join(map(_what, operands)))


def _binarizer(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    (x,) = operands
    threshold = attributes.get("threshold", 0.0)
    if threshold != 0.5 or not isinstance(x, Signal) or function_of(x.y) != "logistic":
        raise refused(node, "a sigmoid and 0.5", f"{_what(x)} and {threshold}")
    return x._replace(is_class=True)


def _reshape(node: NodeProto, attributes: Attributes, operands: list[Value]) -> Value:
    """Return x, whose axes become one, or classes; a layer's outputs stay as they are."""
    x, (shape, *_) = _signal_and_constants(node, operands)
    width = x.layers[-1].W.shape[1] if x.layers else shape[-1]
    if not x.is_class and (len(shape) != 2 or shape[1] not in (-1, width)):
        raise refused(node, "a row of numbers for each sample", f"shape {shape.tolist()}")
    return x


NODES: dict[str, Operator] = {
    "Add": _add,
    "ArgMax": _classes,
    "ArrayFeatureExtractor": _labels,
    "Binarizer": _binarizer,
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Div": _of_two(np.divide),
    "Dropout": _dropout,
    "Exp": _of_one(np.exp),
    "Flatten": _flatten,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "Max": _of_two(np.maximum),
    "Mul": _of_two(np.multiply),
    "Neg": _of_one(np.negative),
    "Pow": _of_two(np.power),
    "Relu": _of_one(lambda x: np.maximum(x, 0)),
    "Reshape": _reshape,
    "Sigmoid": _of_one(lambda x: 1 / (1 + np.exp(-x))),
    "Softmax": _softmax,
    "Sub": _of_two(np.subtract),
    "Tanh": _of_one(np.tanh),
    "Transpose": _transpose,
    "ZipMap": _same,
}

"""Models as graphs of ONNX, run by onnxruntime; graphs of ours and of others as models."""

import sys
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import DTYPES, VECTORS, assert_same_bits, floats
from onnx import TensorProto, helper, numpy_helper

import fastmlp
from fastmlp import reference
from fastmlp.model.losses import LOSSES
from fastmlp.plan.ways import ACTIVATIONS

GRAPHS = VECTORS.with_name("onnx")
FOREIGN = sorted(GRAPHS.glob("*.onnx"))
REFUSED = [path for path in FOREIGN if "wrong" in path.stem]
READ = [path for path in FOREIGN if "wrong" not in path.stem]


def run(path, x):
    """What onnxruntime makes of x: the graph's outputs that are numbers, the last of them."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    y = session.run(None, {session.get_inputs()[0].name: x})[-1]
    return np.array([[*row.values()] for row in y]) if isinstance(y, list) else y


def of_graph(model, x):
    """What a graph of the model gives: its loss' own link behind the last layer."""
    if model.loss_name == "cross_entropy":
        return model.predict_log_proba(x)
    if model.loss_name == "binary_cross_entropy":
        return model.predict_proba(x)[:, -model.sizes[-1] :]
    return model.predict(x).reshape(len(x), -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("loss", "outputs"), [*product(LOSSES, [3]), ("binary_cross_entropy", 1)])
def test_a_model_comes_back_bit_for_bit_and_onnxruntime_agrees(tmp_path, loss, outputs, dtype):
    sizes, path = [5, *range(6, 6 + len(ACTIVATIONS)), outputs], tmp_path / "model.onnx"
    bias = [layer % 3 != 1 for layer in range(len(sizes) - 1)]
    made = {"activation": ACTIVATIONS, "loss": loss, "delta": 0.3 if loss == "huber" else None}
    model = fastmlp.MLP(sizes, bias, dtype, rng=3, **made)
    model.flat_parameters[...] = floats(4, model.flat_parameters.size, dtype, -3, 1)
    fastmlp.onnx.export(model, path)
    content = path.read_bytes()
    loaded = fastmlp.onnx.load(path)
    assert repr(loaded) == repr(model)
    assert_same_bits(loaded.flat_parameters, model.flat_parameters)
    fastmlp.onnx.export(loaded, str(path))
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path).graph
    names = {node.op_type for node in graph.node}
    assert {"Gemm", "Relu", "Tanh", "Sigmoid", "Mul", "Max", "Identity"} <= names
    assert names & {"LogSoftmax", "Exp"} or loss not in ("cross_entropy", "poisson")
    assert graph.output[0].name == ("log_prob" if loss == "cross_entropy" else "y")
    for rows in (1, 7):  # the batch's axis is free
        x = floats(rows, (rows, 5), dtype)
        y, expected = run(path, x), of_graph(model, x)
        assert y.dtype == dtype
        close = 1e-5 if dtype == np.float32 else 1e-13
        np.testing.assert_allclose(y, expected, rtol=close, atol=close)


@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 2e-5), (np.float64, 1e-13)])
def test_onnxruntime_gives_mnist_the_same_labels(tmp_path, dtype, most):
    """The largest differences are those that docs/other-frameworks.md states."""
    (x, y), (x_test, _) = fastmlp.mnist_dataset()
    x, x_test = (images.astype(dtype).reshape(-1, 784) for images in (x, x_test))
    model = fastmlp.MLP([784, 100, 10], dtype=dtype, rng=0)
    model.fit(x, y, epochs=1, rng=0)
    fastmlp.onnx.export(model, tmp_path / "mnist.onnx")
    log_prob = run(tmp_path / "mnist.onnx", x_test)
    ours = model.predict_log_proba(x_test)
    assert np.array_equal(log_prob.argmax(axis=1), model.predict(x_test))
    assert 0 < np.abs(log_prob - ours).max() < most


@pytest.mark.parametrize("path", READ, ids=lambda path: path.stem)
def test_graphs_of_others_are_read(path):
    model = fastmlp.onnx.load(path)
    x = floats(1, (9, model.sizes[0]), model.dtype)
    y = run(path, x.reshape(9, 2, 3) if "images" in path.stem else x)
    ours = of_graph(model, x)
    if path.stem.startswith("sklearn-binary"):
        ours = model.predict_proba(x)
    if model.loss_name == "cross_entropy" and y.min() >= 0:
        ours = model.predict_proba(x)
    assert y.shape == ours.shape
    np.testing.assert_allclose(y, ours, rtol=1e-5, atol=1e-6)
    made = path.stem.partition("-")[2].removeprefix("dynamo-").removeprefix("script-")
    if made in EXPECTED:
        assert (model.sizes, model.activation, model.loss_name) == EXPECTED[made]


EVERY = ("relu", "tanh", "logistic", "silu", "gelu", "leaky_relu")
EXPECTED = {
    "log-softmax": ((5, 4, 3, 6, 4, 5, 3, 4), EVERY, "cross_entropy"),
    "softmax": ((3, 4), (), "cross_entropy"),
    "sigmoid": ((3, 4, 2), ("relu",), "binary_cross_entropy"),
    "numbers": ((3, 4, 2), ("relu",), "squared_error"),
    "classes": ((4, 5, 3, 3), ("tanh", "tanh"), "cross_entropy"),
    "binary": ((4, 5, 1), ("relu",), "binary_cross_entropy"),
    "many-labels": ((4, 5, 3), ("logistic",), "binary_cross_entropy"),
    "number": ((4, 5, 1), ("identity",), "squared_error"),
    "images": ((6, 4, 2), ("gelu",), "squared_error"),
}


def test_graphs_of_all_others_are_there():
    kinds = {path.stem.rpartition("-")[0].partition("-wrong")[0] for path in FOREIGN}
    assert {"torch-dynamo", "torch-script", "sklearn"} <= kinds
    assert len(FOREIGN) > 20


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_another_graph_is_an_error_that_names_the_node(path):
    with pytest.raises(ValueError, match=rf"{path.name}: node \S+ \(\w+\): expected ") as refused:
        fastmlp.onnx.load(path)
    node = str(refused.value).partition(": node ")[2].partition(" ")[0]
    graph = onnx.load(path).graph
    assert node in {one.name for one in graph.node}


def test_logits_of_classes_are_asked_for():
    path = GRAPHS / "torch-dynamo-numbers.onnx"
    x = floats(1, (9, 3), np.float32)
    numbers, classes = fastmlp.onnx.load(path), fastmlp.onnx.load(path, loss="cross_entropy")
    assert_same_bits(classes.predict(x), numbers.predict(x).argmax(axis=1))
    with pytest.raises(ValueError, match=r"loss: expected one of \[.*\], got 'hinge'"):
        fastmlp.onnx.load(path, loss="hinge")
    with pytest.raises(ValueError, match=r"loss: expected None or 'cross_entropy', as output .*; "):
        fastmlp.onnx.load(GRAPHS / "torch-dynamo-softmax.onnx", loss="squared_error")


def made(nodes, outputs=("y",), width=3, **weights):
    """A graph of x (N, width) with these nodes and weights."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(op, xs.split(), [y], f"{op}-{y}", **more) for op, xs, y, more in nodes],
        "graph",
        [value("x", TensorProto.FLOAT, ["N", width])],
        [value(name, TensorProto.FLOAT, ["N", "M"]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


W, V, b = floats(1, (3, 4), np.float32), floats(2, (4, 2), np.float32), floats(3, 4, np.float32)
LAYER, LAST = ("MatMul", "x W", "h", {}), ("MatMul", "a V", "y", {})
WRONG = {
    "an activation at the end": ([LAYER, ("Relu", "h", "y", {})], r"output y: expected a layer's "),
    "no layer": ([("Relu", "x", "y", {})], r"graph: expected outputs of layers, got y"),
    "x between": ([("Mul", "x half", "a", {}), ("MatMul", "a W", "y", {})], r"node MatMul-y .*: e"),
    "a residual": (
        [LAYER, ("Relu", "h", "a", {}), ("MatMul", "a U", "u", {}), ("Add", "u a", "y", {})],
        r"node Add-y \(Add\): expected functions of one layer's outputs, got the outputs of layer",
    ),
    "cut off": ([LAYER, ("Clip", "h zero six", "a", {}), LAST], r"node Clip-a \(Clip\): expected "),
    "another slope": ([LAYER, ("LeakyRelu", "h", "a", {"alpha": 0.2}), LAST], r"node MatMul-y "),
    "a near slope": ([LAYER, ("LeakyRelu", "h", "a", {"alpha": 0.0101}), LAST], r"node MatMul-y "),
    "a gelu by a sigmoid": (
        [LAYER, ("Mul", "h k", "s", {}), ("Sigmoid", "s", "g", {}), ("Mul", "h g", "a", {}), LAST],
        r"node MatMul-y \(MatMul\): expected x, or an activation, .*, got another function of num",
    ),
    "a gelu by erf": ([LAYER, ("Gelu", "h", "a", {}), LAST], r"node Gelu-a \(Gelu\): expected app"),
    "a scaled product": ([("Gemm", "x W", "y", {"alpha": 2.0})], r"node Gemm-y .*: expected x @ W"),
    "a softmax between": (
        [LAYER, ("Softmax", "h", "a", {"axis": 1}), LAST],
        r"node MatMul-y \(MatMul\): expected x, or an activation, .*, got what a softmax has made",
    ),
    "along the samples": ([LAYER, ("Softmax", "h", "y", {"axis": 0})], r"node Softmax-y .*: expec"),
    "a bias for each number": ([LAYER, ("Add", "h wide", "y", {})], r"node Add-y \(Add\): expecte"),
    "half of the precision": ([LAYER, ("Cast", "h", "y", {"to": 10})], r"node Cast-y \(Cast\): ex"),
    "in training": ([LAYER, ("Dropout", "h half true", "y", {})], r"node Dropout-y .*: expected"),
    "two inputs": ([("MatMul", "x x", "y", {})], r"node MatMul-y \(MatMul\): expected numbers of "),
    "not a chain": ([("MatMul", "x V", "y", {}), LAYER], None),
    "an unknown name": ([("MatMul", "q W", "y", {})], r"input 'q' of node: name: MatMul-y "),
    "integers": ([("MatMul", "x integers", "y", {})], r"node MatMul-y \(MatMul\): expected a matr"),
    "nan": ([("MatMul", "x bad", "y", {})], r"node MatMul-y\[1, 2\]: expected finite numbers, got"),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_mlp_is_refused(tmp_path, nodes, words):
    bad = W.copy()
    bad[1, 2] = np.nan
    graph = made(
        nodes, W=W, V=V, U=floats(5, (4, 4), np.float32), half=np.float32(0.5), bad=bad,
        zero=np.float32(0), six=np.float32(6), wide=np.ones((3, 4), np.float32),
        integers=np.ones((3, 4), np.int64), true=np.array(True),
        k=np.float32(1.702),
    )  # fmt: skip
    (tmp_path / "graph.onnx").write_bytes(graph.SerializeToString())
    with pytest.raises(ValueError, match=words or "graph.onnx: ") as refused:
        fastmlp.onnx.load(tmp_path / "graph.onnx")
    assert len(str(refused.value).splitlines()) == 1


def test_a_chain_with_weights_in_other_places_is_read(tmp_path):
    nodes = [
        ("Constant", "", "two", {"value_float": 2.0}),
        ("Transpose", "Wt", "W", {"perm": [1, 0]}),
        ("Identity", "x", "i", {}),
        ("Dropout", "i", "z", {}),
        ("Gemm", "z W b", "h", {}),
        ("Exp", "h", "e", {}),  # a tanh as (e^2h - 1) / (e^2h + 1)
        ("Pow", "e two", "p", {}),
        ("Neg", "h", "n", {}),
        ("Tanh", "h", "a", {}),
        ("Add", "a a", "c", {}),
        ("Div", "c two", "d", {}),
        ("MatMul", "d V", "y", {}),
        ("ArgMax", "y", "label", {"axis": 1}),
    ]
    graph = made(nodes, ["label", "y"], Wt=W.T.copy(), V=V, b=b)
    (tmp_path / "graph.onnx").write_bytes(graph.SerializeToString())
    model = fastmlp.onnx.load(tmp_path / "graph.onnx")
    assert (model.activation, model.bias) == (("tanh",), (True, False))
    assert_same_bits(model.W1, np.concatenate([W, b[np.newaxis]]))
    assert_same_bits(model.W2, V)


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"not a graph", b"\x08\x01" * 4], ids=repr)
def test_what_is_no_graph_is_one_line(tmp_path, content):
    (tmp_path / "graph.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=r"graph.onnx: (content|graph): expected "):
        fastmlp.onnx.load(tmp_path / "graph.onnx")
    with pytest.raises(FileNotFoundError):
        fastmlp.onnx.load(tmp_path / "none.onnx")


@pytest.mark.parametrize("name", ["sklearn-binary-zipmap", "torch-script-images"])
def test_a_damaged_graph_is_a_model_or_one_line(tmp_path, name):
    content = (GRAPHS / f"{name}.onnx").read_bytes()
    draws = np.random.PCG64(7).random_raw(150)
    damaged = [content[:-1], content.replace(b"\x10\x01B", b"\x10\x41B")]  # a type of its own
    for draw in draws.tolist():
        one = bytearray(content)
        one[draw % len(one)] ^= 1 << (draw >> 60) % 8
        damaged.append(bytes(one))
    assert damaged[1] != content
    errors = []
    for one in damaged:
        (tmp_path / "graph.onnx").write_bytes(one)
        try:
            fastmlp.onnx.load(tmp_path / "graph.onnx")
        except (TypeError, ValueError) as error:
            errors.append(str(error))
    assert len(errors) > 50
    assert all(error.startswith(f"{tmp_path / 'graph.onnx'}: ") for error in errors)
    assert not [error for error in errors if len(error.splitlines()) > 1]


def test_what_no_graph_computes_is_not_exported(tmp_path):
    path = tmp_path / "model.onnx"
    with pytest.raises(TypeError, match=r"export: expected an MLP, got NotebookMLP, which has a s"):
        fastmlp.onnx.export(fastmlp.NotebookMLP(rng=0), path)
    with pytest.raises(TypeError, match=r"export: expected an MLP, got str"):
        fastmlp.onnx.export("model", path)
    model = reference.MLP([3, 2], rng=0)  # the reference's have graphs, too
    fastmlp.onnx.export(model, path)
    before = path.read_bytes()
    model.W1[1, 1] = np.inf
    with pytest.raises(ValueError, match=r"flat_parameters\[3\]: expected finite numbers, got inf"):
        fastmlp.onnx.export(model, path)
    assert path.read_bytes() == before


def test_without_onnx_the_error_names_it(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("fastmlp.onnx.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"onnx"):
        fastmlp.onnx.load(tmp_path / "model.onnx")

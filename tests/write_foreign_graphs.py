"""Writes tests/vectors/onnx: small graphs as PyTorch's two exporters and skl2onnx write them.

Needs torch, onnxscript, scikit-learn and skl2onnx. `python tests/write_foreign_graphs.py`
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from skl2onnx import to_onnx
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import nn

FOLDER = Path(__file__).parent / "vectors" / "onnx"
SIZES = [5, 4, 3, 6, 4, 5, 3]


def every_activation(end):
    kinds = [nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.GELU("tanh"), nn.LeakyReLU(0.01)]
    modules = [nn.Flatten()]
    for number, (inputs, outputs) in enumerate(zip(SIZES, [*SIZES[1:], 4], strict=True)):
        modules += [nn.Linear(inputs, outputs, bias=number != 3), *kinds[number : number + 1]]
    return nn.Sequential(*modules, *end)


def torch_models():
    small = [nn.Linear(3, 4), nn.Dropout(), nn.ReLU(), nn.Linear(4, 2)]
    return {
        "log-softmax": every_activation([nn.LogSoftmax(dim=1)]),
        "softmax": nn.Sequential(nn.Linear(3, 4), nn.Softmax(dim=-1)),
        "sigmoid": nn.Sequential(*small, nn.Sigmoid()).double(),
        "numbers": nn.Sequential(*small),
        "linear": nn.Linear(3, 2, bias=False),
        "images": nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.GELU("tanh"), nn.Linear(4, 2)),
        "wrong-gelu": nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)),
        "wrong-norm": nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        "wrong-elu": nn.Sequential(nn.Linear(3, 4), nn.ELU(), nn.Linear(4, 2)),
    }


def write_torch():
    for name, model in torch_models().items():
        model.eval()
        first = next(model.parameters())
        x = torch.zeros(2, first.shape[1], dtype=first.dtype)
        batch, more = torch.export.Dim("batch"), {}
        if name == "images":  # in an opset that has no Gelu
            x, more = x.reshape(2, 2, 3), {"opset_version": 18}
        torch.onnx.export(
            model, (x,), FOLDER / f"torch-dynamo-{name}.onnx", dynamo=True, verbose=False,
            dynamic_shapes=({0: batch},), external_data=False, **more,
        )  # fmt: skip
        torch.onnx.export(
            model, (x,), FOLDER / f"torch-script-{name}.onnx", dynamo=False,
            input_names=["x"], dynamic_axes={"x": {0: "batch"}}, **more,
        )  # fmt: skip


def write_sklearn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    three = np.array(["setosa", "versicolor", "virginica"])[np.arange(60) % 3]
    two, many = x[:, 0] > 0, (x[:, :3] > 0).astype(np.int64)
    numbers = x[:, 0] * x[:, 1]
    cases = {
        "classes": (MLPClassifier((5, 3), "tanh"), three),
        "binary": (MLPClassifier((5,), "relu"), two.astype(np.int64)),
        "many-labels": (MLPClassifier((5,), "logistic"), many),
        "number": (MLPRegressor(hidden_layer_sizes=(5,), activation="identity"), numbers),
        "wrong-numbers": (MLPRegressor(hidden_layer_sizes=(5, 4)), x[:, :2]),  # under each other
    }
    for name, (model, y) in cases.items():
        model.set_params(max_iter=5, random_state=0).fit(x, y)
        for zipmap in (True, False):
            if zipmap and name not in ("classes", "binary"):
                continue
            options = {} if zipmap or not hasattr(model, "classes_") else {"zipmap": False}
            graph = to_onnx(model, x[:1], options={id(model): options} if options else None)
            suffix = "-zipmap" if zipmap else ""
            (FOLDER / f"sklearn-{name}{suffix}.onnx").write_bytes(graph.SerializeToString())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    FOLDER.mkdir(exist_ok=True)
    write_torch()
    write_sklearn()

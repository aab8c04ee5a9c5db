"""examples/serve.py with onnxruntime in the model's place; run by `fastmlp_bench.serving`."""

import importlib
import os
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper

import fastmlp

from .providers import Array
from .providers.onnx_runtime import graph

_load = fastmlp.load


class Session:
    """What serve.py asks of a model, by onnxruntime."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        model = _load(path)
        self.sizes, self.dtype = model.sizes, model.dtype
        self.flat_parameters = model.flat_parameters
        softmax = helper.make_node("Softmax", ["z"], ["result"], axis=1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # requests come at once, of few rows each
        self.session = onnxruntime.InferenceSession(
            graph("rows", model.parameters, softmax).SerializeToString(), options
        )

    def predict_proba(self, x: Array) -> Array:
        """Return the probabilities of the classes."""
        probabilities: Any = self.session.run(None, {"x": x})[0]
        return np.asarray(probabilities)


vars(fastmlp)["load"] = Session

app = importlib.import_module("serve").app  # which loads a model at once

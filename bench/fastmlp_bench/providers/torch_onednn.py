"""PyTorch's own calls of oneDNN, with weights in oneDNN's layout: float32 only, no training."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from . import Array, Call


def layer(x: Array, W: Array, b: Array) -> Call | None:
    if x.dtype != np.float32:
        return None
    tx, linear = torch.from_numpy(x), _linear(len(x), W, b, "relu")

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return linear(tx)

    return call


def predict(x: Array, parameters: list[Array]) -> Call | None:
    if x.dtype != np.float32:
        return None
    tx, last = torch.from_numpy(x), len(parameters) - 1
    layers = [
        _linear(len(x), W[:-1], W[-1].copy(), "none" if layer == last else "relu")
        for layer, W in enumerate(parameters)
    ]

    def call() -> torch.Tensor:
        with torch.inference_mode():
            h = tx
            for linear in layers:
                h = linear(h)
            return h.argmax(1)

    return call


def _linear(samples: int, W: Array, b: Array, then: str) -> Callable[[Any], Any]:
    weight = torch.from_numpy(np.ascontiguousarray(W.T))
    weight = torch.ops.mkldnn._reorder_linear_weight(weight, samples)
    bias, pointwise = torch.from_numpy(b), torch.ops.mkldnn._linear_pointwise

    def call(x: torch.Tensor) -> torch.Tensor:
        return pointwise(x, weight, bias, then, [], "")

    return call

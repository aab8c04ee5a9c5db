"""PyTorch through torch.compile: needs a C++ compiler on the machine."""

import numpy as np
import torch

from . import Array, Call, batches, one_hot_rows, split


def layer(x: Array, W: Array, b: Array) -> Call:
    tensors = [torch.from_numpy(array) for array in (x, W, b)]
    compiled = torch.compile(lambda x, W, b: torch.relu(torch.addmm(b, x, W)), dynamic=False)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return compiled(*tensors)

    return call


def predict(x: Array, parameters: list[Array]) -> Call:
    tx = torch.from_numpy(x)
    layers = [
        (torch.from_numpy(np.ascontiguousarray(W[:-1].T)), torch.from_numpy(W[-1].copy()))
        for W in parameters
    ]

    @torch.compile(dynamic=False)
    def classes(h: torch.Tensor) -> torch.Tensor:
        for W, b in layers[:-1]:
            h = torch.relu(torch.nn.functional.linear(h, W, b))
        return torch.nn.functional.linear(h, *layers[-1]).argmax(1)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return classes(tx)

    return call


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    layers = [(torch.from_numpy(W), torch.from_numpy(b)) for W, b in split(parameters)]
    label = torch.from_numpy(one_hot_rows(y, parameters[-1].shape[1], x.dtype))
    tx = torch.from_numpy(x)
    flat = [tensor for pair in layers for tensor in pair]

    @torch.compile(dynamic=False)
    def step(x: torch.Tensor, label: torch.Tensor, *flat: torch.Tensor) -> None:
        activations, pairs = [x], list(zip(flat[::2], flat[1::2], strict=True))
        for W, b in pairs[:-1]:
            activations.append(torch.relu(torch.addmm(b, activations[-1], W)))
        W, b = pairs[-1]
        g = torch.softmax(torch.addmm(b, activations[-1], W), 1) - label
        g = g * (learning_rate / len(x))
        for layer in reversed(range(len(pairs))):
            (W, b), grad, h = pairs[layer], g, activations[layer]
            if layer:
                g = torch.mm(grad, W.t()) * (h > 0)
            W.sub_(torch.mm(h.t(), grad))
            b.sub_(grad.sum(0))

    def call() -> list[Array]:
        with torch.inference_mode():
            for batch in batches(len(x), batch_size):
                step(tx[batch], label[batch], *flat)
            return [tensor.numpy() for tensor in flat]

    return call

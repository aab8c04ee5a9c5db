"""PyTorch, operation by operation."""

from collections.abc import Callable

import numpy as np
import torch

from . import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, Array, Call, batches, one_hot_rows, split


def layer(x: Array, W: Array, b: Array) -> Call:
    tx, tW, tb = (torch.from_numpy(array) for array in (x, W, b))
    out = torch.empty(len(x), W.shape[1], dtype=tx.dtype)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            torch.addmm(tb, tx, tW, out=out)
            return torch.relu_(out)

    return call


def matmul(x: Array, W: Array) -> Call:
    tx, tW = torch.from_numpy(x), torch.from_numpy(W)
    out = torch.empty(len(x), W.shape[1], dtype=tx.dtype)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return torch.matmul(tx, tW, out=out)

    return call


def relu(x: Array, grad_y: Array) -> Call:
    tx, tg = torch.from_numpy(x), torch.from_numpy(grad_y)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            return torch.relu(tx), torch.ops.aten.threshold_backward(tg, tx, 0)

    return call


def _activation(forward: Callable, backward: Callable) -> Callable[[Array, Array], Call]:
    def form(x: Array, grad_y: Array) -> Call:
        tx, tg = torch.from_numpy(x), torch.from_numpy(grad_y)

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            with torch.inference_mode():
                y = forward(tx)
                return y, backward(tg, tx, y)

        return call

    return form


tanh = _activation(torch.tanh, lambda g, x, y: torch.ops.aten.tanh_backward(g, y))
logistic = _activation(torch.sigmoid, lambda g, x, y: torch.ops.aten.sigmoid_backward(g, y))
silu = _activation(torch.nn.functional.silu, lambda g, x, y: torch.ops.aten.silu_backward(g, x))
gelu = _activation(
    lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    lambda g, x, y: torch.ops.aten.gelu_backward(g, x, approximate="tanh"),
)
leaky_relu = _activation(
    torch.nn.functional.leaky_relu,
    lambda g, x, y: torch.ops.aten.leaky_relu_backward(g, x, 0.01, False),
)


def log(x: Array, grad_y: Array) -> Call:
    tx, tg = torch.from_numpy(x), torch.from_numpy(grad_y)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            shifted = tx + 1e-12
            return torch.log(shifted), tg / shifted

    return call


def softmax(x: Array, grad_y: Array) -> Call:
    tx, tg = torch.from_numpy(x), torch.from_numpy(grad_y)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            y = torch.softmax(tx, 1)
            return y, torch.ops.aten._softmax_backward_data(tg, y, 1, y.dtype)

    return call


def log_softmax(x: Array, grad_y: Array) -> Call:
    tx, tg = torch.from_numpy(x), torch.from_numpy(grad_y)

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            log_prob = torch.log_softmax(tx, 1)
            return log_prob, torch.ops.aten._log_softmax_backward_data(
                tg, log_prob, 1, log_prob.dtype
            )

    return call


def predict(x: Array, parameters: list[Array]) -> Call:
    return _forward(x, parameters, lambda z: z.argmax(1))


def predict_proba(x: Array, parameters: list[Array]) -> Call:
    return _forward(x, parameters, lambda z: torch.softmax(z, 1))


def _forward(
    x: Array, parameters: list[Array], head: Callable[[torch.Tensor], torch.Tensor]
) -> Call:
    tx = torch.from_numpy(x)
    layers = [
        (torch.from_numpy(np.ascontiguousarray(W[:-1].T)), torch.from_numpy(W[-1].copy()))
        for W in parameters
    ]
    linear = torch.nn.functional.linear

    def call() -> torch.Tensor:
        with torch.inference_mode():
            h = tx
            for W, b in layers[:-1]:
                h = torch.relu_(linear(h, W, b))
            return head(linear(h, *layers[-1]))

    return call


def sgd(p: Array, g: Array) -> dict[str, Call]:
    return _updates(torch.optim.SGD, p, g)


def momentum(p: Array, g: Array) -> dict[str, Call]:
    return _updates(torch.optim.SGD, p, g, momentum=MOMENTUM)


def nesterov(p: Array, g: Array) -> dict[str, Call]:
    return _updates(torch.optim.SGD, p, g, momentum=MOMENTUM, nesterov=True)


def adam(p: Array, g: Array) -> dict[str, Call]:
    return _updates(torch.optim.Adam, p, g)


def adamw(p: Array, g: Array) -> dict[str, Call]:
    return _updates(torch.optim.AdamW, p, g, weight_decay=WEIGHT_DECAY)


def _updates(
    optimizer: type[torch.optim.Optimizer], p: Array, g: Array, **options: float
) -> dict[str, Call]:
    def form(**kind: bool) -> Call:
        parameter = torch.from_numpy(p.copy()).requires_grad_()
        parameter.grad = torch.from_numpy(g.copy())  # nesterov's foreach form adds to it
        update = optimizer([parameter], lr=LEARNING_RATE, **options, **kind)

        def call() -> torch.Tensor:
            update.step()
            return parameter.detach()

        return call

    return {"fused": form(fused=True), "foreach": form(foreach=True)}


def regress(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    """torch.nn, autograd and the fused Adam."""
    model = _sequential(parameters, torch.nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    inputs = torch.from_numpy(x).split(batch_size)
    targets = torch.from_numpy(y[:, np.newaxis]).split(batch_size)
    squared_error = torch.nn.functional.mse_loss

    def call() -> list[Array]:
        for batch, target in zip(inputs, targets, strict=True):
            optimizer.zero_grad(set_to_none=True)
            squared_error(model(batch), target).backward()
            optimizer.step()
        return [p.detach().numpy().T for p in model.parameters()]

    return call


def fit_many(
    x: Array,
    y: Array,
    members: list[list[Array]],
    batch_size: int,
    epochs: int,
    learning_rate: float,
) -> dict[str, Call]:
    """All networks in lockstep, and the fused Adam on their stacked parameters."""
    is_classes, count = y.dtype.kind == "i", len(members)
    inputs = torch.from_numpy(x).split(batch_size)
    targets = torch.from_numpy(y if is_classes else y[:, np.newaxis]).split(batch_size)
    function = torch.nn.functional
    activation = torch.relu if is_classes else torch.tanh
    loss = function.cross_entropy if is_classes else function.mse_loss

    def loss_of(arrays: tuple[torch.Tensor, ...], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        h = x
        for W, b in zip(arrays[:-2:2], arrays[1:-2:2], strict=True):
            h = activation(torch.addmm(b, h, W))
        return loss(torch.addmm(arrays[-1], h, arrays[-2]), y)

    gradients = torch.func.vmap(torch.func.grad(loss_of), in_dims=(0, None, None))

    def by_vmap(arrays: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> None:
        found = gradients(tuple(array.detach() for array in arrays), x, y)
        for array, gradient in zip(arrays, found, strict=True):
            array.grad = gradient

    def by_products(arrays: list[torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> None:
        h = x.expand(count, *x.shape)
        for W, b in zip(arrays[:-2:2], arrays[1:-2:2], strict=True):
            h = activation(torch.baddbmm(b[:, None], h, W))
        h = torch.baddbmm(arrays[-1][:, None], h, arrays[-2]).flatten(0, 1)
        for array in arrays:
            array.grad = None
        (count * loss(h, y.repeat(count, *[1] * (y.ndim - 1)))).backward()

    def form(backward: Callable[..., None]) -> Call:
        networks = [split(member) for member in members]
        arrays = [
            torch.from_numpy(np.stack([network[layer][part] for network in networks]))
            for layer in range(len(members[0]))
            for part in (0, 1)
        ]
        arrays = [array.requires_grad_() for array in arrays]

        def call() -> Callable[[int], list[Array]]:
            optimizer = torch.optim.Adam(arrays, lr=learning_rate, fused=True)
            for _ in range(epochs):
                for batch, target in zip(inputs, targets, strict=True):
                    backward(arrays, batch, target)
                    optimizer.step()
            return lambda number: [array[number].detach().numpy() for array in arrays]

        return call

    return {"vmap": form(by_vmap), "batched products": form(by_products)}


def _sequential(
    parameters: list[Array], activation: type[torch.nn.Module], **options: bool
) -> torch.nn.Sequential:
    layers: list[torch.nn.Module] = []
    for W, b in split(parameters):
        linear = torch.nn.Linear(*W.shape, dtype=torch.from_numpy(W).dtype)
        linear.weight.data = torch.from_numpy(np.ascontiguousarray(W.T))
        linear.bias.data = torch.from_numpy(b)
        layers += [linear, activation(**options)]
    return torch.nn.Sequential(*layers[:-1])


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> dict[str, Call]:
    arguments = x, y, parameters, batch_size, learning_rate
    return {"written out": train_written_out(*arguments), "autograd": train_autograd(*arguments)}


def train_autograd(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    """torch.nn, autograd and the fused optimizer."""
    model = _sequential(parameters, torch.nn.ReLU, inplace=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, fused=True)
    inputs, labels = torch.from_numpy(x).split(batch_size), torch.from_numpy(y).split(batch_size)
    cross_entropy = torch.nn.functional.cross_entropy

    def call() -> list[Array]:
        for batch, label in zip(inputs, labels, strict=True):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(model(batch), label).backward()
            optimizer.step()
        return [p.detach().numpy().T for p in model.parameters()]

    return call


def train_written_out(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    """The gradients written out: no graph, products into memory that is there already."""
    layers = [(torch.from_numpy(W), torch.from_numpy(b)) for W, b in split(parameters)]
    label = torch.from_numpy(one_hot_rows(y, parameters[-1].shape[1], x.dtype))
    tx, rows = torch.from_numpy(x), min(batch_size, len(x))
    hidden = [torch.empty(rows, W.shape[1], dtype=tx.dtype) for W, _ in layers]
    grads = [torch.empty_like(h) for h in hidden]
    grad_W = [torch.empty_like(W) for W, _ in layers]
    ones = torch.ones(rows, dtype=tx.dtype)
    gate = torch.ops.aten.threshold_backward.grad_input

    def step(batch: slice) -> None:
        count = batch.stop - batch.start
        h, activations = tx[batch], [tx[batch]]
        for (W, b), out in zip(layers, hidden, strict=True):
            h = torch.addmm(b, h, W, out=out[:count])
            if W is not layers[-1][0]:
                torch.relu_(h)
            activations.append(h)
        g = torch.softmax(h, 1, out=grads[-1][:count])
        g.sub_(label[batch])
        for layer in reversed(range(len(layers))):
            (W, b), grad = layers[layer], g
            if layer:
                g = torch.mm(grad, W.t(), out=grads[layer - 1][:count])
                gate(g, activations[layer], 0, grad_input=g)
            rate = -learning_rate / count
            torch.mm(activations[layer].t(), grad, out=grad_W[layer])
            W.add_(grad_W[layer], alpha=rate)
            b.addmv_(grad.t(), ones[:count], alpha=rate)

    def call() -> list[Array]:
        with torch.inference_mode():
            for batch in batches(len(x), batch_size):
                step(batch)
            return [tensor.numpy() for pair in layers for tensor in pair]

    return call

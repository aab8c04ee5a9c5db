"""NumPy at its best: every result in memory that is there already, operations in place."""

from collections.abc import Callable

import numpy as np

from . import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, Array, Call, batches, one_hot_rows, split


def layer(x: Array, W: Array, b: Array) -> Call:
    out = np.empty((len(x), W.shape[1]), x.dtype)

    def call() -> Array:
        np.matmul(x, W, out=out)
        np.add(out, b, out=out)
        return np.maximum(out, 0, out=out)

    return call


def matmul(x: Array, W: Array) -> Call:
    out = np.empty((len(x), W.shape[1]), x.dtype)
    return lambda: np.matmul(x, W, out=out)


def relu(x: Array, grad_y: Array) -> Call:
    y, grad_x, mask = np.empty_like(x), np.empty_like(x), np.empty(x.shape, bool)

    def call() -> tuple[Array, Array]:
        np.maximum(x, 0, out=y)
        np.greater(x, 0, out=mask)
        return y, np.multiply(grad_y, mask, out=grad_x)

    return call


def log_softmax(x: Array, grad_y: Array) -> Call:
    log_prob, p, grad_x = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    ones = np.ones((x.shape[1], 1), x.dtype)

    def call() -> tuple[Array, Array]:
        np.subtract(x, x.max(axis=1, keepdims=True), out=log_prob)
        np.exp(log_prob, out=p)
        total = p @ ones
        np.divide(p, total, out=p)
        np.subtract(log_prob, np.log(total), out=log_prob)
        np.multiply(p, grad_y @ ones, out=grad_x)
        return log_prob, np.subtract(grad_y, grad_x, out=grad_x)

    return call


def predict(x: Array, parameters: list[Array]) -> Call:
    return _forward(x, parameters, lambda z: np.argmax(z, axis=1))


def predict_proba(x: Array, parameters: list[Array]) -> Call:
    def softmax(z: Array) -> Array:
        z -= z.max(axis=1, keepdims=True)
        np.exp(z, out=z)
        z /= z.sum(axis=1, keepdims=True)
        return z

    return _forward(x, parameters, softmax)


def _forward(x: Array, parameters: list[Array], head: Callable[[Array], Array]) -> Call:
    layers = split(parameters)

    def call() -> Array:
        h = x
        for W, b in layers[:-1]:
            h = h @ W
            h += b
            np.maximum(h, 0, out=h)
        W, b = layers[-1]
        return head(h @ W + b)

    return call


def sgd(p: Array, g: Array) -> Call:
    p, step = p.copy(), np.empty_like(p)

    def call() -> Array:
        np.multiply(g, LEARNING_RATE, out=step)
        return np.subtract(p, step, out=p)

    return call


def momentum(p: Array, g: Array) -> Call:
    p, velocity, step = p.copy(), np.zeros_like(p), np.empty_like(p)

    def call() -> Array:
        np.multiply(velocity, MOMENTUM, out=velocity)
        np.add(velocity, g, out=velocity)
        np.multiply(velocity, LEARNING_RATE, out=step)
        return np.subtract(p, step, out=p)

    return call


def nesterov(p: Array, g: Array) -> Call:
    p, velocity, step = p.copy(), np.zeros_like(p), np.empty_like(p)

    def call() -> Array:
        np.multiply(velocity, MOMENTUM, out=velocity)
        np.add(velocity, g, out=velocity)
        np.multiply(velocity, MOMENTUM, out=step)
        np.add(step, g, out=step)
        np.multiply(step, LEARNING_RATE, out=step)
        return np.subtract(p, step, out=p)

    return call


def adam(p: Array, g: Array) -> Call:
    p = p.copy()
    return _adam_of(p, g, np.zeros_like(p), np.zeros_like(p), LEARNING_RATE)


def adamw(p: Array, g: Array) -> Call:
    p, keep = p.copy(), 1 - LEARNING_RATE * WEIGHT_DECAY
    return _adam_of(p, g, np.zeros_like(p), np.zeros_like(p), LEARNING_RATE, keep)


def _adam_of(
    p: Array, g: Array, m: Array, v: Array, learning_rate: float, keep: float = 1
) -> Call:
    work, step = np.empty_like(p), 0
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8

    def call() -> Array:
        nonlocal step
        step += 1
        np.multiply(m, beta1, out=m)
        np.multiply(g, 1 - beta1, out=work)
        np.add(m, work, out=m)
        np.multiply(v, beta2, out=v)
        np.multiply(g, g, out=work)
        np.multiply(work, 1 - beta2, out=work)
        np.add(v, work, out=v)
        np.sqrt(v, out=work)
        np.divide(work, (1 - beta2**step) ** 0.5, out=work)
        np.add(work, epsilon, out=work)
        np.divide(m, work, out=work)
        np.multiply(work, learning_rate / (1 - beta1**step), out=work)
        if keep != 1:
            np.multiply(p, keep, out=p)
        return np.subtract(p, work, out=p)

    return call


def regress(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    # All parameters in one array, so that Adam is a dozen calls a step.
    sizes = [part.shape for pair in split(parameters) for part in pair]
    flat = np.concatenate([part.ravel() for pair in split(parameters) for part in pair])
    gradient, m, v = np.empty_like(flat), np.zeros_like(flat), np.zeros_like(flat)
    views = [_views(array, sizes) for array in (flat, gradient)]
    layers, grads = [list(zip(parts[::2], parts[1::2], strict=True)) for parts in views]
    update = _adam_of(flat, gradient, m, v, learning_rate)

    def step(batch: slice) -> None:
        h, inputs, count = x[batch], [], batch.stop - batch.start
        for W, b in layers:
            inputs.append(h)
            h = h @ W
            h += b
            if W is not layers[-1][0]:
                np.tanh(h, out=h)
        g = (2 / count) * (h - y[batch, np.newaxis])
        for layer in reversed(range(len(layers))):
            np.matmul(inputs[layer].T, g, out=grads[layer][0])
            np.sum(g, axis=0, out=grads[layer][1])
            if layer:
                g = g @ layers[layer][0].T
                slope = inputs[layer] * inputs[layer]
                np.subtract(1, slope, out=slope)
                g *= slope
        update()

    def call() -> list[Array]:
        for batch in batches(len(x), batch_size):
            step(batch)
        return [array for pair in layers for array in pair]

    return call


def _views(flat: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    """Return consecutive views of these shapes."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    return [
        flat[end - int(np.prod(shape)) : end].reshape(shape)
        for shape, end in zip(shapes, ends, strict=True)
    ]


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    layers = split(parameters)
    label = one_hot_rows(y, parameters[-1].shape[1], x.dtype)
    rows = min(batch_size, len(x))
    hidden = [np.empty((rows, W.shape[1]), x.dtype) for W, _ in layers]
    grads = [np.empty_like(h) for h in hidden]
    masks = [np.empty(h.shape, bool) for h in hidden]
    grad_W = [np.empty_like(W) for W, _ in layers]
    ones = np.ones(rows, x.dtype)

    def step(batch: slice) -> None:
        h, count = x[batch], batch.stop - batch.start
        inputs = []
        for (W, b), out, mask in zip(layers, hidden, masks, strict=True):
            inputs.append(h)
            h = np.matmul(h, W, out=out[:count])
            np.add(h, b, out=h)
            if W is not layers[-1][0]:
                np.greater(h, 0, out=mask[:count])
                np.maximum(h, 0, out=h)
        np.subtract(h, h.max(axis=1, keepdims=True), out=h)
        np.exp(h, out=h)
        np.divide(h, h.sum(axis=1, keepdims=True), out=h)
        np.subtract(h, label[batch], out=h)
        # With the learning rate in it, each gradient is the step itself.
        g = np.multiply(h, learning_rate / count, out=h)
        for layer in reversed(range(len(layers))):
            W, b = layers[layer]
            np.matmul(inputs[layer].T, g, out=grad_W[layer])
            np.subtract(b, ones[:count] @ g, out=b)
            if layer:
                g = np.matmul(g, W.T, out=grads[layer - 1][:count])
                np.multiply(g, masks[layer - 1][:count], out=g)
            np.subtract(W, grad_W[layer], out=W)

    def call() -> list[Array]:
        for batch in batches(len(x), batch_size):
            step(batch)
        return [array for pair in layers for array in pair]

    return call

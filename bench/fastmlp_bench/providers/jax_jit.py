"""JAX: everything in jit, arrays on the device, what is overwritten donated."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..environment import threads as thread_count
from . import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, Array, Call, batches, one_hot_rows, split

jax.config.update("jax_enable_x64", True)

Pairs = list[tuple[jax.Array, jax.Array]]


def _compiled(function: Any, *arrays: Array) -> Call:
    placed = [jax.device_put(array) for array in arrays]
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(*placed))


def layer(x: Array, W: Array, b: Array) -> Call:
    return _compiled(lambda x, W, b: jnp.maximum(x @ W + b, 0), x, W, b)


def matmul(x: Array, W: Array) -> Call:
    return _compiled(lambda x, W: x @ W, x, W)


def relu(x: Array, grad_y: Array) -> Call:
    return _compiled(lambda x, g: (jnp.maximum(x, 0), jnp.where(x > 0, g, 0)), x, grad_y)


def log(x: Array, grad_y: Array) -> Call:
    return _compiled(lambda x, g: (jnp.log(x + 1e-12), g / (x + 1e-12)), x, grad_y)


def softmax(x: Array, grad_y: Array) -> Call:
    return _compiled(partial(_forward_and_backward, partial(jax.nn.softmax, axis=1)), x, grad_y)


def log_softmax(x: Array, grad_y: Array) -> Call:
    return _compiled(partial(_forward_and_backward, partial(jax.nn.log_softmax, axis=1)), x, grad_y)


def _forward_and_backward(function: Any, x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    y, backward = jax.vjp(function, x)
    return y, backward(g)[0]


def predict(x: Array, parameters: list[Array]) -> Call:
    return _forward(x, parameters, partial(jnp.argmax, axis=1))


def predict_proba(x: Array, parameters: list[Array]) -> Call:
    return _forward(x, parameters, partial(jax.nn.softmax, axis=1))


def _forward(x: Array, parameters: list[Array], head: Any) -> Call:
    jx = jax.device_put(x)
    layers = [(jax.device_put(W[:-1]), jax.device_put(W[-1])) for W in parameters]
    compiled = jax.jit(lambda x, layers: head(_logits(layers, x)))
    return lambda: compiled(jx, layers).block_until_ready()


def _logits(layers: Pairs, h: jax.Array) -> jax.Array:
    for W, b in layers[:-1]:
        h = jnp.maximum(h @ W + b, 0)
    W, b = layers[-1]
    return h @ W + b


def sgd(p: Array, g: Array) -> Call:
    return _update(lambda p, g: (p - LEARNING_RATE * g,), g, (p,))


def momentum(p: Array, g: Array) -> Call:
    def update(p: jax.Array, velocity: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        velocity = MOMENTUM * velocity + g
        return p - LEARNING_RATE * velocity, velocity

    return _update(update, g, (p, np.zeros_like(p)))


def nesterov(p: Array, g: Array) -> Call:
    def update(p: jax.Array, velocity: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        velocity = MOMENTUM * velocity + g
        return p - LEARNING_RATE * (g + MOMENTUM * velocity), velocity

    return _update(update, g, (p, np.zeros_like(p)))


def adam(p: Array, g: Array) -> Call:
    return _adam(p, g, 1)


def adamw(p: Array, g: Array) -> Call:
    return _adam(p, g, 1 - LEARNING_RATE * WEIGHT_DECAY)


def _adam(p: Array, g: Array, keep: float) -> Call:
    def update(
        p: jax.Array, m: jax.Array, v: jax.Array, step: jax.Array, g: jax.Array
    ) -> tuple[jax.Array, ...]:
        step = step + 1
        m = 0.9 * m + (1 - 0.9) * g
        v = 0.999 * v + (1 - 0.999) * g * g
        rate = (LEARNING_RATE / (1 - 0.9**step)).astype(p.dtype)
        corrected = jnp.sqrt(1 - 0.999**step).astype(p.dtype)
        return keep * p - rate * m / (jnp.sqrt(v) / corrected + 1e-8), m, v, step

    return _update(update, g, (p, np.zeros_like(p), np.zeros_like(p), np.float64(0)))


def _update(update: Any, g: Array, state: tuple[Any, ...]) -> Call:
    donated = tuple(range(len(state)))
    compiled = jax.jit(update, donate_argnums=donated)
    now = [tuple(jnp.array(array, copy=True) for array in state)]
    jg = jax.device_put(g)

    def call() -> jax.Array:
        now[0] = jax.block_until_ready(compiled(*now[0], jg))
        return now[0][0]

    return call


def train(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> dict[str, Call]:
    whole = len(x) // batch_size
    label = one_hot_rows(y, parameters[-1].shape[1], x.dtype)

    def step(layers: Pairs, x: jax.Array, label: jax.Array) -> Pairs:
        grads = jax.grad(_cross_entropy)(layers, x, label)
        return jax.tree.map(lambda p, g: p - learning_rate * g, layers, grads)

    def start() -> list[Pairs]:
        return [[(jnp.array(W, copy=True), jnp.array(b, copy=True)) for W, b in split(parameters)]]

    def numpy(layers: Pairs) -> list[Array]:
        return [np.asarray(array) for pair in jax.block_until_ready(layers) for array in pair]

    def steps() -> Call:
        """One compiled call for each batch."""
        layers, compiled = start(), jax.jit(step, donate_argnums=0)
        data = [
            (jax.device_put(x[batch]), jax.device_put(label[batch]))
            for batch in batches(len(x), batch_size)
        ]

        def call() -> list[Array]:
            for batch in data:
                layers[0] = compiled(layers[0], *batch)
            return numpy(layers[0])

        return call

    def scan() -> Call:
        """One compiled call for the whole epoch."""
        layers = start()
        runs, rest = _runs((x, label), batch_size)

        @partial(jax.jit, donate_argnums=0)
        def epoch(layers: Pairs, runs: Any, rest: Any) -> Pairs:
            layers, _ = jax.lax.scan(lambda now, batch: (step(now, *batch), None), layers, runs)
            return step(layers, *rest) if len(rest[0]) else layers

        def call() -> list[Array]:
            layers[0] = epoch(layers[0], runs, rest)
            return numpy(layers[0])

        return call

    return {"steps": steps(), "scan": scan()} if whole > 1 else {"steps": steps()}


def regress(
    x: Array, y: Array, parameters: list[Array], batch_size: int, learning_rate: float
) -> Call:
    """One compiled call for the whole epoch."""
    runs, rest = _runs((x, y[:, np.newaxis]), batch_size)
    epoch = jax.jit(_adam_epoch(_squared_error, learning_rate, x.dtype), donate_argnums=0)
    layers = [(jnp.array(W, copy=True), jnp.array(b, copy=True)) for W, b in split(parameters)]
    now = [_adam_start(layers)]

    def call() -> list[Array]:
        now[0] = epoch(now[0], runs, rest)
        return [np.asarray(a) for pair in jax.block_until_ready(now[0])[0] for a in pair]

    return call


def fit_many(
    x: Array,
    y: Array,
    members: list[list[Array]],
    batch_size: int,
    epochs: int,
    learning_rate: float,
) -> dict[str, Call]:
    """All epochs in one compiled call: of all networks in lockstep, or on each thread of its share.

    A thread takes one network after the other there, or some in lockstep. XLA itself left products
    as small as these to one thread.
    """
    is_classes = y.dtype.kind == "i"
    label = one_hot_rows(y, members[0][-1].shape[1], x.dtype) if is_classes else y[:, np.newaxis]
    runs, rest = _runs((x, label), batch_size)
    loss = _cross_entropy if is_classes else _squared_error
    epoch = _adam_epoch(loss, learning_rate, x.dtype)

    def train(layers: Pairs) -> Pairs:
        state = _adam_start(layers)
        return jax.lax.scan(lambda now, _: (epoch(now, runs, rest), None), state, length=epochs)[0][
            0
        ]

    networks = [split(member) for member in members]

    def form(function: Any, threads: int) -> Call:
        each = -(-len(networks) // threads)
        shares = [networks[first : first + each] for first in range(0, len(networks), each)]
        now = [
            [
                tuple(jnp.array(np.stack([one[layer][part] for one in share])) for part in (0, 1))
                for layer in range(len(members[0]))
            ]
            for share in shares
        ]
        compiled, pool = jax.jit(function, donate_argnums=0), ThreadPoolExecutor(len(shares))

        def call() -> Any:
            now[:] = pool.map(lambda layers: jax.block_until_ready(compiled(layers)), now)
            return lambda number: [
                np.asarray(part[number % each]) for pair in now[number // each] for part in pair
            ]

        return call

    one, some = partial(jax.lax.map, train), partial(jax.lax.map, train, batch_size=64)
    return {
        "vmap": form(jax.vmap(train), 1),
        "map on threads": form(one, thread_count()),
        "map of vmaps on threads": form(some, thread_count()),
    }


def _runs(arrays: tuple[Array, ...], batch_size: int) -> tuple[Any, Any]:
    """Return the whole batches (batches, batch_size, ...) and the rest of each array."""
    whole = len(arrays[0]) // batch_size
    end = whole * batch_size
    runs = [jax.device_put(array[:end].reshape(whole, batch_size, -1)) for array in arrays]
    return runs, [jax.device_put(array[end:]) for array in arrays]


def _cross_entropy(layers: Pairs, x: jax.Array, label: jax.Array) -> jax.Array:
    return -jnp.sum(jax.nn.log_softmax(_logits(layers, x), axis=1) * label) / len(x)


def _squared_error(layers: Pairs, x: jax.Array, y: jax.Array) -> jax.Array:
    h = x
    for W, b in layers[:-1]:
        h = jnp.tanh(h @ W + b)
    W, b = layers[-1]
    return jnp.mean((h @ W + b - y) ** 2)


def _adam_start(layers: Pairs) -> Any:
    zeros = [jax.tree.map(jnp.zeros_like, layers) for _ in range(2)]
    return (layers, *zeros, jnp.float64(0))


def _adam_epoch(loss: Any, learning_rate: float, dtype: Any) -> Any:
    """Return epoch(state, runs, rest): Adam on the loss of each batch."""

    def step(state: Any, batch: Any) -> tuple[Any, None]:
        layers, m, v, t = state
        grads, t = jax.grad(loss)(layers, *batch), t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + (1 - 0.9) * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + (1 - 0.999) * g * g, v, grads)
        rate = (learning_rate / (1 - 0.9**t)).astype(dtype)
        corrected = jnp.sqrt(1 - 0.999**t).astype(dtype)
        layers = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) / corrected + 1e-8), layers, m, v
        )
        return (layers, m, v, t), None

    def epoch(state: Any, runs: Any, rest: Any) -> Any:
        state, _ = jax.lax.scan(step, state, runs)
        return step(state, rest)[0] if len(rest[0]) else state

    return epoch

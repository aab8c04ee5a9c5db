"""What is drawn from the published stream: initial weights, and orders of samples."""

import numpy as np

from ..checks import Array, shape_error

Rng = int | np.random.Generator | np.random.BitGenerator | None


def bit_generator(rng: Rng) -> np.random.PCG64:
    """Return the PCG64 stream of `rng`: None (fresh entropy), a seed, or NumPy's own objects."""
    if isinstance(rng, np.random.Generator):
        rng = rng.bit_generator
    if isinstance(rng, np.random.PCG64):
        return rng
    if rng is None or (hasattr(rng, "__index__") and not isinstance(rng, bool)):
        if rng is not None and rng.__index__() < 0:
            raise shape_error("rng", "a seed of 0 or more", rng, "pass rng=0")
        return np.random.PCG64(None if rng is None else rng.__index__())
    raise TypeError(
        f"rng: expected None, an integer seed, or a PCG64 generator, got {type(rng).__name__}; "
        "pass np.random.default_rng(0)"
    )


def draw_normal(parameters: list[Array], generator: np.random.PCG64) -> None:
    """Fill the arrays with normal(0, 1) of NumPy's Generator, as the notebook does."""
    normal = np.random.Generator(generator).normal
    for W in parameters:
        W[...] = normal(size=W.shape)


def uniform(generator: np.random.PCG64, shape: tuple[int, int], bound: float) -> Array:
    """Return float64 of `shape` in [-bound, bound): (2u - 1) * bound, u = (raw >> 11) * 2^-53."""
    raw = np.asarray(generator.random_raw(shape[0] * shape[1])).reshape(shape)
    u = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.asarray((2 * u - 1) * bound)


def shuffled(generator: np.random.PCG64, count: int) -> Array:
    """Return 0 .. count - 1 in a random order: the stable argsort of `count` raw draws."""
    return stable_order(np.asarray(generator.random_raw(count)))


def stable_order(draws: Array) -> Array:
    """Return np.argsort(draws, kind="stable")."""
    # Without equal draws every order is stable; for 60,000, 0.6 ms instead of 3.7.
    order = np.argsort(draws)
    in_order = draws[order]
    if (in_order[1:] == in_order[:-1]).any():
        return np.argsort(draws, kind="stable")
    return order

"""Learning rates for each step, as `fit` takes them: constant, step, cosine and one_cycle.

Each returns a float64 array (steps,). The formulas are PyTorch's; cosines are computed by written
operations (docs/arithmetic.md), so the rates have the same bits on every machine.
"""

import math

import numpy as np

from .checks import Array, integer, positive, shape_error
from .mends import usual
from .operations.update_checks import real_number

__all__ = ["constant", "cosine", "count_steps", "one_cycle", "step"]

_LAST_TERM = 16  # sin's series up to x^17: what is left is below 2^-54 for x up to pi / 4


def count_steps(samples: int, epochs: int, batch_size: int) -> int:
    """Return how many steps `fit` makes: a batch each, of which an epoch's last may be smaller."""
    each = -(-positive("samples", samples) // positive("batch_size", batch_size))
    return positive("epochs", epochs) * each


def constant(learning_rate: float, steps: int) -> Array:
    """Return the same rate for each step."""
    return np.full(positive("steps", steps), _rate(learning_rate))


def step(learning_rate: float, steps: int, step_size: int, gamma: float = 0.1) -> Array:
    """Return rates that are multiplied by gamma after every `step_size` steps.

    As PyTorch's StepLR: learning_rate * gamma^(t // step_size), the product from left to right.
    """
    steps, each = positive("steps", steps), positive("step_size", step_size)
    factors = np.full(-(-steps // each), _number("gamma", gamma))
    factors[0] = _rate(learning_rate)
    return np.repeat(np.multiply.accumulate(factors), each)[:steps]


def cosine(
    learning_rate: float, steps: int, warmup: int = 0, final_learning_rate: float = 0.0
) -> Array:
    """Return rates that fall as half a cosine, after `warmup` steps that rise in a line.

    Step t = 0, 1, ... of the warm-up has learning_rate * ((t + 1) / warmup), as PyTorch's LinearLR
    from 1 / warmup on; step t of the T = steps - warmup behind it, as its CosineAnnealingLR,
    final + (learning_rate - final) * (1 + cos(pi * t / T)) / 2. The final rate would be the next.
    """
    rate, steps = _rate(learning_rate), positive("steps", steps)
    final = _number("final_learning_rate", final_learning_rate)
    rising = integer("warmup", warmup, "pass warmup=0")
    if not 0 <= rising < steps:
        raise shape_error("warmup", f"0 to {steps - 1} steps", rising, "pass warmup=0")
    falling = _half_cosine(np.arange(steps - rising) / (steps - rising))
    warm = rate * (np.arange(1, rising + 1) / max(rising, 1))
    return np.concatenate([warm, final + (rate - final) * falling])


def one_cycle(
    learning_rate: float,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Array:
    """Return rates that rise to learning_rate and fall far below the first, each half a cosine.

    As PyTorch's OneCycleLR, learning_rate its max_lr: the first is learning_rate / div_factor, the
    last the first / final_div_factor, the largest that of step pct_start * steps - 1. L. Smith and
    N. Topin, "Super-Convergence", 2017.
    """
    rate, steps = _rate(learning_rate), positive("steps", steps)
    share = real_number("pct_start", pct_start)
    if not 0 <= share <= 1:
        raise shape_error("pct_start", "0 to 1", share, usual("pct_start"))
    first = rate / _divisor("div_factor", div_factor)
    last = first / _divisor("final_div_factor", final_div_factor)
    # Without a step in which to rise or fall, the largest rate is the first or the last one.
    t, peak, end = np.arange(steps), max(share * steps - 1, 0.0), steps - 1
    rising = first + (rate - first) * _half_cosine(1 - np.minimum(t / (peak or 1.0), 1.0))
    u = np.maximum(t - peak, 0.0) / (end - peak or 1.0)
    falling = last + (rate - last) * _half_cosine(np.minimum(u, 1.0))
    return np.where(t < peak, rising, falling)


def _half_cosine(u: Array) -> Array:
    """Return (1 + cos(pi * u)) / 2 for 0 <= u <= 1: 1 at 0, 0 at 1, by IEEE's operations alone.

    It is 1 - s^2 up to 1/2, and s^2 behind it, with s = sin(pi / 2 * min(u, 1 - u)) by its series.
    """
    x = (math.pi / 2) * np.minimum(u, 1 - u)
    square, series = x * x, np.ones_like(x)
    for k in range(_LAST_TERM, 0, -2):
        series = 1 - square / (k * (k + 1)) * series
    s = x * series
    return np.asarray(np.where(u <= 0.5, 1 - s * s, s * s))


def _rate(value: object) -> float:
    return _number("learning_rate", value)


def _number(name: str, value: object) -> float:
    """Return a finite number of 0 or more, or raise."""
    number = real_number(name, value)
    if not 0 <= number < math.inf:
        raise shape_error(name, "a finite number of 0 or more", number, usual(name))
    return number


def _divisor(name: str, value: object) -> float:
    number = real_number(name, value)
    if not 0 < number < math.inf:
        raise shape_error(name, "a finite number above 0", number, usual(name))
    return number

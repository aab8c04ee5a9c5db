"""Learning-rate schedules: PyTorch's formulas, the same bits everywhere, and what fit takes."""

import hashlib
import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from fastmlp_bench.schedules import draw
from helpers import assert_same_bits
from test_fit import SIZES, data

import fastmlp
from fastmlp import reference, schedules


def half_cosine(u):
    return (1 + math.cos(math.pi * u)) / 2


def cosine(rate, steps, warmup, final):
    for t in range(warmup):
        start = 1 / warmup  # LinearLR(start_factor=1 / warmup, total_iters=warmup - 1)
        yield rate * (start + (1 - start) * t / max(warmup - 1, 1))
    for t in range(steps - warmup):
        yield final + (rate - final) * half_cosine(t / (steps - warmup))


def one_cycle(rate, steps, share, div, final_div):
    """OneCycleLR's own two phases, and where one of them has no step, the other."""
    first, peak = rate / div, share * steps - 1
    for t in range(steps):
        if peak > 0 and t <= peak:
            yield rate + (first - rate) * half_cosine(t / peak)
        else:
            u = (t - max(peak, 0)) / max(steps - 1 - max(peak, 0), 1)
            yield first / final_div + (rate - first / final_div) * half_cosine(u)


def test_they_are_pytorchs_formulas():
    rows = [(schedules.constant(0.1, 5), [0.1] * 5)]
    for rate, steps, size, gamma in [(0.1, 20, 6, 0.5), (0.1, 3, 7, 0.1), (3.0, 8, 1, 1.5)]:
        expected = [rate * gamma ** (t // size) for t in range(steps)]
        rows.append((schedules.step(rate, steps, size, gamma), expected))
    for given in [(0.1, 30, 0, 0.0), (0.1, 30, 7, 0.01), (1.0, 2, 1, 0.0), (0.0, 5, 1, 0.5)]:
        rows.append((schedules.cosine(*given), [*cosine(*given)]))
    for share in (0.3, 0.0, 1.0, 0.25):
        for steps in (1, 2, 4, 50):
            given = (0.1, steps, share, 25.0, 1e4)
            rows.append((schedules.one_cycle(*given), [*one_cycle(*given)]))
    for rates, expected in rows:
        assert rates.dtype == np.float64
        assert (rates >= 0).all()
        assert rates.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-17)


def test_the_half_cosine_is_right_to_4_ulp():
    u = np.append(np.linspace(0, 1, 2001), np.nextafter([0, 0.5, 0.5, 1], [1, 0, 1, 0]))
    ours = schedules._half_cosine(u)
    assert ours[[0, 1000, 2000]].tolist() == [1, 0.5000000000000001, 0]
    with mpmath.workprec(200):
        for one, place, ulp in zip(ours, u, np.spacing(ours), strict=True):
            exact = (1 + mpmath.cos(mpmath.pi * mpmath.mpf(place))) / 2
            assert abs(mpmath.mpf(one) - exact) <= 4 * mpmath.mpf(ulp)
    assert all(high >= low for high, low in pairwise(ours[:2001]))


def test_their_bits_are_the_same_on_every_machine():
    rates = [
        schedules.constant(0.1, 7),
        schedules.step(0.1, 100, 7, 0.7),
        schedules.cosine(0.3, 1000, warmup=37, final_learning_rate=1e-5),
        schedules.one_cycle(0.3, 1000),
    ]
    digest = hashlib.sha256(b"".join(one.astype("<f8").tobytes() for one in rates)).hexdigest()
    assert digest == "401fcbc88d2a32dd3cc6184a3558c61332809a892224c85589b34d3f8e100903"


def test_fit_takes_as_many_as_count_steps_says():
    x, labels = data(75)
    for batch_size, steps in ((10, 24), (75, 3), (500, 3), (1, 225)):
        assert schedules.count_steps(75, 3, batch_size) == steps
        rates = schedules.one_cycle(0.1, steps)
        models = [module.MLP(SIZES, rng=0) for module in (fastmlp, reference)]
        for model in models:
            model.fit(x, labels, epochs=3, batch_size=batch_size, learning_rate=rates, rng=0)
        assert_same_bits(models[0].flat_parameters, models[1].flat_parameters)
    assert reference.schedules is fastmlp.schedules


def test_the_picture_can_be_drawn_anew(tmp_path):
    assert b"one_cycle" in draw(tmp_path / "pictures").read_bytes()

"""Relu against NumPy, forward and backward."""

import numpy as np
import pytest

import fastmlp


def _numpy(x, grad_y):
    return np.maximum(x, 0), grad_y * (x > 0)


def _fastmlp(x, grad_y):
    relu = fastmlp.Relu()
    return relu.forward(x), relu.backward(grad_y)


@pytest.mark.parametrize("provider", [_fastmlp, _numpy], ids=["fastmlp", "numpy"])
@pytest.mark.parametrize("samples", [32, 60_000])
def test_relu(benchmark, provider, samples):
    x = np.random.default_rng(0).standard_normal((samples, 100), np.float32)
    benchmark(provider, x, np.ones_like(x))

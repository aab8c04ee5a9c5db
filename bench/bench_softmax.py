"""Softmax against NumPy, forward and backward (whose work grows with the square of the classes)."""

import numpy as np
import pytest

import fastmlp
from fastmlp import notebook


def _numpy(x, grad_y):
    _, y = notebook.exp_and_softmax(x, 1e-12)
    return y, notebook.softmax_backward(y, grad_y)


def _fastmlp(x, grad_y):
    softmax = fastmlp.Softmax()
    return softmax.forward(x), softmax.backward(grad_y)


@pytest.mark.parametrize("provider", [_fastmlp, _numpy], ids=["fastmlp", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(32, 10), (60_000, 10), (128, 1000)], ids=str)
def test_softmax(benchmark, provider, dtype, shape):
    x = np.random.default_rng(0).standard_normal(shape, dtype)
    benchmark(provider, x, np.ones_like(x))

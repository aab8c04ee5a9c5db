"""LogSoftmax against NumPy, forward and backward."""

import numpy as np
import pytest

import fastmlp
from fastmlp import notebook


def _numpy(x, grad_y):
    logp, p = notebook.log_softmax(x)
    return logp, notebook.log_softmax_backward(p, grad_y)


def _fastmlp(x, grad_y):
    log_softmax = fastmlp.LogSoftmax()
    return log_softmax.forward(x), log_softmax.backward(grad_y)


@pytest.mark.parametrize("provider", [_fastmlp, _numpy], ids=["fastmlp", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(32, 10), (60_000, 10), (4096, 1000)], ids=str)
def test_log_softmax(benchmark, provider, dtype, shape):
    x = np.random.default_rng(0).standard_normal(shape, dtype)
    benchmark(provider, x, np.ones_like(x))

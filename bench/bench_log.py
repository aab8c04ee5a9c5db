"""Log against NumPy, forward and backward."""

import numpy as np
import pytest

import fastmlp
from fastmlp import notebook


def _numpy(x, grad_y):
    return notebook.log(x, 1e-12), notebook.log_backward(x, grad_y, 1e-12)


def _fastmlp(x, grad_y):
    log = fastmlp.Log()
    return log.forward(x), log.backward(grad_y)


@pytest.mark.parametrize("provider", [_fastmlp, _numpy], ids=["fastmlp", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("samples", [32, 60_000])
def test_log(benchmark, provider, dtype, samples):
    x = np.random.default_rng(0).random((samples, 10), dtype)
    benchmark(provider, x, np.ones_like(x))

"""exp, log, tanh and logistic over an array that fits in the L2 cache, one thread, beside NumPy."""

import numpy as np
import pytest
from fastmlp_kernels.arithmetic import elementary, sigmoids

KERNELS = {
    "exp": elementary.exp_array,
    "log": elementary.log_array,
    "tanh": sigmoids.tanh_array,
    "logistic": sigmoids.logistic_array,
}
RANGES = {"exp": (-20.0, 0.0), "log": (0.01, 1000.0), "tanh": (-8.0, 8.0), "logistic": (-8.0, 8.0)}


def _fastmlp(name, x, out):
    KERNELS[name][x.dtype](x, out)


def _numpy(name, x, out):
    if name == "logistic":
        np.divide(1, 1 + np.exp(-x), out)
    else:
        getattr(np, name)(x, out)


@pytest.mark.parametrize("provider", [_fastmlp, _numpy], ids=["fastmlp", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", KERNELS)
def test_elementary(benchmark, name, dtype, provider):
    start, stop = RANGES[name]
    x = np.linspace(start, stop, 8192).astype(dtype)
    benchmark(provider, name, x, np.empty_like(x))

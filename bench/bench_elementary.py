"""exp and log over an array that fits in the L2 cache, on one thread, against NumPy."""

import numpy as np
import pytest
from fastmlp_kernels import elementary

KERNELS = {"exp": elementary.exp_array, "log": elementary.log_array}


def _fastmlp(name, x, out):
    KERNELS[name][x.dtype](x, out)


def _numpy(name, x, out):
    getattr(np, name)(x, out)


@pytest.mark.parametrize("provider", [_fastmlp, _numpy], ids=["fastmlp", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", ["exp", "log"])
def test_elementary(benchmark, name, dtype, provider):
    start, stop = {"exp": (-20.0, 0.0), "log": (0.01, 1000.0)}[name]
    x = np.linspace(start, stop, 8192).astype(dtype)
    benchmark(provider, name, x, np.empty_like(x))

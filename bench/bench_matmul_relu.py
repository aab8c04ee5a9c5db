"""MatmulRelu beside the providers: relu(x @ W + b) for small and large batches."""

import numpy as np
import providers
import pytest


@pytest.mark.parametrize("samples", [32, 128, 4096])
@pytest.mark.parametrize("name", providers.LAYER)
def test_matmul_relu(benchmark, name, samples):
    call = providers.make(providers.LAYER, name)
    random = np.random.default_rng(0)
    x = random.random((samples, 784), np.float32)
    W = random.standard_normal((784, 100), np.float32)
    benchmark(call(x, W, random.standard_normal(100, np.float32)))

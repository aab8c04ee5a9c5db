"""Matmul beside the providers: x @ W, and x^T @ grad_y, whose x is read across its rows."""

import numpy as np
import providers
import pytest


@pytest.mark.parametrize("transposed", [False, True], ids=["x @ W", "x^T @ grad_y"])
@pytest.mark.parametrize("name", providers.MATMUL)
def test_matmul(benchmark, name, transposed):
    call = providers.make(providers.MATMUL, name)
    random = np.random.default_rng(0)
    x = random.random((4096, 784), np.float32)
    shape = (4096, 100) if transposed else (784, 100)
    other = random.standard_normal(shape, np.float32)
    benchmark(call(x.T if transposed else x, other))

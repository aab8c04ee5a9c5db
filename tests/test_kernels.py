"""Kernels as other compiled code uses them: from a jitted loop, on one thread, without the GIL."""

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from fastmlp_kernels import matmul_relu, product
from helpers import DTYPES, assert_same_bits, floats

from fastmlp import reference


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_kernel_runs_in_a_jitted_loop_and_in_several_threads_at_once(dtype):
    forward = matmul_relu.forward[np.dtype(dtype)]
    code = product.compiled(np.dtype(dtype))

    @numba.njit(nogil=True)
    def layers(x, weights, biases, code):
        no_gate = np.empty((0, 0), x.dtype)
        for layer in range(weights.shape[0]):
            y = np.empty((x.shape[0], weights.shape[2]), x.dtype)
            forward(x, weights[layer], biases[layer], no_gate, y, True, code, 1)
            x = y
        return x

    weights, biases = floats(1, (3, 40, 40), dtype), floats(2, (3, 40), dtype)
    batches = [floats(seed, (30, 40), dtype) for seed in range(3, 11)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: layers(x, weights, biases, code), batches))
    for x, y in zip(batches, results, strict=True):
        for W, b in zip(weights, biases, strict=True):
            x = reference.MatmulRelu().forward(x, W, b)
        assert_same_bits(y, x)

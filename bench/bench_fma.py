"""The fused multiply-add: the reference on arrays, and the forms that kernels call."""

import numba
import numpy as np
import pytest
from fastmlp_kernels.arithmetic import fma as kernel
from fastmlp_kernels.compiling.cpu import has_fma

from fastmlp.reference import fma as reference

DTYPES = [np.float32, np.float64]
FORMS = [kernel.fma_software] + [kernel.fma_hardware] * has_fma()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [64, 784])
def test_reference_step_of_a_product(benchmark, samples, dtype):
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal(s).astype(dtype) for s in [(samples, 1), 128, (samples, 128)])
    benchmark(reference.fma, a, b, c)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scalar_fma", FORMS, ids=lambda form: form.__name__)
def test_kernel_over_10_000(benchmark, scalar_fma, dtype):
    @numba.njit
    def loop(a, b, c, result):
        for i in range(a.size):
            result[i] = scalar_fma(a[i], b[i], c[i])

    a, b, c = np.random.default_rng(0).standard_normal((3, 10_000)).astype(dtype)
    benchmark(loop, a, b, c, np.empty_like(c))

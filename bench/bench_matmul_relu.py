"""MatmulRelu with every provider: relu(x @ W + b) for small and large batches."""

import pytest
from fastmlp_bench import cases

CASES = [cases.layer("float32", samples, 784, 100) for samples in (32, 128, 4096)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matmul_relu(run, case):
    run(case)

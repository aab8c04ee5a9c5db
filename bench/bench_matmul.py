"""Matmul with every provider: a square, and x^T @ grad_y, whose x is read across its rows."""

import pytest
from fastmlp_bench import cases

CASES = [
    cases.matmul("float32", 1024, 1024, 1024),
    cases.matmul("float32", 4096, 784, 100),
    cases.matmul("float32", 4096, 784, 100, transposed=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matmul(run, case):
    run(case)

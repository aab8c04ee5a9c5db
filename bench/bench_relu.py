"""Relu with every provider, forward and backward."""

import pytest
from fastmlp_bench import cases

CASES = [cases.rowwise("relu", "float32", samples, 100) for samples in (32, 60_000)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_relu(run, case):
    run(case)

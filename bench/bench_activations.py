"""Activations with every provider, forward and backward."""

import pytest
from fastmlp_bench import cases

CASES = [
    cases.rowwise(name, "float32", samples, 100)
    for name in ("tanh", "logistic", "silu", "gelu", "leaky_relu")
    for samples in (32, 60_000)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_activations(run, case):
    run(case)

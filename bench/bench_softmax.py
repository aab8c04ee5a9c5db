"""Softmax with every provider, forward and backward (NumPy's work grows as classes^2)."""

import pytest
from fastmlp_bench import cases

CASES = [
    cases.rowwise("softmax", dtype, *shape)
    for dtype in ("float32", "float64")
    for shape in ((32, 10), (60_000, 10), (128, 1000))
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_softmax(run, case):
    run(case)

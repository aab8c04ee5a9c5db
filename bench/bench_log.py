"""Log with every provider, forward and backward."""

import pytest
from fastmlp_bench import cases

CASES = [
    cases.rowwise("log", dtype, samples, 10)
    for dtype in ("float32", "float64")
    for samples in (32, 60_000)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_log(run, case):
    run(case)

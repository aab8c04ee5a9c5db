"""Each optimizer's update of the parameters of 784-512-256-10 with every provider."""

import pytest
from fastmlp_bench import cases

CASES = [
    cases.update(operation, dtype)
    for operation in cases.UPDATES
    for dtype in ("float32", "float64")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_update(run, case):
    run(case)

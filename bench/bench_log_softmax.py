"""LogSoftmax with every provider, forward and backward."""

import pytest
from fastmlp_bench import cases

CASES = [
    cases.rowwise("log_softmax", dtype, *shape)
    for dtype in ("float32", "float64")
    for shape in ((32, 10), (60_000, 10), (4096, 1000))
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_log_softmax(run, case):
    run(case)

"""Training with every provider: an epoch of 60,000 images."""

import pytest
from fastmlp_bench import cases

CASES = [
    cases.train("float32", 60_000, cases.SMALL, 60_000),
    *(cases.train("float32", 60_000, sizes, 128) for sizes in (cases.SMALL, cases.LARGE)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_train(run, case):
    run(case)

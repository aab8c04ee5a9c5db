"""Inference with every provider: the classes of a batch, and their probabilities."""

import pytest
from fastmlp_bench import cases

CASES = [
    cases.predict("float32", samples, cases.SMALL, operation)
    for operation in ("predict", "predict_proba")
    for samples in (1, 32, 10_000)
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_predict(run, case):
    run(case)

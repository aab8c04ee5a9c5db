"""The committed digests hold here, at every vector width, threads 1 and 2, and every layer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from digests import digests
from fastmlp_kernels.cpu import WIDTHS, vector_bits
from helpers import with_threads

HERE = Path(__file__).parent
COMMITTED = json.loads((HERE / "digests.json").read_text())


@pytest.mark.parametrize("num_threads", [1, 2])
def test_this_process(num_threads):
    with with_threads(num_threads):
        assert digests() == COMMITTED


@pytest.mark.parametrize("width", [width for width in WIDTHS if width < vector_bits()])
def test_narrower_vectors_and_no_fma(width):
    environment = os.environ | {"FASTMLP_VECTOR_BITS": str(width)}
    assert _digests_of_a_process(environment) == COMMITTED


def _digests_of_a_process(environment):
    paths = [str(HERE.parent), str(HERE.parent / "kernels")]
    environment = environment | {"PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run(
        [sys.executable, HERE / "digests.py"], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)

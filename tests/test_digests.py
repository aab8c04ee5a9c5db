"""The committed digests hold here: any vector width, threads 1 and 2, a cold and a warm cache."""

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


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    script = "import fastmlp, numpy; print(fastmlp.Matmul().forward(numpy.eye(3), numpy.eye(3)))"
    first = _run(["-c", script], environment)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    second = _run(["-c", script], environment)
    assert first.stdout == second.stdout
    assert kept
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}


def test_a_damaged_cache_is_compiled_again(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    script = "import fastmlp, numpy; print(fastmlp.Relu().forward(numpy.eye(3)))"
    first = _run(["-c", script], environment)
    for damaged in ("*.nbi", "*.nbc"):
        for path in tmp_path.rglob(damaged):
            path.write_bytes(path.read_bytes()[:40])
        again = _run(["-c", script], environment)
        assert again.stdout == first.stdout
        assert "could not be read" in again.stderr
        healed = _run(["-c", script], environment)
        assert healed.stdout == first.stdout
        assert "could not be read" not in healed.stderr


def _digests_of_a_process(environment):
    return json.loads(_run([str(HERE / "digests.py")], environment).stdout)


def _run(arguments, environment):
    paths = [str(HERE.parent), str(HERE.parent / "kernels")]
    run = subprocess.run(
        [sys.executable, *arguments],
        env=environment | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run

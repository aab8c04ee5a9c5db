"""The committed digests hold in every cell: vectors, threads, their layer, layouts, processes.

tests/digests.py varies the threads and the layouts in each process that is started here.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest
from digests import cells, digests
from fastmlp_kernels.compiling.cpu import WIDTHS, vector_bits

HERE = Path(__file__).parent
COMMITTED = json.loads((HERE / "digests.json").read_text())
LAYERS = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}
# NumPy's BLAS takes other kernels, and so gives other bits: none of ours may come from it.
BLAS = {"omp": "Prescott", "tbb": "Sandybridge", "workqueue": "Haswell"}


def importable_layers():
    """Numba's threading layers that have what they need on this machine."""
    for layer, module in LAYERS.items():
        try:
            import_module(f"numba.np.ufunc.{module}")
        except ImportError:
            continue
        yield layer


def differing(found):
    """The cells and operations that don't have the committed digest."""
    return [
        (cell, name)
        for cell, digest_of in found.items()
        for name, digest in COMMITTED.items()
        if digest_of.get(name) != digest
    ]


def test_a_wrong_cell_is_named():
    wrong = COMMITTED | {"relu float32": "another"}
    assert differing({"right": COMMITTED, "wrong": wrong}) == [("wrong", "relu float32")]


# Where the bench's libraries are installed, its tests load JAX, which warns of any later fork.
@pytest.mark.filterwarnings("ignore:os.fork.* was called:RuntimeWarning")
def test_each_number_of_threads_each_layout_and_a_forked_child():
    found = cells()
    assert len(found) >= 9
    assert differing(found) == []


@pytest.mark.parametrize("layer", list(importable_layers()))
def test_each_threading_layer(layer):
    variables = {"NUMBA_THREADING_LAYER": layer, "OPENBLAS_CORETYPE": BLAS[layer]}
    found = _digests_of_a_process("cells", **variables)
    assert f"2 threads of {layer}" in found
    assert differing(found) == []


NARROWER = [width for width in WIDTHS if width < vector_bits()]


@pytest.fixture(scope="module", autouse=True)
def cells_of_width(tmp_path_factory):
    """Processes that compute the cells at each narrower width, which each compile for a minute.

    They start together with the first test here, and use the cores that the other tests don't.
    """
    folder = tmp_path_factory.mktemp("digests")
    started = {}
    for width in NARROWER:
        environment = _with_paths(os.environ | {"FASTMLP_VECTOR_BITS": str(width)})
        with (folder / f"{width}.json").open("w") as output:
            command = [sys.executable, str(HERE / "digests.py"), "cells"]
            started[width] = subprocess.Popen(command, env=environment, stdout=output)
    yield lambda width: (started[width].wait(), (folder / f"{width}.json").read_text())
    for process in started.values():
        process.kill()
        process.wait()


def test_a_spawned_child():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert differing({"spawned": pool.submit(digests).result()}) == []


def test_without_numbas_compiler_the_reference_stands_and_the_kernels_say_why_not():
    """The kernels are LLVM code made in Python: there is no Python code behind them to run."""
    found = _digests_of_a_process("reference", NUMBA_DISABLE_JIT="1")
    assert differing({"reference": found}) == []
    script = "import fastmlp, numpy; fastmlp.{}().forward(numpy.eye(3), *[numpy.eye(3)][{}:])"
    for call in (script.format("Matmul", 0), script.format("Relu", 1)):
        run = _start(["-c", call], os.environ | {"NUMBA_DISABLE_JIT": "1"})
        assert "RuntimeError: fastmlp: expected Numba's compiler" in run.stderr


def test_a_second_process_loads_what_the_first_compiled(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    script = "import digests as d; print(d.digest(*d.relu(d.fastmlp, d.np.float32, d.np.copy)))"
    first = _run(["-c", script], environment)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    second = _run(["-c", script], environment)
    assert first.stdout == second.stdout == COMMITTED["relu float32"] + "\n"
    assert kept
    assert kept == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}


def test_a_damaged_cache_is_compiled_again(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    script = "import fastmlp, numpy; print(fastmlp.Relu().forward(numpy.eye(3)))"
    first = _run(["-c", script], environment)
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:40])
    again = _run(["-c", script], environment)
    assert again.stdout == first.stdout
    assert "could not be read" in again.stderr
    healed = _run(["-c", script], environment)
    assert healed.stdout == first.stdout
    assert "could not be read" not in healed.stderr


@pytest.mark.parametrize("width", NARROWER)
def test_narrower_vectors_and_no_fma(width, cells_of_width):
    code, output = cells_of_width(width)
    assert code == 0
    assert differing(json.loads(output)) == []


def _digests_of_a_process(argument, **variables):
    run = _run([str(HERE / "digests.py"), argument], os.environ | variables)
    return json.loads(run.stdout)


def _run(arguments, environment):
    run = _start(arguments, environment)
    assert run.returncode == 0, run.stderr
    return run


def _start(arguments, environment):
    return subprocess.run(
        [sys.executable, *arguments], env=_with_paths(environment), capture_output=True, text=True
    )


def _with_paths(environment):
    paths = [str(HERE.parent), str(HERE.parent / "kernels"), str(HERE)]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}

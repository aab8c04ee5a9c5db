"""Predictions where no compiler is: NumPy alone, the same bits, after a short start."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats

import fastmlp
from fastmlp import reference

# As if they weren't installed.
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite", "tqdm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
import numpy as np
"""


def run(code, *arguments, blocked=True):
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED * blocked + code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_predictor_needs_no_compiler(tmp_path, dtype):
    model = fastmlp.MLP([300, 20, 7, 4], bias=[True, False, True], dtype=dtype, rng=5)
    model.save(tmp_path / "model")
    x = floats(6, (30, 300), dtype)
    np.save(tmp_path / "x.npy", x)
    code = """
import fastmlp
folder = sys.argv[1]
model = fastmlp.load_predictor(folder + "/model")
x = np.load(folder + "/x.npy")
np.savez(folder + "/y.npz", predict=model.predict(x), predict_proba=model.predict_proba(x),
         predict_log_proba=model.predict_log_proba(x))
"""
    run(code, tmp_path)
    with np.load(tmp_path / "y.npz") as results:
        for name in ("predict", "predict_proba", "predict_log_proba"):
            assert_same_bits(results[name], getattr(model, name)(x))


def test_the_reference_needs_no_compiler():
    """All of its names, a training with its bar left out, and the check of its gradients."""
    code = """
from fastmlp import reference
assert all(hasattr(reference, name) for name in reference.__all__)
reference.set_num_threads(reference.get_num_threads())
model = reference.MLP([4, 3, 2], rng=1)
x = np.arange(24, dtype=np.float32).reshape(6, 4) / 24
model.fit(x, np.arange(6) % 2, epochs=2, batch_size=4, rng=1)
print(model.flat_parameters.tobytes().hex())
with reference.arithmetic("numpy"):
    model.predict(x)
assert all(row.passed for row in reference.gradient_check())
try:
    from fastmlp import MLP
except ModuleNotFoundError as error:
    print(error)
"""
    weights, error = run(code).splitlines()
    model = fastmlp.MLP([4, 3, 2], rng=1)
    x = np.arange(24, dtype=np.float32).reshape(6, 4) / 24
    model.fit(x, np.arange(6) % 2, epochs=2, batch_size=4, rng=1)
    assert weights == model.flat_parameters.tobytes().hex()
    assert error in ("No module named 'numba'", "No module named 'llvmlite'")


def test_no_compiler_is_loaded_where_there_is_one(tmp_path):
    """Its import takes longer than all else: a short start is one without these."""
    reference.MLP([4, 3, 2], rng=1).save(tmp_path / "model")
    code = """
import json, sys
import fastmlp
model = fastmlp.load_predictor(sys.argv[1])
import numpy as np
model.predict(np.ones((1, 4), np.float32))
print(json.dumps([*sys.modules]))
"""
    loaded = json.loads(run(code, tmp_path / "model", blocked=False))
    heavy = {"numba", "llvmlite", "tqdm", "fastmlp.mnist", "fastmlp.model.mlp", "tempfile"}
    assert not heavy & {*loaded}
    assert "safetensors" in loaded
    light = run("import fastmlp, sys; print(*sys.modules)", blocked=False).split()
    assert not {"safetensors", "fastmlp.reference.mlp", "fastmlp.model"} & {*light}


def test_any_module_may_be_the_first_that_is_imported():
    code = """
import importlib, pkgutil, sys
import fastmlp
for module in pkgutil.walk_packages(fastmlp.__path__, "fastmlp."):
    for name in [name for name in sys.modules if name.partition(".")[0] == "fastmlp"]:
        del sys.modules[name]
    importlib.import_module(module.name)
    print(module.name)
"""
    assert len(run(code, blocked=False).split()) > 50


def test_a_name_that_is_not_there_is_an_attribute_error():
    for module in (fastmlp, reference):
        with pytest.raises(AttributeError, match=r"module '[\w.]+' has no attribute 'MLPs'"):
            _ = module.MLPs
        assert {*module.__all__} <= {*dir(module)}

"""fastmlp compile: afterwards, nothing is left to compile."""

import os
import subprocess
import sys

import pytest
from fastmlp_kernels.compiling.cpu import vector_bits
from fastmlp_kernels.compiling.folder import cache_folder
from test_cli import run

# Networks of every way that a layer goes: whole, by columns, past zeros, by leaves.
EVERYTHING = """
import numpy as np, fastmlp
from fastmlp_kernels.compiling.cache import KernelCache
compiled, save = [], KernelCache.save_overload
KernelCache.save_overload = lambda *arguments: (compiled.append(arguments[0]), save(*arguments))
rng, dtype = np.random.default_rng(0), np.dtype({dtype!r})
for sizes, samples, batch_size in [
    ([3, 2], 5, 9), ([784, 100, 10], 300, 32), ([784, 100, 10], 70, 8), ([9, 300, 200, 5], 60, 7),
    ([60, 90, 3], 3000, 3000),
]:
    for share in (0.1, 1.0):
        x = (rng.random((samples, sizes[0])) * (rng.random((samples, sizes[0])) < share))
        x, y = x.astype(dtype), rng.integers(sizes[-1], size=samples)
        for optimizer in ("sgd", "momentum", "nesterov", "adam", "adamw"):
            model = fastmlp.MLP(sizes, dtype=dtype, rng=0)
            model.fit(x, y, epochs=1, batch_size=batch_size, optimizer=optimizer)
        model.fit(x, y, epochs=1, batch_size=batch_size, max_norm=0.1)
        model.score(x, y), model.loss(x, y), model.predict(x[:1])
        model.forward(x)
        model.backward(fastmlp.one_hot(y, sizes[-1], dtype))
fastmlp.sgd((x.copy(),), (x,), 0.1)
assert dtype != np.float64 or all(row.passed for row in fastmlp.gradient_check())
assert not compiled, compiled
"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nothing_is_left_to_compile(dtype, capsys):
    assert run("compile", "--dtype", dtype) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"compiled for {dtype}, vectors of ")
    assert str(cache_folder()) in lines[1]
    code = EVERYTHING.format(dtype=dtype)
    paths = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": paths})
    assert done.returncode == 0


def test_another_width_is_compiled_by_another_process(capfd):
    code = run("compile", "--dtype", "float32", "--vector-bits", "512")
    shown = capfd.readouterr()
    if vector_bits() == 512:
        assert (code, "vectors of 512 bits" in shown.out) == (0, True)
    else:  # the process has asked for it, and says what this CPU has
        assert code == 2
        assert "FASTMLP_VECTOR_BITS must be one of" in shown.err
        assert "got '512'" in shown.err
    assert run("compile", "--vector-bits", "7") == 2
    assert "invalid choice: 7" in capfd.readouterr().err

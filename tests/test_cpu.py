"""The choice of the vectors' width and of the FMA, each in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest
from fastmlp_kernels.compiling.cpu import WIDTHS, has_fma, vector_bits

on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86-64 only")

SHOW = "from fastmlp_kernels.compiling import cpu; print(cpu.vector_bits(), cpu.has_fma())"
NO_FMA = {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": ""}


def run(code, **settings):
    """What `code` prints with the environment's settings replaced by these."""
    ours = ("FASTMLP_VECTOR_BITS", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment | settings, capture_output=True, text=True
    )


def shown(**settings):
    process = run(SHOW, **settings)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_this_process():
    assert vector_bits() in WIDTHS
    assert has_fma() == (vector_bits() != 0)


def test_zero_asks_for_no_fma():
    assert shown(FASTMLP_VECTOR_BITS="0") == "0 False"


def test_a_narrower_width_can_be_asked_for():
    if shown() == "0 False":
        pytest.skip("this CPU has no FMA, so only 0 can be asked for")
    assert shown(FASTMLP_VECTOR_BITS="128") == "128 True"


@pytest.mark.parametrize("value", ["64", "", "1024", "avx2", "-128", "256 "])
def test_other_values_are_refused(value):
    process = run(SHOW, FASTMLP_VECTOR_BITS=value)
    assert process.returncode != 0
    assert "ValueError: FASTMLP_VECTOR_BITS must be one of " in process.stderr
    assert f"got {value!r}: unset it to use the widest" in process.stderr


@on_x86
@pytest.mark.parametrize(
    ("name", "features", "expected"),
    [
        ("nehalem", "", "0 False"),
        ("generic", "", "0 False"),
        ("sandybridge", "", "0 False"),
        ("haswell", "", "256 True"),
        ("haswell", "-fma", "0 False"),
        ("x86-64-v2", "+fma,+avx2", "256 True"),
        ("skylake-avx512", "", "512 True"),
        ("icelake-server", "-avx512f", "256 True"),
    ],
)
def test_the_cpu_that_numba_compiles_for_decides(name, features, expected):
    assert shown(NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features) == expected


@on_x86
def test_a_width_that_the_cpu_lacks_is_refused():
    haswell = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
    process = run(SHOW, FASTMLP_VECTOR_BITS="512", **haswell)
    assert "must be one of 256, 128, 0 on this CPU, got '512'" in process.stderr
    process = run(SHOW, FASTMLP_VECTOR_BITS="128", **NO_FMA)
    assert "must be one of 0 on this CPU, got '128'" in process.stderr


@pytest.mark.parametrize(
    "settings", [{"FASTMLP_VECTOR_BITS": "0"}, pytest.param(NO_FMA, marks=on_x86)]
)
def test_without_fma_the_software_form_is_used_and_never_the_c_library(settings):
    code = """
import re
import numba
import numpy as np
from fastmlp_kernels.arithmetic import fma as kernel

assert kernel.fma is kernel.fma_software

@numba.njit
def call(a, b, c):
    return kernel.fma(a, b, c)

values = [0x97000800, 0x1CFFF001, 0x00010002]
a, b, c = np.array(values, np.uint32).view(np.float32)
assert np.float32(call(a, b, c)).view(np.uint32) == 0x00010001
a = np.float64(1 + 2.0**-30)
assert call(a, a, np.float64(-1 - 2.0**-29)) == 2.0**-60
for assembly in call.inspect_asm().values():
    assert not re.search(r"\\b_?fmaf?\\b|vfn?m(add|sub)", assembly), assembly
"""
    process = run(code, **settings)
    assert process.returncode == 0, process.stderr

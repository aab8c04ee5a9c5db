"""Processes that share the folder of compiled kernels, and forks while another thread compiles."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fastmlp_kernels.compiling import cache

LIMIT = 60  # seconds, for a process that would wait for ever
# A kernel whose compiling is told in the folder, and takes as long as that holds a file "slow".
TOLD = """
import sys, time
from pathlib import Path
import numpy as np
from numba.core import types
from numba.extending import intrinsic
from fastmlp_kernels.compiling import jit

@intrinsic
def told(typing_context):
    def codegen(context, builder, signature, arguments):
        folder = Path(sys.argv[1])
        (folder / f"compiled.{time.time_ns()}").touch()
        while (folder / "slow").exists():
            time.sleep(0.01)
        return context.get_dummy_value()
    return types.void(), codegen

def twice(x, y):
    told()
    for i in range(len(x)):
        y[i] = 2 * x[i]

twice = jit.Kernel(twice, lambda real: (jit.view(real, 1), jit.result(real, 1)), False)

def check(dtype):
    x, y = np.arange(5, dtype=dtype), np.empty(5, dtype)
    twice[y.dtype](x, y)
    assert (y == 2 * x).all()

"""
BOTH = 'for dtype in ("f4", "f8"): check(dtype)'
INTERRUPTED = """
try:
    check("f4")
except KeyboardInterrupt:
    print("on", flush=True)
    time.sleep(99)
"""
# One thread compiles; another forks meanwhile, and its child uses the kernel at once.
FORKED = """
import os, threading
start = threading.Event()
threading.Thread(target=lambda: (start.wait(), check("f4"))).start()
start.set()
while not twice and not list(Path(sys.argv[1]).glob("compiled.*")):
    time.sleep(0.001)
threading.Timer(0.3, (Path(sys.argv[1]) / "slow").unlink).start()
child = os.fork()
check("f4")
if child == 0:
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


# Two kernels of the package that are alike but for the function that their arrays go through.
ALIKE = """
import numpy as np
from fastmlp_kernels.arithmetic.elementary import exp_array, log_array
x, out = np.ones(3, np.float32), np.empty(3, np.float32)
for kernel in ({}):
    kernel[x.dtype](x, out)
    print(out[0])
"""


@pytest.fixture
def start(tmp_path):
    """Start a process that runs some lines with the kernel above; it ends with the test."""
    paths = [str(tmp_path), str(Path(cache.__file__).parents[2]), *sys.path]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "NUMBA_CACHE_DIR": str(tmp_path)}
    (tmp_path / "told.py").write_text(TOLD)
    processes = []

    def run(lines):
        code = "import logging; logging.basicConfig(level='INFO')\nfrom told import *\n" + lines
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(tmp_path)],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def compiled(folder):
    return len(list(folder.glob("compiled.*")))


def wait_for(condition):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_of_eight_cold_processes_one_compiles_each_kernel(start, tmp_path):
    for process in [start(BOTH) for _ in range(8)]:
        _, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, "Error" in errors) == (0, False), errors
    assert compiled(tmp_path) == 2


def test_kernels_of_two_processes_stay_apart_in_a_third(start):
    for names, expected in [
        ("exp_array,", ["2.7182817"]),
        ("log_array,", ["0.0"]),
        ("exp_array, log_array", ["2.7182817", "0.0"]),
    ]:
        printed, errors = start(ALIKE.format(names)).communicate(timeout=LIMIT)
        assert printed.split() == expected, errors


def test_others_wait_and_say_so_and_take_over_when_the_owner_is_killed(start, tmp_path):
    (tmp_path / "slow").touch()
    owner = start(BOTH)
    wait_for(lambda: compiled(tmp_path) == 1)
    other = start(BOTH)
    for line in other.stderr:
        if "another process compiles the same kernels" in line:
            break
    else:
        pytest.fail("it did not say that it waits")
    assert compiled(tmp_path) == 1
    owner.send_signal(signal.SIGKILL)
    wait_for(lambda: compiled(tmp_path) == 2)
    (tmp_path / "slow").unlink()
    assert other.wait(LIMIT) == 0
    assert compiled(tmp_path) == 3


def test_an_interrupted_compiler_keeps_no_lock(start, tmp_path):
    (tmp_path / "slow").touch()
    owner = start(INTERRUPTED)
    wait_for(lambda: compiled(tmp_path) == 1)
    owner.send_signal(signal.SIGINT)
    assert owner.stdout.readline() == "on\n"
    (tmp_path / "slow").unlink()
    other = start(BOTH)
    assert other.wait(LIMIT) == 0


def test_each_compiles_for_itself_where_no_lock_can_be_had(start, tmp_path):
    process = start(f"""
from fastmlp_kernels.compiling import cache
def no_lock(file): raise OSError(37, "No locks available")
cache._try_lock = no_lock
{BOTH}
""")
    assert process.wait(LIMIT) == 0, process.stderr.read()
    assert compiled(tmp_path) == 2


@pytest.mark.parametrize("cached", [False, True], ids=["compiling", "loading"])
def test_a_child_forked_while_a_thread_compiles_goes_on(start, tmp_path, cached):
    if cached:
        assert start("check('f4')").wait(LIMIT) == 0
    (tmp_path / "slow").touch()
    process = start(FORKED)
    printed, errors = process.communicate(timeout=LIMIT)
    assert (printed, process.returncode) == ("7\n", 0), errors

"""What is logged, and what is printed: of a library call nothing but a bar that was asked for."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from fastmlp_kernels.compiling import notices

# Kernels of which the second takes long.
SCRIPT = """
import logging, sys, time
from fastmlp_kernels.compiling import jit, notices
if "log" in sys.argv:
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO)
notices.progress.shown = "bar" in sys.argv
notices.ANNOUNCED_SECONDS = 0.05
with notices.expect_kernels(4):  # of which one was compiled before
    for seconds in (0.0, 0.5, 0.0):
        with jit._Compiling():
            notices.progress.begin()
            time.sleep(seconds)
assert notices.progress.bar is None
with jit._Compiling():
    pass
print("end")
"""


@pytest.fixture
def run():
    def run(*asked, script=SCRIPT, **streams):
        paths = os.pathsep.join([str(Path(notices.__file__).parents[2]), *sys.path])
        environment = os.environ | {"PYTHONPATH": paths}
        command = [sys.executable, "-c", script, *asked]
        return subprocess.run(command, env=environment, text=True, **streams)

    return run


def test_compiling_is_logged_in_two_lines_and_not_printed(run):
    done = run("log", "bar", capture_output=True)
    assert done.stdout == "end\n"
    first, last = done.stderr.splitlines()
    assert first.startswith("fastmlp.kernels: compiling kernels for this CPU, once: they are kept ")
    assert last.startswith("fastmlp.kernels: compiling took 0.5 s")
    silent = run(capture_output=True)
    assert (silent.stdout, silent.stderr) == ("end\n", "")


# A first model with an empty cache: all that it needs is compiled.
TRAINING = """
import logging, sys
import numpy as np
import fastmlp
from fastmlp_kernels.compiling import notices
notices.ANNOUNCED_SECONDS = 0.0
if "log" in sys.argv:
    logging.basicConfig(format="%(name)s %(levelname)s: %(message)s", level=logging.DEBUG)
    logging.getLogger("numba").setLevel(logging.WARNING)
x = np.ones((2, 3), np.float32)
fastmlp.Relu().forward(x)
fastmlp.get_num_threads()
fastmlp.Relu().forward(x)
"""


def test_a_library_call_prints_nothing_and_logs_what_it_decides(run, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "1")
    logged = run("log", script=TRAINING, capture_output=True)
    lines = logged.stderr.splitlines()
    assert "fastmlp.threads DEBUG: threads of a large call: 1, by FASTMLP_NUM_THREADS" in lines
    assert len([line for line in lines if line.startswith("fastmlp.threads")]) == 1
    compiled = [line for line in lines if line.startswith("fastmlp.kernels DEBUG: compiling ")]
    assert compiled
    kept = f"compiling kernels for this CPU, once: they are kept in {tmp_path / 'fastmlp'}"
    assert f"fastmlp.kernels INFO: {kept}" in lines
    again = run("log", script=TRAINING, capture_output=True).stderr
    assert "fastmlp.kernels DEBUG: loaded " in again
    assert "DEBUG: compiling" not in again
    silent = run(script=TRAINING, capture_output=True)
    assert (silent.stdout, silent.stderr) == ("", "")


def test_a_terminal_shows_how_many_are_left(run):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with os.fdopen(ours, "rb", 0) as terminal:
        with os.fdopen(theirs, "wb", 0) as stderr:
            done = run("log", "bar", stdout=subprocess.PIPE, stderr=stderr)
        shown = b""
        try:
            while part := terminal.read(1000):
                shown += part
        except OSError:  # its end
            pass
    assert done.stdout == "end\n"
    for count in (b"1/4", b"2/4", b"3/4"):
        assert count in shown
    assert shown.rstrip().endswith(b"fastmlp.kernels: compiling took 0.5 s")


def test_no_stderr_is_no_reason_to_stop(run):
    done = run("log", "bar", stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    assert (done.stdout, done.returncode) == ("end\n", 0)

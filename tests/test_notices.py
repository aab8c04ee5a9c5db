"""What compiling tells: two lines anywhere, a count of kernels on a terminal."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from fastmlp_kernels import notices

# Kernels of which the second takes long.
SCRIPT = """
import time
from fastmlp_kernels import jit, notices
notices.ANNOUNCED_SECONDS = 0.05
with jit.expect_kernels(4):  # of which one was compiled before
    for seconds in (0.0, 0.5, 0.0):
        with jit._Compiling():
            time.sleep(seconds)
assert notices.progress.bar is None
with jit._Compiling():
    pass
print("end")
"""


@pytest.fixture
def run():
    def run(**streams):
        paths = os.pathsep.join([str(Path(notices.__file__).parents[1]), *sys.path])
        environment = os.environ | {"PYTHONPATH": paths}
        return subprocess.run([sys.executable, "-c", SCRIPT], env=environment, text=True, **streams)

    return run


def test_two_lines_where_nobody_watches(run):
    done = run(capture_output=True)
    assert done.stdout == "end\n"
    first, last = done.stderr.splitlines()
    assert first.startswith("fastmlp: compiling kernels for this CPU, once: they are kept in ")
    assert last.startswith("fastmlp: compiling took 0.5 s")


def test_a_terminal_shows_how_many_are_left(run):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with os.fdopen(ours, "rb", 0) as terminal:
        with os.fdopen(theirs, "wb", 0) as stderr:
            done = run(stdout=subprocess.PIPE, stderr=stderr)
        shown = b""
        try:
            while part := terminal.read(1000):
                shown += part
        except OSError:  # its end
            pass
    assert done.stdout == "end\n"
    for count in (b"1/4", b"2/4", b"3/4"):
        assert count in shown
    assert shown.rstrip().endswith(b"fastmlp: compiling took 0.5 s")


def test_no_stderr_is_no_reason_to_stop(run):
    done = run(stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    assert (done.stdout, done.returncode) == ("end\n", 0)

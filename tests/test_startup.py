"""The command line before it has begun: what its imports raise is one line, and only there."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from fastmlp_kernels.compiling import late
from fastmlp_kernels.compiling.cpu import WIDTHS, vector_bits

from fastmlp import startup

COMMANDS = {
    "module": ["-m", "fastmlp", "info"],
    "script": [
        "-c",
        "import sys; sys.argv = ['fastmlp', 'info']; from fastmlp.commands.cli import *; main()",
    ],
}
# Stands for NumPy or Numba, whose imports take longest, and are interrupted there as by Ctrl-C.
INTERRUPTED = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""


def run(arguments, *folders, **settings):
    paths = os.pathsep.join([*map(str, folders), *sys.path])
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": paths} | settings,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_an_interrupted_import_is_one_line(arguments, tmp_path):
    (tmp_path / "numpy.py").write_text(INTERRUPTED)
    process = run(arguments, tmp_path)
    assert process.returncode == -signal.SIGINT
    assert process.stderr == "\nfastmlp: interrupted\n"


def test_a_users_own_program_keeps_its_traceback(tmp_path):
    (tmp_path / "numba.py").write_text(INTERRUPTED)
    process = run(["-c", "import fastmlp; fastmlp.Relu().forward([1.0])"], tmp_path)
    assert "Traceback" in process.stderr
    assert process.stderr.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_wrong_vector_width_is_one_line(arguments):
    process = run(arguments, FASTMLP_VECTOR_BITS="64")
    assert process.returncode == 2
    widths = ", ".join(str(width) for width in WIDTHS if width <= vector_bits())
    assert process.stderr.startswith("fastmlp: error: FASTMLP_VECTOR_BITS must be one of ")
    assert f"{widths} on this CPU, got '64': unset it" in process.stderr
    assert process.stderr.count("\n") == 1


def test_a_wrong_arithmetic_is_one_line():
    process = run(COMMANDS["module"], FASTMLP_ARITHMETIC="exact")
    assert process.returncode == 2
    assert process.stderr.startswith("fastmlp info: error: FASTMLP_ARITHMETIC: expected 'portable'")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("program", "started_as", "expected"),
    [
        ("/usr/bin/fastmlp", ["python", "/usr/bin/fastmlp"], True),
        ("fastmlp.exe", ["fastmlp.exe"], True),
        ("-m", ["python", "-m", "fastmlp", "train"], True),
        ("-m", ["python", "-m", "mine"], False),
        ("mine.py", ["python", "mine.py", "fastmlp"], False),
        ("", ["python"], False),
    ],
)
def test_which_process_is_the_command_line(program, started_as, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(sys, "orig_argv", started_as)
    assert startup.is_command_line() == expected


def test_other_errors_are_shown_as_python_shows_them(capsys):
    startup.show_in_one_line(ValueError, ValueError("another"), None)
    assert capsys.readouterr().err == "ValueError: another\n"


def test_what_has_no_mask_needs_no_module_of_masks():
    code = "import sys; from fastmlp.checks import *; plain_array('x', 1.0); print(*sys.modules)"
    assert "numpy.ma" not in run(["-c", code]).stdout.split()


def test_ctrl_c_waits_until_a_module_is_imported(monkeypatch):
    """Numba half imported can't be imported again: all later calls would fail."""
    imported, import_module = [], late.importlib.import_module

    def interrupted(name):
        signal.raise_signal(signal.SIGINT)
        imported.append(name)
        return import_module(name)

    monkeypatch.setattr(late.importlib, "import_module", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            late.Late("relu").forward  # noqa: B018
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        monkeypatch.undo()
        others = []
        thread = threading.Thread(target=lambda: others.append(late.Late("relu").forward))
        thread.start()
        thread.join()
        assert others == [late.Late("relu").forward]
    finally:
        signal.signal(signal.SIGINT, before)
    assert imported[-1] == "fastmlp_kernels.relu"

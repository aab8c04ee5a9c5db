"""Streams that are closed, full or without a reader: commands end quietly, and fit trains on."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import VECTORS, assert_same_bits

import fastmlp
from fastmlp import reference
from fastmlp.commands import cli

MODEL = VECTORS.with_name("model-form-1.safetensors")  # of two inputs
COMMANDS = {
    "help": ["--help"],
    "help of train": ["train", "--help"],
    "info": ["info"],
    "check": ["check"],
    "train": ["train", "--epochs", "1"],
    "train the notebook's": ["train", "--notebook", "--epochs", "3"],
    "show": ["show", str(MODEL)],
    "predict": ["predict", str(MODEL), "x.csv"],
}
UNIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="shells and signals of Unix")


@pytest.fixture(params=COMMANDS)
def command(request, small_mnist):
    arguments = COMMANDS[request.param]
    data = ["--data", str(small_mnist)] if "--epochs" in arguments else []
    if "x.csv" in arguments:
        arguments, data = arguments[:-1], [str(small_mnist / "x.csv")]
        (small_mnist / "x.csv").write_text("1,2\n" * 20000)
    return [sys.executable, "-m", "fastmlp", *arguments, *data]


def run(command, redirection):
    path = os.pathsep.join(sys.path)
    return subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *command],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@UNIX
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_command_whose_reader_is_gone_ends_quietly(command, unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": unbuffered}
    process = subprocess.run(
        command, env=os.environ | environment, stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert process.returncode == -13  # by SIGPIPE: 141 in a shell
    assert "Error" not in process.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a file that is always full")
def test_a_full_stdout_is_one_line_and_exit_code_2(command):
    process = run(command, ">/dev/full")
    assert process.returncode == 2
    (error,) = [line for line in process.stderr.splitlines() if "rror" in line]
    assert error.startswith("fastmlp")
    assert "error: [Errno 28]" in error
    assert "Traceback" not in process.stderr


@UNIX
@pytest.mark.parametrize("closed", [">&-", "2>&-"])
@pytest.mark.parametrize("command", ["check", "train"], indirect=True)
def test_a_command_does_its_work_without_the_streams(command, closed):
    process = run(command, closed)
    assert process.returncode == 0
    if closed == "2>&-":
        assert process.stdout


@UNIX
def test_an_error_without_stderr_is_exit_code_2_and_not_on_stdout():
    for arguments in (["dance"], ["train", "--data", "/no/such/folder"]):
        process = run([sys.executable, "-m", "fastmlp", *arguments], "2>&-")
        assert (process.returncode, process.stdout) == (2, "")


class Stream(io.StringIO):
    """A stream that takes so many writes, then raises."""

    def __init__(self, error, writes=0):
        super().__init__()
        self.error, self.writes = error, writes

    def write(self, text):
        self.writes -= 1
        if self.writes < 0:
            raise self.error
        return super().write(text)


def test_main_itself_knows_a_stdout_without_a_reader(monkeypatch):
    # Where there is no SIGPIPE, or another program calls it.
    monkeypatch.setattr(sys, "stdout", Stream(BrokenPipeError()))
    assert cli.main(["info"]) == 141


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize("writes", [0, 1, 2, 4, 5, 6])
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "full"), ValueError("closed")])
def test_fit_trains_on_where_its_bar_cannot_be_shown(module, error, writes, monkeypatch):
    def fit(progress):
        model = module.MLP([4, 3], rng=0)
        x, y = np.eye(4, dtype=np.float32), [0, 1, 2, 0]
        model.fit(x, y, epochs=3, rng=0, progress=progress)
        return model.flat_parameters

    expected = fit(False)
    monkeypatch.setattr(sys, "stderr", Stream(error, writes))
    assert_same_bits(fit(True), expected)
    monkeypatch.setattr(sys, "stderr", None)
    assert_same_bits(fit(True), expected)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert_same_bits(fit(True), expected)

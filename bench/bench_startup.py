"""Start-up with every provider: from the start of a process to its first training step."""

import subprocess

import pytest
from fastmlp_bench.startup import commands


@pytest.mark.parametrize("name", commands())
def test_startup(benchmark, name):
    benchmark.pedantic(
        lambda: subprocess.run(commands()[name], check=True), rounds=5, warmup_rounds=1
    )

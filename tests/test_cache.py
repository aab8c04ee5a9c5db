"""Compiled code is loaded only for the sources, and the vectors, that it was compiled from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastmlp_kernels import cache

KERNELS = Path(cache.__file__).parent
SCRIPT = """
import numpy as np, fastmlp_kernels.relu as relu
from fastmlp_kernels.cache import cache_folder
x, y = np.array([-3.0, 2.0], np.float32), np.empty(2, np.float32)
relu.forward[x.dtype](x, y, 1)
print(y[1], cache_folder())
"""


@pytest.fixture
def kernels(tmp_path):
    """A copy of the kernels' sources, to be changed."""
    copy = tmp_path / "fastmlp_kernels"
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(KERNELS, copy, ignore=ignored))


def result_and_folder(kernels, **variables):
    environment = {"PYTHONPATH": str(kernels.parent), "NUMBA_CACHE_DIR": str(kernels.parent)}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | environment | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(run.stdout.split())


def test_a_changed_source_is_compiled_again(kernels):
    """Also one that only others import, and though size and time of the file stay."""
    result, folder = result_and_folder(kernels)
    assert result == "2.0"
    relu, jit = kernels / "relu.py", kernels / "jit.py"
    before = relu.stat()
    relu.write_text(relu.read_text().replace("y[i] = x[i] if", "y[i] = 5e0 if"))
    os.utime(relu, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed, folder_of_changed = result_and_folder(kernels)
    assert changed == "5.0"
    assert folder_of_changed != folder
    jit.write_text(jit.read_text() + "\n")
    _, folder_of_both = result_and_folder(kernels)
    assert folder_of_both not in (folder, folder_of_changed)


def test_the_first_source_again_finds_its_first_folder(kernels):
    first = result_and_folder(kernels)
    source = kernels / "blocking.py"
    text = source.read_text()
    source.write_text(text + "# changed\n")
    assert result_and_folder(kernels)[1] != first[1]
    source.write_text(text)
    assert result_and_folder(kernels) == first


def test_every_source_is_part_of_the_folders_name(kernels, monkeypatch):
    monkeypatch.setattr(cache, "__file__", str(kernels / "cache.py"))
    names = {cache._sources_digest()}
    for source in sorted(kernels.glob("*.py")):
        source.write_text(source.read_text() + "\n")
        names.add(cache._sources_digest())
    assert len(names) == 1 + len(list(kernels.glob("*.py")))


def test_the_vectors_and_the_versions_are_part_of_the_folders_name(monkeypatch):
    folders = {cache.cache_folder.__wrapped__()}
    for width in (512, 256, 128, 0):
        monkeypatch.setattr(cache, "vector_bits", lambda width=width: width)
        folders.add(cache.cache_folder.__wrapped__())
    assert len(folders) == 4
    monkeypatch.setattr(cache.numba, "__version__", "0.0")
    folders.add(cache.cache_folder.__wrapped__())
    monkeypatch.setattr(cache.llvmlite, "__version__", "0.0")
    folders.add(cache.cache_folder.__wrapped__())
    assert len(folders) == 6

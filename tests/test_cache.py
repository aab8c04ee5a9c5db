"""Compiled code is loaded only for the sources, CPU, vectors and versions it was compiled for."""

import ast
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from fastmlp_kernels.compiling import cache, folder
from helpers import needs_plain_pointers

KERNELS = Path(cache.__file__).parents[1]
SCRIPT = """
import logging
import numpy as np
from fastmlp_kernels.compiling import call, stored
told = []
logger = logging.getLogger("fastmlp.kernels")
logger.setLevel(logging.DEBUG)
logger.addFilter(lambda record: told.append(record.getMessage()))
values, total = np.array([1, 2, 6], np.float32), np.empty(64, np.float32)
place = stored.address("loss", "mean_kernel", values.dtype)
call.invoke()(place, values, total)
print(total[0], *[each.split()[0] for each in told if "mean" in each])
"""
WAYS = [
    pytest.param("", id="without Numba", marks=needs_plain_pointers),
    pytest.param("import numba", id="with Numba"),
]


# What compiles Numba's own functions and what tells of compiling would raise.
LOADED = """
import numba, threading
from numba.core.runtime import nrtdynmod
nrtdynmod.compile_nrt_functions = threading.Timer = None
"""


@pytest.fixture
def kernels(tmp_path):
    """A copy of the kernels' sources, to be changed."""
    copy = tmp_path / "fastmlp_kernels"
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(KERNELS, copy, ignore=ignored))


def result(kernels, before=""):
    """The mean of 1, 2 and 6 in a new process, and whether that has loaded or compiled it."""
    environment = {"PYTHONPATH": str(kernels.parent), "NUMBA_CACHE_DIR": str(kernels.parent)}
    run = subprocess.run(
        [sys.executable, "-c", before + SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


@pytest.mark.parametrize("before", WAYS)
def test_a_changed_source_is_compiled_again(kernels, before):
    """Also one that only others import, and though size and time of the file stay."""
    mean = partial(result, kernels, before)
    assert mean() == "3.0 compiling"
    peak, loss, cpu = (kernels / f"{name}.py" for name in ("peak", "loss", "compiling/cpu"))
    peak.write_text(peak.read_text() + "# not among the imports of loss.py\n")
    assert mean() == "3.0 loaded"
    before, text = loss.stat(), loss.read_text()
    loss.write_text(text.replace("waiting[0] /= ", "waiting[0] *= "))
    os.utime(loss, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert mean() == "27.0 compiling"
    loss.write_text(text)
    assert mean() == "3.0 loaded"
    cpu.write_text(cpu.read_text() + "\n")
    assert mean() == "3.0 compiling"


@needs_plain_pointers
def test_loading_compiles_nothing_and_starts_no_thread(kernels):
    assert result(kernels) == "3.0 compiling"
    assert result(kernels, LOADED) == "3.0 loaded"


def test_every_source_is_part_of_the_digest_of_all_that_import_it(kernels, monkeypatch):
    """Of these, as Python itself reads the imports."""
    monkeypatch.setattr(folder, "__file__", str(kernels / "compiling" / "folder.py"))
    sources = sorted(kernels.rglob("*.py"))
    imported = {source: imports(source, kernels) for source in sources}
    assert all(imported[kernels / f"{name}.py"] for name in ("matmul", "plans/execute"))

    def digests():
        folder._read_source.cache_clear()
        return {source: folder.sources_digest(source) for source in sources}

    before = digests()
    for changed in sources:
        changed.write_text(changed.read_text() + "\n")
        after = digests()
        for source in sources:
            reached = {source}
            while more := set().union(*(imported[one] for one in reached)) - reached:
                reached |= more
            assert (after[source] != before[source]) == (changed in reached), (source, changed)
        before = after
    folder._read_source.cache_clear()


def imports(source, kernels):
    """The files of the package that a source imports."""
    names = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    files = {
        kernels.parent.joinpath(*name.split(".")).with_suffix(".py")
        for name in names
        if name.startswith("fastmlp_kernels.")
    }
    return {file for file in files if file.exists()}  # not what is a name in a module, or a folder


def _function(x, y):
    pass


def test_all_that_code_depends_on_names_its_file(monkeypatch):
    key = ("signature", ("triple", "cpu", "features"), ("code", "closure"))
    paths = {cache.KernelFiles(_function).path(key)}
    for place in range(3):
        changed = list(key)
        changed[place] = "other"
        paths.add(cache.KernelFiles(_function).path(tuple(changed)))
    changes = [
        (cache, "vector_bits", lambda: 7),
        (cache.numba, "__version__", "0.0"),
        (cache.llvmlite, "__version__", "0.0"),
        (cache.platform, "python_version", lambda: "3.0"),
        (cache.numba.config, "OPT", 1),
        (cache.numba.config, "BOUNDSCHECK", 1),
        (cache.numba.config, "LOOP_VECTORIZE", 0),
        (cache.numba.config, "SLP_VECTORIZE", 1),
        (cache.sys, "abiflags", "t"),
        (cache, "sources_digest", lambda source: "other"),
    ]
    for place, name, value in changes:
        monkeypatch.setattr(place, name, value)
        paths.add(cache.KernelFiles(_function).path(key))
    assert len(paths) == 1 + 3 + len(changes)

"""The folder of compiled kernels: missing, full, damaged, old, or not the user's to write."""

import os
import resource
import time
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
from fastmlp_kernels.compiling import cache, jit
from fastmlp_kernels.compiling import folder as files

VALUES = np.arange(5.0)


def _twice(x, y):
    for i in range(len(x)):
        y[i] = 2 * x[i]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "kernels"
    for module in (cache, files):
        monkeypatch.setattr(module, "cache_folder", lambda: folder)
    monkeypatch.setattr(cache, "_warned", False)
    cache._remove_unused.cache_clear()
    return folder


def _kernel(dtype):
    """A kernel that is compiled or loaded as in a new process."""
    kernel = jit.Kernel(_twice, lambda real: (jit.view(real, 1), jit.result(real, 1)), False)
    return kernel.compiled(np.dtype(dtype))


def _run(*dtypes):
    """Compile or load the kernel for each dtype, as a new process does."""
    for dtype in dtypes or (np.float64,):
        y = np.empty(5, dtype)
        _kernel(dtype)(VALUES.astype(dtype), y)
        assert (y == 2 * VALUES).all()


def test_a_loaded_kernel_is_linked_into_others(folder):
    _run()
    dispatcher = _kernel(np.float64)
    assert dispatcher.stats.cache_hits
    y = np.empty(5)
    numba.njit(lambda x, y: dispatcher(x, y))(VALUES, y)
    assert (y == 2 * VALUES).all()


def _run_and_warn_once(message):
    with pytest.warns(RuntimeWarning, match=message) as warned:
        _run(np.float64, np.float32)
    assert len(warned) == 1


def _run_quietly(*dtypes):
    with warnings.catch_warnings(record=True) as warned:
        _run(*dtypes)
    assert not warned


def test_no_folder_can_be_made(folder):
    folder.write_text("a file where the folder should be")
    _run_and_warn_once(r"can't be written \(.*: they stay in memory; set NUMBA_CACHE_DIR")


def test_a_full_disk(folder):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        _run_and_warn_once(r"can't be written \(OSError.*: they stay in memory")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(folder.glob("*.nbc")) + list(folder.glob("*.new"))
    _run()  # with room again
    assert len(list(folder.glob("*.nbc"))) == 1


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_one_wrong_bit_of_the_machine_code(folder, share):
    _run()
    (path,) = folder.glob("*.nbc")
    code = bytearray(path.read_bytes())
    code[int(share * len(code))] ^= 1
    path.write_bytes(code)
    _run_and_warn_once(r"could not be read \(.*: what is damaged is compiled again")
    _run_quietly()


def test_a_lost_file_is_compiled_again(folder):
    _run()
    for path in folder.glob("*.nbc"):
        path.unlink()
    _run_quietly()
    assert list(folder.glob("*.nbc"))


def test_files_that_change_names_are_compiled_again(folder):
    _run(np.float32, np.float64)
    one, other = folder.glob("*.nbc")
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    _run_and_warn_once(r"could not be read \(.* holds another kernel")
    _run_quietly(np.float32, np.float64)
    assert (one.read_bytes(), other.read_bytes()) != (contents[1], contents[0])


def test_two_that_write_at_once_each_have_a_file(folder, monkeypatch):
    """The second writes all of its own while the first is between any two steps of its."""
    steps = [(cache.caching, "dumps", cache.caching.dumps), (Path, "replace", Path.replace)]

    def interleaved(function, *arguments):
        monkeypatch.undo()
        for module in (cache, files):
            monkeypatch.setattr(module, "cache_folder", lambda: folder)
        _run(np.float32)
        return function(*arguments)

    for place, name, function in steps:
        files.clear_folder()
        monkeypatch.setattr(
            place, name, lambda *arguments, function=function: interleaved(function, *arguments)
        )
        _run(np.float64)
        assert len(list(folder.glob("*.nbc"))) == 2
        hits = [_kernel(dtype).stats.cache_hits for dtype in (np.float32, np.float64)]
        assert all(hits)
        _run(np.float32, np.float64)


def test_what_nobody_uses_for_a_month_is_removed(folder):
    _run(np.float32)
    (used,) = folder.glob("*.nbc")
    old_version, unused = folder / "0123456789abcdef-256", folder / "relu.forward-0.nbc"
    old_version.mkdir()
    long_ago = time.time() - 40 * files.DAY
    for path in (unused, old_version / "a.nbi", old_version / "young.nbi"):
        path.write_text("")
        os.utime(path, (long_ago, long_ago))
    for path in (used, old_version):
        os.utime(path, (long_ago, long_ago))
    _run(np.float32)  # loads, which removes nothing, but shows that the file is in use
    assert unused.exists()
    os.utime(old_version / "young.nbi")
    cache._remove_unused.cache_clear()
    _run(np.float64)
    assert used.exists()
    assert not unused.exists()
    assert old_version.exists()
    os.utime(old_version / "young.nbi", (long_ago, long_ago))
    files.clear_folder(files.UNUSED_DAYS)
    assert not old_version.exists()


def test_the_folder_is_measured_and_emptied(folder):
    assert files.folder_size() == 0
    _run()
    sizes = [path.stat().st_size for path in folder.iterdir()]
    assert files.folder_size() == sum(sizes) > 1000
    files.clear_folder()
    assert not list(folder.iterdir())
    _run()


def test_a_user_without_a_home(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(files.Path, "home", no_home)
    with pytest.raises(NotADirectoryError):
        files._users_folder().mkdir(parents=True)

"""The folder of compiled kernels: missing, full, damaged, or not the user's to write."""

import resource
import warnings

import numba
import numpy as np
import pytest
from fastmlp_kernels import cache, jit

VALUES = np.arange(5.0)


def _twice(x, y):
    for i in range(len(x)):
        y[i] = 2 * x[i]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "kernels"
    monkeypatch.setattr(cache, "cache_folder", lambda: folder)
    monkeypatch.setattr(cache, "_warned", False)
    monkeypatch.setattr(jit._Compiling, "announced", True)
    return folder


def _run(*dtypes):
    """Compile or load the kernel for each dtype, as a new process does."""
    kernel = jit.Kernel(_twice, lambda real: (jit.view(real, 1), jit.result(real, 1)), False)
    for dtype in dtypes or (np.float64,):
        y = np.empty(5, dtype)
        kernel[y.dtype](VALUES.astype(dtype), y)
        assert (y == 2 * VALUES).all()


def test_a_loaded_kernel_is_linked_into_others(folder):
    _run()
    kernel = jit.Kernel(_twice, lambda real: (jit.view(real, 1), jit.result(real, 1)), False)
    dispatcher = kernel[VALUES.dtype]
    assert dispatcher.stats.cache_hits
    y = np.empty(5)
    numba.njit(lambda x, y: dispatcher(x, y))(VALUES, y)
    assert (y == 2 * VALUES).all()


def _run_and_warn_once(message):
    with pytest.warns(RuntimeWarning, match=message) as warned:
        _run(np.float64, np.float32)
    assert len(warned) == 1


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
    assert not list(folder.glob("*.nbc"))
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
    with warnings.catch_warnings(record=True) as warned:
        _run()
    assert not warned


def test_an_index_whose_code_is_lost(folder):
    _run()
    for path in folder.glob("*.nbc"):
        path.unlink()
    _run()
    assert list(folder.glob("*.nbc"))


def test_a_user_without_a_home(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cache.Path, "home", no_home)
    with pytest.raises(NotADirectoryError):
        cache._users_folder().mkdir(parents=True)

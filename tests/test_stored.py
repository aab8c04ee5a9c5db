"""Compiled code that is called without Numba: when that is so, and that nothing else differs."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fastmlp_kernels.compiling import jit, late, stored
from fastmlp_kernels.compiling.call import MOST_ARGUMENTS, invoke
from fastmlp_kernels.compiling.jit import address_of
from fastmlp_kernels.compiling.lean import lean_code
from fastmlp_kernels.compiling.passed import AXES, LENGTH, PASSED_WORDS, SIZE, START, WIDTH
from fastmlp_kernels.plans.memory import array_at
from fastmlp_kernels.plans.operands import KERNEL, set_word, word
from fastmlp_kernels.plans.team import wait
from helpers import needs_plain_pointers

import fastmlp

# A small model, trained and asked for predictions; prints a hash of all that comes of it.
SCRIPT = """
import hashlib, sys
import numpy as np
import fastmlp
random = np.random.default_rng(0)
x, y = random.random((200, 70), np.float32), random.integers(0, 10, 200)
model = fastmlp.MLP([70, 30, 10], rng=0)
history = model.fit(x, y, epochs=2, batch_size=64, optimizer="adam", max_norm=1.0, rng=0)
some = [model.predict_proba(x), model.predict(x[:1]), np.array(history.loss)]
digest = hashlib.sha256(model.flat_parameters.tobytes() + b"".join(map(np.ndarray.tobytes, some)))
print(digest.hexdigest()[:8], "numba" in sys.modules)
"""


def start(folder, before="", after="", **variables):
    """Run the script in a new process, with a folder of its own; return what it prints."""
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", before + SCRIPT + after],
        env=os.environ | {"PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(folder)} | variables,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A folder with all that the script needs, and the hash that this prints."""
    folder = tmp_path_factory.mktemp("filled")
    digest, loaded = start(folder)
    assert loaded == "True"
    assert start(folder)[0] == digest  # with one thread, until more would gain something
    return folder, digest


@pytest.fixture
def run(filled, tmp_path):
    """Run the script with a copy of that folder."""
    shutil.copytree(filled[0], tmp_path, dirs_exist_ok=True)
    return partial(start, tmp_path)


@pytest.fixture
def warm(filled):
    return filled[1]


@needs_plain_pointers
def test_a_second_start_has_the_same_bits_without_numba(run, warm):
    assert run() == [warm, "False"]
    assert run(before="import numba\n") == [warm, "True"]


CHANGES = {
    "a variable": {"NUMBA_OPT": "2"},
    "other vectors": {"FASTMLP_VECTOR_BITS": "0"},
}


@needs_plain_pointers
def test_what_code_depends_on_is_asked_of_numba_where_it_differs(run, warm, tmp_path):
    for variables in CHANGES.values():
        assert run(**variables) == [warm, "True"]
        run(**variables)
        assert run(**variables) == [warm, "False"]
    (tmp_path / ".numba_config.yaml").write_text("{}")
    assert run() == [warm, "True"]
    (tmp_path / ".numba_config.yaml").unlink()
    before = "import os, fastmlp_kernels.compiling.late; os.environ['NUMBA_OPT'] = '2'\n"
    assert run(before=before) == [warm, "True"]


def test_other_versions_have_other_files(monkeypatch):
    def state():
        stored._environment.cache_clear()
        return stored._environment()

    states = {state()}
    for place, name, value in (
        (stored.llvmlite, "__version__", "0.0"),
        (stored.llvm, "get_host_cpu_name", lambda: "other"),
        (stored.llvm, "get_host_cpu_features", lambda: type("", (), {"flatten": lambda _: "+x"})()),
        (stored.sys, "version", "3.0"),
        (stored.sys, "abiflags", "t"),
        (stored.platform, "machine", lambda: "other"),
        (Path, "read_bytes", lambda path: b"another version of Numba"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, value)
            states.add(state())
    assert len(states) == 8
    with monkeypatch.context() as patch:
        patch.setattr(stored.importlib.util, "find_spec", lambda name: None)
        assert state() is None
    stored._environment.cache_clear()


@needs_plain_pointers
def test_damaged_and_lost_files_are_written_again(run, warm, tmp_path):
    damaged, lost = list(tmp_path.glob("fastmlp/*_kernel.lean-*"))[:2]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    lost.unlink()
    assert run() == [warm, "True"]
    assert run() == [warm, "False"]


def test_code_of_settings_that_only_a_process_has_is_not_kept(tmp_path):
    """Neither where a program sets up Numba, nor where it does so once we have imported both."""
    early = "import numba\nnumba.config.LOOP_VECTORIZE = 0\n"
    late = "import os, fastmlp_kernels.compiling.late\nos.environ['NUMBA_LOOP_VECTORIZE'] = '0'\n"
    for before in (early, late, PATCHED):
        start(tmp_path, before)
        assert not list(tmp_path.glob("fastmlp/*_kernel.lean-*"))


PATCHED = """
from fastmlp_kernels.compiling.late import Late
Late("compiling.jit").jit
import numba
numba.config.LOOP_VECTORIZE = 0
"""


@needs_plain_pointers
def test_threads_are_loaded_once_they_gain_more_than_that_takes(run, warm):
    two = "import os\nos.sched_getaffinity = lambda pid: {0, 1}\n"
    assert run(before=two) == [warm, "False"]
    soon = two + "import fastmlp.threads\nfastmlp.threads.WORTH_LOADING = 1 << 18\n"
    assert run(before=soon) == [warm, "True"]


def words_of(*arguments):
    """The words that a C function is given."""

    def tell(call, _, __):
        set_word(call, 0, word(call, word(call, 1 + PASSED_WORDS)))

    function, place = invoke(), address_of(tell, KERNEL)
    count = PASSED_WORDS * len(arguments)
    told = [function(place, 1 + 2 * PASSED_WORDS + i, *arguments) for i in range(count)]
    return [told[i : i + PASSED_WORDS] for i in range(0, count, PASSED_WORDS)]


def test_a_c_function_is_given_arrays_and_integers():
    class Derived(np.ndarray):
        pass

    whole = np.zeros((3, 4, 5))
    arrays = [whole, whole[1:, ::2], whole.view(Derived), np.zeros(7, np.int8), np.array(1.0)]
    arrays.append(np.empty((0, 6)))
    for array, told in zip(arrays, words_of(*arrays), strict=True):
        shape = array.shape or (1,)
        assert told[START] == array.ctypes.data
        assert (told[SIZE], told[AXES]) == (array.size, array.ndim)
        assert (told[LENGTH], told[WIDTH]) == (shape[0], shape[-1])
    numbers = [0, -1, 2**63 - 1, -(2**63), True, np.int64(-5)]
    assert [told[START] for told in words_of(*numbers)] == numbers


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], TypeError),
        ([0] * (MOST_ARGUMENTS + 1), TypeError),
        ([0, "x"], TypeError),
        ([0, 1.5], TypeError),
        ([0, None], TypeError),
        ([0, 2**63], OverflowError),
    ],
)
def test_wrong_arguments_are_errors(arguments, error):
    with pytest.raises(error):
        invoke()(*arguments)


def test_others_run_while_a_c_function_does():
    """Without the GIL: else this would wait for ever."""
    from concurrent.futures import ThreadPoolExecutor

    def stay(call, _, __):
        flags, spins = word(call, 1 + PASSED_WORDS), np.int64(0)
        set_word(flags, 0, 1)
        while word(flags, 1) == 0:
            spins = wait(spins)  # else the compiler may read the word once, before the loop

    place, flags = address_of(stay, KERNEL), np.zeros(2, np.int64)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(invoke(), place, flags)
        while not flags[0]:
            pass
        flags[1] = 1
        assert waiting.result(60) == 0


def _lean(function):
    place = address_of(function, KERNEL)
    return lean_code(*jit.compiled_at[place], "symbol")


@needs_plain_pointers
def test_code_with_an_allocator_is_not_kept():
    def allocates(call, _, __):
        set_word(call, 0, np.empty(word(call, 1), np.int64)[0])

    def reads(call, _, __):
        set_word(call, 0, array_at(np.int64(0), call, word(call, 1))[1])

    with pytest.raises(ValueError, match="it calls NRT_"):
        _lean(allocates)
    assert _lean(reads)


@needs_plain_pointers
def test_what_code_raises_is_told(monkeypatch):
    """As Numba's own C functions do it, for those who call one that can't raise."""

    def raises(call, _, __):
        if word(call, 1 + PASSED_WORDS) == 5:
            raise ValueError("five")
        set_word(call, 0, 7)

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: told.append(error.exc_type))
    loaded = stored._load(_lean(raises), "symbol")
    assert invoke()(loaded, 4) == 7
    assert not told
    assert invoke()(loaded, 5) == 0
    assert told == [SystemError]


def test_fork_while_modules_are_imported(tmp_path):
    """A child waits for what another thread of its parent imports."""
    code = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
from fastmlp_kernels.compiling import late
started = threading.Event()
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "fastmlp_kernels.relu":
            started.set()
            time.sleep(0.3)
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: late.Late("relu").forward)
thread.start()
started.wait()
child = os.fork()
if child == 0:
    late.Late("relu").forward
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "7\n", done.stderr


def test_names_that_modules_of_kernels_do_not_have():
    with pytest.raises(AttributeError):
        late.Late("relu").backwards  # noqa: B018
    with pytest.raises(AttributeError):
        late.Late("nowhere").__wrapped__  # noqa: B018


def test_a_model_whose_kernels_are_loaded_goes_on_with_numba():
    assert fastmlp.MLP([3, 4, 2], rng=0).predict(np.zeros((2, 3), np.float32)).shape == (2,)

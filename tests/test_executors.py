"""fit_many on executors: each beside fit_many alone, deaths of workers, errors, Ctrl-C."""

import copy
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
from helpers import figures, state_of

import fastmlp
from fastmlp import MLP, reference
from fastmlp.executors import engines, training, waiting, worker
from fastmlp.executors.arrays import OnDisk, on_disk

ROOT = Path(__file__).parents[1]
LIMIT = 60  # seconds for all that might hang
N = 1200
X = np.random.default_rng(1).standard_normal((N, 16)).astype(np.float32)  # sent once: 75 KiB
LABELS = np.random.default_rng(2).integers(0, 3, N)
WEIGHT = np.random.default_rng(3).integers(1, 3, N) / 2


@pytest.fixture(autouse=True)
def _in_time():
    """End a test that hangs."""

    def end(*_):
        raise TimeoutError(f"expected a test of less than {LIMIT} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Blocks of one model and more, however quick this machine is; workers of one thread."""
    monkeypatch.setattr(waiting, "SHORTEST", 0.002)
    monkeypatch.setattr(waiting, "SECONDS", 0.01)
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        executor.submit(int).result()  # its workers start before a test offers them arrays
        yield executor


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and three workers of Dask, processes on this machine: a client, the workers."""
    import distributed

    folder = tmp_path_factory.mktemp("dask")
    file, environment = folder / "scheduler.json", {**os.environ, "FASTMLP_NUM_THREADS": "1"}
    paths = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    common = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
    common += ["--dashboard-address", ":0"]  # of the server that tells its state, in any case
    worker = ["worker", *common, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder)]
    processes = []
    try:
        for arguments in (["scheduler", *common, "--port", "0"], worker, worker, worker):
            command = [sys.executable, "-m", f"distributed.cli.dask_{arguments[0]}", *arguments[1:]]
            with (folder / "log").open("ab") as log:
                processes.append(
                    subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
                )
            for _ in range(10 * LIMIT):
                if file.exists():
                    break
                time.sleep(0.1)
        with distributed.Client(scheduler_file=str(file), timeout=LIMIT) as client:
            client.wait_for_workers(3, timeout=LIMIT)
            yield client, processes[1:]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(LIMIT)


class Own(MLP):
    """A class of somebody else's, which fit_many trains one after the other."""

    fault = None

    def _trains_together(self):
        return False

    def _train_epoch(self, *arguments):
        if self.fault is not None:
            self.fault()
        return super()._train_epoch(*arguments)


def shared():
    """Models with samples in common, of which each has a part, in all kinds of trainings."""
    models = [MLP([16, 3 + i % 3, 3], rng=i) for i in range(10)]
    models += [reference.MLP([16, 2, 3], rng=0), Own([16, 4, 3], rng=0)]
    models[3].fit(X, LABELS, epochs=1, rng=0)
    count = len(models)
    generator = np.random.default_rng(5)
    return models, {
        "x": X, "y": LABELS, "epochs": [3, 2, 4] * 4, "batch_size": 64,
        "rows": [np.arange(i, N, 1 + i) for i in range(count)],
        "learning_rate": [0.01, 0.1, 1e38, 0.02, 0.02, 0.5, *[0.2] * (count - 6)],
        "optimizer": ["adam", "sgd", "sgd", "adam", "momentum", "nesterov", *["adamw"] * 6],
        "resume": [number == 3 for number in range(count)],
        "rng": [generator, np.random.PCG64(3), *range(count - 2)],
        "shuffle": [*[True] * (count - 1), False], "sample_weight": WEIGHT,
        "validation": (X[:50], LABELS[50:100]), "patience": [None, 1] * 6,
    }  # fmt: skip


def own():
    """Models with samples of their own, wide ones and others, regressions among them."""
    models = [
        MLP([16, 4, 3], rng=0, dtype=np.float64),
        MLP([16, 5, 2], rng=1, loss="squared_error", activation="tanh"),
        MLP([16, 3, 1], rng=2, loss="binary_cross_entropy"),
    ]
    wide = X.astype(np.float64)
    return models, {
        "x": [wide, X[:300], X[:40]], "y": [LABELS, X[:300, :2], LABELS[:40] > 0], "epochs": 2,
        "rng": [0, 1, 2], "sample_weight": [None, WEIGHT[:300], None],
        "class_weight": [None, None, "balanced"], "learning_rate": 0.01,
    }  # fmt: skip


def run(case, executor=None, **more):
    """Train a case; return the models' states, histories, and where generators stand."""
    models, arguments = copy.deepcopy(case[0]), {**case[1], "rng": copy.deepcopy(case[1]["rng"])}
    with np.errstate(all="ignore"):
        histories = fastmlp.fit_many(models, executor=executor, **arguments, **more)
    rngs = [one for one in arguments["rng"] if not isinstance(one, int)]
    states = [getattr(one, "bit_generator", one).state for one in rngs]
    return [*map(state_of, models)], [*map(figures, histories)], states


def ending(number, history):
    """A callback that ends each third model after its second epoch."""
    return number % 3 == 0 and len(history.loss) == 2


def check(executor, callbacks=(None, ending)):
    """Assert that an executor gives what there is without one."""
    for case in (shared(), own()):
        for callback in callbacks:
            expected, found = run(case, callback=callback), run(case, executor, callback=callback)
            for mine, theirs in zip(found, expected, strict=True):
                for number, (one, other) in enumerate(zip(mine, theirs, strict=True)):
                    assert one == other, number


def test_processes_and_threads_have_the_bits_of_fit_many_alone(pool):
    check(pool)
    with ThreadPoolExecutor(2) as threads:
        check(threads)


def test_joblibs_processes_do(monkeypatch, capfd):
    check(joblib.Parallel(n_jobs=2), callbacks=[None])
    models, arguments = own()
    fastmlp.fit_many(models, executor=joblib.Parallel(n_jobs=1), progress=True, **arguments)
    assert "6/6" in capfd.readouterr().err


def after_two_blocks(monkeypatch, kill):
    """Let kill() be called when two blocks of one model are back; return the blocks tried again."""
    found, again = [], []
    put_again = waiting.Waiting.put_again

    def measure(self, *arguments):
        found.append(arguments)
        if len(found) == 2:
            kill()

    def put(self, one):
        again.append(one)
        put_again(self, one)

    monkeypatch.setattr(waiting, "SECONDS", 0.0)
    monkeypatch.setattr(waiting.Waiting, "measure", measure)
    monkeypatch.setattr(waiting.Waiting, "put_again", put)
    return again


def test_a_cluster_of_dask_does_although_a_worker_dies(cluster, monkeypatch):
    client, workers = cluster
    check(client, callbacks=[ending])
    after_two_blocks(monkeypatch, workers[0].kill)
    check(client, callbacks=[None])
    assert workers[0].wait(LIMIT) == -signal.SIGKILL
    assert len(client.nthreads()) == 2


def test_what_lies_on_a_cluster_is_not_sent(cluster, tmp_path):
    client, _ = cluster
    models, arguments = shared()
    expected = run((models, arguments))
    np.save(tmp_path / "x.npy", X)
    for x in (client.scatter(X), client.submit(np.load, str(tmp_path / "x.npy"), mmap_mode="r")):
        assert run((models, {**arguments, "x": x}), client) == expected
    future = client.scatter(X[:, :5])
    with pytest.raises(ValueError, match=r"models\[0\]: x: expected .* 16 numbers"):
        fastmlp.fit_many(models, future, LABELS, executor=client)
    with pytest.raises(TypeError, match="executor: expected a Client"), ThreadPoolExecutor() as it:
        fastmlp.fit_many(models, future, LABELS, executor=it)

    def inside():  # a task that waits for others takes no worker's thread from them
        from distributed import get_client

        models = [MLP([16, 4, 3], rng=i) for i in range(4)]
        fastmlp.fit_many(models, X, LABELS, epochs=1, rng=0, executor=get_client())
        return [*map(state_of, models)]

    tasks = [client.submit(inside, pure=False) for _ in range(3)]
    assert client.gather(tasks)[0] == inside_alone()


def inside_alone():
    models = [MLP([16, 4, 3], rng=i) for i in range(4)]
    fastmlp.fit_many(models, X, LABELS, epochs=1, rng=0)
    return [*map(state_of, models)]


def test_a_grid_search_on_a_cluster_has_the_scores_and_bits_of_a_serial_one(cluster):
    from sklearn.model_selection import GridSearchCV

    from fastmlp.sklearn import MLPClassifier

    def search():
        model = MLPClassifier((4,), max_iter=3, random_state=0, learning_rate_init=0.01)
        grid = GridSearchCV(model, {"alpha": [0.0, 0.1], "batch_size": [32, 64]}, cv=3, n_jobs=-1)
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # three epochs are too few
            grid.fit(X[:300], LABELS[:300])
        scores = [grid.cv_results_[f"split{i}_test_score"].tolist() for i in range(3)]
        return scores, [W.tobytes() for W in grid.best_estimator_.coefs_]

    with joblib.parallel_config(backend="sequential"):
        expected = search()
    with joblib.parallel_config(backend="dask"):
        assert search() == expected


def test_mpi_ranks_do_as_the_page_says(tmp_path):
    page = (ROOT / "docs" / "several-machines.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (script,) = [block for block in blocks if "MPIPool" in block]
    (tmp_path / "many.py").write_text(script)
    mpiexec = Path(sys.executable).with_name("mpiexec")
    command = [str(mpiexec), "-n", "3", sys.executable, "-m", "mpi4py.futures", "many.py"]
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, timeout=LIMIT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    names = {"__name__": "alone"}
    exec(script, names)
    assert ran.stdout.strip() == names["trained"](None)


@pytest.fixture
def lone_worker():
    """A pool of one: which of several workers takes the next block is chance."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        executor.submit(int).result()
        yield executor


def test_arrays_are_sent_when_a_worker_asks_for_them(lone_worker, monkeypatch):
    sent = []

    def submit(function, block, arrays):
        sent.append(len(arrays))
        return real(function, block, arrays)

    real = lone_worker.submit
    monkeypatch.setattr(lone_worker, "submit", submit)
    monkeypatch.setattr(waiting, "SECONDS", 0.0)  # blocks of one model
    x = X + 1  # which the worker hasn't yet
    for asked in (2, 0):  # two blocks are on their way to it
        models = [MLP([16, 4, 3], rng=i) for i in range(12)]
        fastmlp.fit_many(models, x, LABELS, epochs=2, executor=lone_worker)
        assert sum(sent) == asked
        assert len(sent) == 12 + asked
        sent.clear()


def test_a_map_of_a_file_is_not_sent(pool, tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    np.save(path, np.concatenate([X, X]))
    x = np.load(path, mmap_mode="r")
    for part in (x, x[N:], x[7:90].reshape(83, 4, 4)):
        np.testing.assert_array_equal(on_disk(part).read(), part)
    for part in (x[::2], np.load(path, mmap_mode="c"), X):
        assert on_disk(part) is None
    models, arguments = shared()
    expected = run((models, arguments))
    monkeypatch.setattr(engines, "offered", {})
    monkeypatch.setattr(training.Arguments, "block", without_arrays(training.Arguments.block))
    assert run((models, {**arguments, "x": x[:N]}), pool) == expected
    np.save(path, X)
    np.save(tmp_path / "y.npy", LABELS)
    paths = {"x": str(path), "y": tmp_path / "y.npy"}
    assert run((models, {**arguments, **paths}), pool) == expected
    changed = on_disk(np.load(path, mmap_mode="r"))._replace(size=3)
    with pytest.raises(ValueError, match="expected the caller's file, 3 bytes"):
        changed.read()


def without_arrays(block):
    def checked(self, *arguments):
        made = block(self, *arguments)
        assert isinstance(made.x, OnDisk)
        assert not made.keys
        return made

    return checked


def test_a_dead_workers_blocks_run_again(monkeypatch):
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        kill = lambda: os.kill(next(iter(executor._processes)), signal.SIGKILL)  # noqa: E731
        again = after_two_blocks(monkeypatch, kill)
        check(executor, callbacks=[None])
        assert again


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # loky's
def test_joblib_starts_others_where_workers_die(monkeypatch):
    from joblib.externals.loky import reusable_executor

    def kill():
        os.kill(next(iter(reusable_executor._executor._processes)), signal.SIGKILL)

    again = after_two_blocks(monkeypatch, kill)
    check(joblib.Parallel(n_jobs=2), callbacks=[None])
    assert again


def die():
    os._exit(1)


def divide():
    return 1 // 0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (die, r"models\[5\]: expected a worker that lives, got none 3 times, at last Broken"),
        (divide, r"models\[5\]: expected a worker to train, got ZeroDivisionError: .*; leave"),
    ],
)
def test_a_model_that_no_worker_trains_is_named(fault, message):
    models = [MLP([16, 4, 3], rng=i) for i in range(4)] + [Own([16, 4, 3], rng=i) for i in range(4)]
    models[5].fault = fault
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:  # noqa: SIM117
        with pytest.raises(RuntimeError, match=message):
            fastmlp.fit_many(models, X, LABELS, epochs=2, rng=0, executor=executor)


def test_wrong_arguments_name_the_model_before_anything_is_sent(pool):
    models = [MLP([16, 4, 3], rng=i) for i in range(4)]
    with pytest.raises(ValueError, match=r"models\[2\]: epochs: expected 1 or more, got 0"):
        fastmlp.fit_many(models, X, LABELS, epochs=[1, 1, 0, 1], executor=pool)
    for wrong in (3, ProcessPoolExecutor, "joblib"):
        with pytest.raises(TypeError, match="executor: expected what has submit") as error:
            fastmlp.fit_many(models, X, LABELS, executor=wrong)
    mend = str(error.value).split("pass executor=")[1]
    assert mend == "concurrent.futures.ProcessPoolExecutor()"
    assert fastmlp.fit_many([], X, LABELS, executor=pool) == []


def test_an_interrupt_in_a_callback_leaves_epochs(pool):
    models = [MLP([16, 4, 3], rng=i) for i in range(8)]
    others = copy.deepcopy(models)

    def interrupt(number, history):
        if len(history.loss) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="each model whose block was back") as error:
        fastmlp.fit_many(models, X, LABELS, epochs=3, rng=0, callback=interrupt, executor=pool)
    lengths = [len(history.loss) for history in error.value.histories]
    assert max(lengths) == 2
    for model, other, epochs in zip(models, others, lengths, strict=True):
        if epochs:
            other.fit(X, LABELS, epochs=epochs, rng=0)
        assert state_of(model) == state_of(other)


INTERRUPTED = """
import copy, json, sys
import numpy as np
import fastmlp
from concurrent.futures import ProcessPoolExecutor

x = np.random.default_rng(0).standard_normal((2000, 16)).astype(np.float32)
y = np.arange(2000) % 3
models = [fastmlp.MLP([16, 8, 3], rng=i) for i in range(400)]
before, alone = copy.deepcopy(models), copy.deepcopy(models)
fastmlp.fit_many(alone, x, y, epochs=40, rng=0)
loaded = "fastmlp.executors" in sys.modules
from fastmlp.executors import waiting

def measure(self, *arguments, real=waiting.Waiting.measure):
    real(self, *arguments)
    print("under way", flush=True)

waiting.Waiting.measure = measure
with ProcessPoolExecutor(2) as executor:
    try:
        fastmlp.fit_many(models, x, y, epochs=40, rng=0, executor=executor)
    except KeyboardInterrupt as error:
        lengths = [len(history.loss) for history in error.histories]
bits = lambda model: model.flat_parameters.tobytes()
right = [bits(m) == bits(a if n else b) for m, n, a, b in zip(models, lengths, alone, before)]
print(json.dumps([loaded, all(right), sorted({*lengths})]))
"""


def interrupted(script, answer=None):
    """Send a script Ctrl-C when it is under way, and again when it answers that; its outcome."""
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment, start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            assert process.stdout.readline() == "under way\n"
            os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: workers get it, too
            if answer is not None:
                while process.stdout.readline() != answer:
                    assert process.poll() is None
                os.killpg(process.pid, signal.SIGINT)
            output, errors = process.communicate(timeout=LIMIT / 2)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # workers that hang hold the pipes
            raise
    return process.returncode, output, errors


def test_ctrl_c_ends_in_time_and_leaves_whole_models():
    code, output, errors = interrupted(INTERRUPTED)
    assert code == 0, errors
    assert "Traceback" not in errors
    assert json.loads(output.splitlines()[-1]) == [False, True, [0, 40]]


def test_a_second_ctrl_c_ends_a_caller_that_waits_for_its_pool():
    caught = "except KeyboardInterrupt as error:\n"
    # In a moment, in which workers hear the first one: they look for it every 50 ms.
    answer = "        __import__('time').sleep(1); print('over', flush=True)\n"
    script = INTERRUPTED.replace("epochs=40", "epochs=400").replace(caught, caught + answer)
    code, _, errors = interrupted(script, "over\n")
    assert code in (0, -signal.SIGINT), errors  # 0: the pool had ended before


def test_blocks_of_an_interrupted_call_are_not_trained(monkeypatch):
    monkeypatch.setattr(worker, "_call", "one")
    monkeypatch.setattr(worker, "_interrupted", True)
    monkeypatch.setattr(worker, "train_kept", lambda block, arrays: block.call)
    with pytest.raises(KeyboardInterrupt):
        worker.train_in_process(SimpleNamespace(call="one"), {})
    before = signal.getsignal(signal.SIGINT)
    try:
        assert worker.train_in_process(SimpleNamespace(call="another"), {}) == "another"
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_twice():
    """Send two interrupts, the second one when the first has come."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(LIMIT)
    finally:
        os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupt_ends_what_a_worker_trains_and_never_the_worker():
    models = [MLP([16, 4, 3], rng=i) for i in range(4)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as executor:
        fastmlp.fit_many(models, X, LABELS, executor=executor)
        for process in executor._processes:  # which wait for a block
            os.kill(process, signal.SIGINT)
        fastmlp.fit_many(models, X, LABELS, executor=executor)
        faulty = Own([16, 4, 3], rng=0)
        faulty.fault = interrupt_twice
        with pytest.raises(KeyboardInterrupt, match="each model whose block was back"):
            fastmlp.fit_many([faulty], X, LABELS, executor=executor)
        fastmlp.fit_many(models, X, LABELS, executor=executor)
        assert executor.submit(int).result() == 0  # a pool that has lost a worker takes nothing


def test_blocks_are_as_long_as_they_should_be():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "SECONDS", 1.0)
        patch.setattr(waiting, "SHORTEST", 0.1)
        waits = waiting.Waiting([0.125] * 96, None)  # 12 seconds
        first = waits.take(2)
        assert len(first.numbers) == 8
        waits.measure(first, 0.5, 1)  # which took half of what was thought
        lengths = []
        while one := waits.take(2):
            lengths.append(len(one.numbers))
        assert lengths[0] == 16
        assert sum(lengths) == 88
        assert lengths[-1] <= 2
        waits = waiting.Waiting([5.0, 1e-9, 1e-9, 7.0], None)
        assert [waits.take(1).numbers for _ in range(2)] == [[3], [0]]
        waits.measure(waiting.Run([0], None, 0), 5.0, 3)
        waits.put([5 - 5, 3], None)
        assert waits.take(1).numbers == [1, 2, 0]  # each of three threads has one

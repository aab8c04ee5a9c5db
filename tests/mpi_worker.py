"""What each rank runs for test_mpi.py: trainings by all ranks, and what ends them.

`mpiexec -n 3 python tests/mpi_worker.py` prints as JSON what rank 0 has gathered: the digests of
the trainings, and each rank's errors.
"""

import json
import os
import re
import signal
import threading
from functools import cache

import numpy as np
from digests import digest
from helpers import floats

import fastmlp
from fastmlp import reference

SAMPLES = 5137  # a last batch of less than a leaf, or of fewer leaves than 8 ranks
LABELS = np.arange(SAMPLES) * 7 % 5
WEIGHT = np.abs(floats(5, (SAMPLES,), np.float64))
WEIGHT[::3] = 0
# optimizer, loss, outputs, batch size, what else: in both dtypes
FITS = [
    ("sgd", "squared_error", 3, 2100, {"sample_weight": WEIGHT}),
    ("momentum", "binary_cross_entropy", 1, 2100, {"class_weight": "balanced"}),
    ("nesterov", "huber", 2, 2048, {"max_norm": 0.01, "weight_decay": 0.1, "decay_bias": False}),
    ("adam", "cross_entropy", 5, 2560, {"sample_weight": WEIGHT, "class_weight": "balanced"}),
    ("adamw", "poisson", 2, SAMPLES, {"max_norm": 0.01, "weight_decay": 0.1}),
    ("sgd", "absolute_error", 1, 4096, {"shuffle": False}),
]


def dense(dtype, outputs=5):
    return floats(1, (SAMPLES, 12), dtype, -3, 1), targets(outputs, dtype)


def targets(outputs, dtype):
    return floats(2, (SAMPLES, outputs), dtype, -3, 1)


@cache
def sparse(dtype):
    """Samples whose zeros the first layer of [200, 90, 5] passes over."""
    kept = np.random.PCG64(60).random_raw(SAMPLES * 200) % np.uint64(10) < 2
    return np.where(kept.reshape(SAMPLES, -1), floats(61, (SAMPLES, 200), dtype), dtype(0))


def result(model, history):
    state = model.optimizer_state
    figures = [history.loss, history.accuracy, history.validation_loss]
    return digest(
        model.flat_parameters, state.arrays, *map(np.array, figures),
        np.array([state.step, -1 if history.best_epoch is None else history.best_epoch]),
    )  # fmt: skip


def fits(dtype, more):
    """Each optimizer and loss, and what goes with them; with many ranks, in one dtype each."""
    few = "comm" not in more or more["comm"].size <= 3
    which = slice(None) if few else slice(int(dtype == np.float64), None, 2)
    for optimizer, loss, outputs, batch_size, how in FITS[which]:
        x, y = dense(dtype, outputs)
        y = {"cross_entropy": LABELS, "poisson": np.floor(np.abs(4 * y))}.get(loss, y)
        y = (y > 0).astype(dtype) if loss == "binary_cross_entropy" else y
        model = fastmlp.MLP([12, 9, outputs], dtype=dtype, rng=1, loss=loss)
        rng = np.random.default_rng(3)
        how = {"batch_size": batch_size, "optimizer": optimizer, "rng": rng} | how
        for resume in (False, True):
            history = model.fit(x, y, epochs=1, resume=resume, **how, **more)
        yield f"{optimizer} {loss}", result(model, history)


def others(dtype, more):
    """Zeros that are passed over, patience, a callback, plain NumPy, a head of its own."""
    model = fastmlp.MLP([200, 90, 5], dtype=dtype, rng=1)
    history = model.fit(sparse(dtype), LABELS, epochs=2, batch_size=3000, rng=1, **more)
    yield "zeros", result(model, history)
    tiny = np.full((SAMPLES, 3), np.finfo(dtype).smallest_subnormal)  # gradients of -0
    model = fastmlp.MLP([3, 2], dtype=dtype, rng=1, loss="squared_error")
    model.W1 = np.full((4, 2), dtype(-0.0))
    how = {"epochs": 1, "batch_size": 4096, "optimizer": "sgd", "rng": 1}
    history = model.fit(tiny, np.ones((SAMPLES, 2), dtype), **how, **more)
    yield "minus 0", result(model, history)
    x, _ = dense(dtype)
    broken = sparse(dtype).copy()
    broken[SAMPLES - 3, 7] = np.inf
    model = fastmlp.MLP([200, 90, 5], dtype=dtype, rng=1)
    how = {"epochs": 2, "batch_size": 2048, "check_finite": False, "optimizer": "sgd"}
    with np.errstate(all="ignore"):
        history = model.fit(broken, LABELS, learning_rate=1e-3, shuffle=False, **how, **more)
    yield "inf", result(model, history)
    model = fastmlp.MLP([12, 9, 5], dtype=dtype, rng=1)
    history = model.fit(
        x, LABELS, epochs=30, batch_size=4096, learning_rate=1.0, rng=1, patience=2,
        validation=(x[:300], LABELS[100:400]), **more,
    )  # fmt: skip
    assert history.best_epoch < len(history.loss) - 1 < 29
    yield "patience", result(model, history)
    model = fastmlp.MLP([12, 5], dtype=dtype, rng=1)
    ends = "comm" not in more or more["comm"].rank == more["comm"].size - 1
    history = model.fit(
        x, LABELS, epochs=9, batch_size=2048, rng=1, **more,
        callback=lambda history: ends and len(history.loss) == 2,
    )  # fmt: skip
    assert len(history.loss) == 2
    yield "callback", result(model, history)
    small = x[:2100], LABELS[:2100]
    model = reference.MLP([12, 4, 5], dtype=dtype, rng=1)
    yield "reference", result(model, model.fit(*small, epochs=1, batch_size=2048, rng=1, **more))
    if dtype == np.float64:
        model = fastmlp.NotebookMLP(rng=1)
        history = model.fit(
            floats(7, (2100, 784), dtype, -9, -6), small[1], epochs=1, batch_size=2048, rng=1,
            **more,
        )  # fmt: skip
        yield "notebook", result(model, history)


def by_rank(dtype, comm):
    """Rows that no rank holds whole, unevenly, in any order: without comm, all of them."""
    owner = np.random.PCG64(9).random_raw(SAMPLES) % np.uint64(100)
    for loss, outputs, how in (
        ("cross_entropy", 5, {"sample_weight": WEIGHT, "class_weight": "balanced"}),
        ("squared_error", 3, {"shuffle": False}),
    ):
        x, y = dense(dtype, outputs)
        y, rows = LABELS if loss == "cross_entropy" else y, np.arange(SAMPLES)
        if comm is not None:  # rank 0 has the most
            rows = np.flatnonzero(np.where(owner < 50, 0, owner % comm.size) == comm.rank)[::-1]
            how = how | {"comm": comm, "rows": rows}
        if "sample_weight" in how:
            how["sample_weight"] = WEIGHT[rows]
        model = fastmlp.MLP([12, 9, outputs], dtype=dtype, rng=1, loss=loss)
        history = model.fit(x[rows], y[rows], epochs=2, batch_size=2100, rng=3, **how)
        yield f"by rank {loss}", result(model, history)


def trainings(comm=None):
    """The digests of trainings by the ranks of a communicator, or without one."""
    more = {} if comm is None else {"comm": comm}
    rest = others if comm is None or comm.size <= 3 else lambda *_: ()
    return {
        f"{name} {np.dtype(dtype)}": hashed
        for dtype in (np.float32, np.float64)
        for cases in (fits(dtype, more), by_rank(dtype, comm), rest(dtype, more))
        for name, hashed in cases
    }


class Failing(fastmlp.MLP):
    """A model that fails in the middle of an epoch, where it shall."""

    fails = False

    def _train_epoch(self, *how):
        if self.fails:
            raise MemoryError("no room")
        return super()._train_epoch(*how)


def errors(comm):
    """By name, what this rank's fit raises."""
    x, _ = dense(np.float32)
    last, before = comm.rank == comm.size - 1, fastmlp.MLP([12, 5], rng=1).flat_parameters
    half = np.arange(comm.rank, SAMPLES, comm.size)

    def raised(x=x, y=LABELS, model=None, **how):
        model = model or fastmlp.MLP([12, 5], rng=1)
        first = model.flat_parameters.copy()
        try:
            model.fit(x, y, **{"comm": comm, "batch_size": 2048, "rng": 1, "epochs": 3} | how)
        except BaseException as error:
            changed = not np.array_equal(model.flat_parameters, first)
            return type(error).__name__, str(error), changed
        return "nothing", "", True

    def fail(history):
        if last and len(history.loss) == 2:
            raise ValueError("boom")

    def change(history):
        if last:
            changed.flat_parameters[3] += 1

    def spoil(history):
        if last and len(history.loss) == 1:
            history.validation_loss[-1] = -1.0

    failing = Failing([12, 5], rng=1)
    failing.fails = last
    found = {
        "callback": raised(callback=fail),
        "step": raised(model=failing),
        "x of one": raised(x=x[:, :9] if last else x),
        "numbers of one": raised(x=np.where(last, np.nan, x[half]), y=LABELS[half], rows=half),
        "learning_rate": raised(learning_rate=0.5 if last else 0.25),
        "samples": raised(x=x[: -int(last) or None], y=LABELS[: -int(last) or None]),
        "y": raised(y=LABELS * (not last)),
        "rng": raised(rng=int(last)),
        "weights": raised(model=fastmlp.MLP([12, 5], rng=int(last))),
        "sizes": raised(model=fastmlp.MLP([12, 5 + last], rng=1)),
        "shuffle": raised(shuffle=last),
        "validation": raised(validation=(x, LABELS), callback=spoil),
        "small": raised(batch_size=256 * comm.size - 1),
        "few": raised(x=x[:200], y=LABELS[:200]),
        "twice": raised(rows=np.zeros(SAMPLES, int)),
        "rows of some": raised(rows=None if last else np.arange(SAMPLES)),
        "floats": raised(rows=half * 1.0, x=x[half], y=LABELS[half]),
        "diverged": raised(learning_rate=1e38, optimizer="sgd"),
        "comm": raised(comm="world"),
        "rows alone": raised(comm=None, rows=half),
    }  # fmt: skip
    changed = fastmlp.MLP([12, 5], rng=1)
    found["changed"] = raised(model=changed, callback=change)
    with fastmlp.arithmetic("numpy"):
        found["numpy"] = raised()
    assert np.array_equal(before, fastmlp.MLP([12, 5], rng=1).flat_parameters)
    return found


def drawn(comm):
    """Whether ranks without a seed shuffle alike."""
    x, _ = dense(np.float32)
    model = fastmlp.MLP([12, 5], rng=1)
    model.fit(x, LABELS, batch_size=2048, comm=comm, epochs=1)
    return digest(model.flat_parameters)


def interrupted(comm, in_callback):
    """Interrupt one rank: what its error says, and whether the model is as that epoch left it."""
    x, _ = dense(np.float32)
    model, how = fastmlp.MLP([12, 5], rng=1), {"batch_size": 2048, "rng": 1}

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.05, interrupt)

    def callback(history):
        if comm.rank == comm.size - 1 and len(history.loss) == 2:
            (interrupt if in_callback else timer.start)()

    try:
        model.fit(x, LABELS, comm=comm, epochs=100_000, callback=callback, **how)
    except KeyboardInterrupt as error:
        message = str(error)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    epoch = int(re.search(r"the model is as epoch (\d+) of 100000 left it", message).group(1))
    told = comm.allgather((epoch, digest(model.flat_parameters)))
    alone = fastmlp.MLP([12, 5], rng=1)
    alone.fit(x, LABELS, epochs=epoch, **how)
    assert epoch >= 2
    assert {*told} == {(epoch, digest(alone.flat_parameters))}
    return epoch


def main():
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    ours = comm.allgather(trainings(comm))
    found = comm.allgather(errors(comm))
    orders = {*comm.allgather(drawn(comm))}
    epochs = [interrupted(comm, in_callback) for in_callback in (False, True)]
    if comm.rank == 0:
        assert all(one == ours[0] for one in ours)
        print(json.dumps({
            "trainings": ours[0], "errors": found, "orders": len(orders), "epochs": epochs,
        }))  # fmt: skip


if __name__ == "__main__":
    main()

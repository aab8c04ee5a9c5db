"""Packed copies of a wide model's weights: the same bits, and new ones whenever somebody wrote."""

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
from fastmlp_kernels.plans import record
from helpers import DTYPES, assert_same_bits, floats, with_threads
from plans import accesses, race

import fastmlp
from fastmlp import reference
from fastmlp.model import packed_copies
from fastmlp.model.predictions import PackedCopies
from fastmlp.plan import predict
from fastmlp.plan.blocking import machine
from fastmlp.plan.predict import WIDE, WIDE_ROWS, Prediction, kept_bytes, plan_prediction

SIZES = [30, 70, 20, 4]
METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]


@pytest.fixture(autouse=True)
def _small_networks_are_wide(monkeypatch):
    monkeypatch.setattr(predict, "KEPT_WEIGHTS", 1)
    monkeypatch.setattr(predict, "SMALLEST_STAGE", 600)
    plan_prediction.cache_clear()
    yield
    plan_prediction.cache_clear()


def is_kept(model):
    """Whether a prediction now reads copies that are there already."""
    copies = vars(model)["_packed_copies"]
    return copies.version() is not None and copies.has(copies.version())


def asked(model, x):
    """What a model says twice: of its weights, then of copies that are made of them; then kept."""
    results = [model.predict_log_proba(x) for _ in range(3)]
    for result in results[1:]:
        assert_same_bits(result, results[0])
    return results[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [SIZES, [5, 300, 9, 310, 3], [300, 7], [9, 12, 70, 90]], ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_copies_give_the_bits_of_the_weights(sizes, dtype, activation):
    model = fastmlp.MLP(sizes, dtype=dtype, rng=1, activation=activation)
    other = reference.MLP(sizes, dtype=dtype, rng=1, activation=activation)
    x = floats(3, (WIDE_ROWS + 44, sizes[0]), dtype, -4, 1)
    rows = np.array([0, 1, 7, 200, WIDE_ROWS + 43])
    expected = {method: getattr(other, method)(x[rows]) for method in METHODS}
    for num_threads in (1, 2, 3):
        with with_threads(num_threads):
            for count in (3, 5, 13, 50, 130, WIDE_ROWS, WIDE_ROWS + 1, len(x)):
                few = rows[rows < count]
                for method in METHODS:
                    for _ in range(3):
                        result = getattr(model, method)(x[:count])
                        assert_same_bits(result[few], expected[method][: len(few)])
                assert is_kept(model)
            y = np.arange(len(x)) % sizes[-1]
            assert model.loss(x[rows], y[rows]) == other.loss(x[rows], y[rows])


def test_no_rows_and_wrong_rows():
    model, x = fastmlp.MLP(SIZES, rng=1), floats(3, (9, 30), np.float32)
    for _ in range(3):  # a call that does nothing makes no copies
        with pytest.raises(ValueError, match=r"^x: expected \(samples, ...\) with 30 numbers"):
            model.predict(x[:, :29].copy())
    assert not is_kept(model)
    assert_same_bits(asked(model, x), copy.deepcopy(model).predict_log_proba(x))
    assert model.predict(x[:0]).shape == (0,)
    x[5, 3] = np.nan
    with pytest.raises(ValueError, match=r"^x\[5, 3\]: expected finite numbers, got nan"):
        model.predict(x)
    with pytest.raises(ValueError, match=r"^x: expected \(samples, ...\) with 30 numbers"):
        model.predict(x[:, :29])


def _by_a_new_thread(model, x, y):
    thread = threading.Thread(target=lambda: model.W2.fill(0.25))
    thread.start()
    thread.join()


WRITERS = {
    "an element": lambda model, x, y: model.W1.__setitem__((3, 4), 2),
    "assignment": lambda model, x, y: setattr(model, "W2", np.full((71, 20), 0.5, np.float32)),
    "in place": lambda model, x, y: setattr(model, "W1", model.W1.__iadd__(0.5)),
    "the flat buffer": lambda model, x, y: model.flat_parameters.__imul__(-1),
    "its assignment": lambda model, x, y: setattr(
        model, "flat_parameters", np.ones(3674, np.float32)
    ),
    "the list": lambda model, x, y: model.parameters[2].fill(0.5),
    "fit": lambda model, x, y: model.fit(x, y, epochs=2, rng=0),
    "partial_fit": lambda model, x, y: model.partial_fit(x, y),
    "patience": lambda model, x, y: model.fit(
        x, y, epochs=3, learning_rate=0.3, validation=(x, y), patience=1, rng=0
    ),
    "fit_many": lambda model, x, y: fastmlp.fit_many([model], x, y, epochs=2, rng=0),
    "a step by hand": lambda model, x, y: (
        model.forward(x), model.backward(np.eye(4, dtype=np.float32)[y]),
        fastmlp.sgd(model.parameters, model.gradients, 0.5),
    ),
    "torch's way": lambda model, x, y: np.asarray(memoryview(model.W3)).fill(0.5),
    "another thread": _by_a_new_thread,
    "a copy that shares": lambda model, x, y: copy.copy(model).W1.fill(0.5),
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_whoever_writes_is_seen(writer):
    model, x = fastmlp.MLP(SIZES, rng=1), floats(3, (9, 30), np.float32)
    y = np.arange(9) % 4
    before = asked(model, x)
    assert is_kept(model)
    WRITERS[writer](model, x, y)
    gc.collect()
    fresh = copy.deepcopy(model)
    after = asked(model, x)
    assert_same_bits(after, fresh.predict_log_proba(x))
    assert (after != before).any()
    gc.collect()
    assert_same_bits(asked(model, x), after)
    assert is_kept(model)


HOLDERS = {
    "W1": lambda model: model.W1,
    "a view of it": lambda model: model.W1[2:9].T,
    "a view of a view": lambda model: model.flat_parameters[7:].reshape(-1, 1)[3:],
    "the flat buffer": lambda model: model.flat_parameters,
    "its memory": lambda model: memoryview(model.W1),
    "its elements": lambda model: model.flat_parameters.flat,
    "the list": lambda model: model.parameters,
    "a copy that shares": copy.copy,
    "a weak reference": lambda model: weakref.ref(model.flat_parameters),
    "a weak reference to W1": lambda model: weakref.ref(model.W1),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_nothing_is_kept_while_somebody_holds_the_weights(holder):
    model, x = fastmlp.MLP(SIZES, rng=1), floats(3, (9, 30), np.float32)
    before = asked(model, x)
    held = HOLDERS[holder](model)
    for value in (0.5, 0.25):
        assert_same_bits(asked(model, x), before)
        assert not is_kept(model)
        if holder == "its elements":
            held[3] = value
        elif holder == "its memory":
            held[3, 4] = value
        elif holder == "a copy that shares":
            held.W1[3, 4] = value
        elif isinstance(held, weakref.ref):
            held()[3] = value
        else:
            (held[0] if holder == "the list" else held).T[..., 3] = value
        after = asked(model, x)
        assert_same_bits(after, copy.deepcopy(model).predict_log_proba(x))
        assert (after != before).any()
        before = after
    del held
    gc.collect()
    assert_same_bits(asked(model, x), before)
    assert is_kept(model)


def test_weights_that_are_lent_while_copies_are_made_are_not_kept(monkeypatch):
    model, x = fastmlp.MLP(SIZES, rng=1), floats(3, (9, 30), np.float32)
    packed = PackedCopies.packed

    def late(self, version):
        model.W1.fill(0.5)  # behind the packing
        packed(self, version)

    monkeypatch.setattr(PackedCopies, "packed", late)
    model.predict(x), model.predict(x)
    assert not is_kept(model)
    monkeypatch.undo()
    assert_same_bits(asked(model, x), copy.deepcopy(model).predict_log_proba(x))


def test_a_thread_does_not_wait_for_another_that_makes_copies():
    model, x = fastmlp.MLP(SIZES, rng=1), floats(3, (9, 30), np.float32)
    expected = model.predict_log_proba(x)
    with vars(model)["_packed_copies"].lock:
        assert_same_bits(asked(model, x), expected)
        assert not is_kept(model)
    assert_same_bits(asked(model, x), expected)
    assert is_kept(model)


def test_threads_that_come_at_once_have_one_place(monkeypatch):
    model, x = fastmlp.MLP(SIZES, rng=1), floats(3, (9, 30), np.float32)
    model.predict(x)
    copies, others = vars(model)["_packed_copies"], []

    def while_another_thread_asks(*arguments):
        monkeypatch.undo()
        others.append(copies.place())
        return kept_bytes(*arguments)

    monkeypatch.setattr(packed_copies, "kept_bytes", while_another_thread_asks)
    assert [copies.place()] == others


def test_a_pickle_holds_no_copies_and_a_loaded_model_makes_its_own():
    model, x = fastmlp.MLP(SIZES, rng=1), floats(3, (9, 30), np.float32)
    small, expected = len(pickle.dumps(model)), asked(model, x)
    assert len(pickle.dumps(model)) == small
    loaded = pickle.loads(pickle.dumps(model))
    assert_same_bits(asked(loaded, x), expected)
    model.__setstate__(copy.deepcopy(fastmlp.MLP(SIZES, rng=2)).__getstate__())
    assert_same_bits(asked(model, x), fastmlp.MLP(SIZES, rng=2).predict_log_proba(x))


def test_a_small_network_keeps_none(monkeypatch):
    monkeypatch.undo()
    model, x = fastmlp.MLP([784, 100, 10], rng=1), floats(3, (9, 784), np.float32)
    asked(model, x)
    assert "_packed_copies" not in vars(model)


@pytest.mark.parametrize("vector_bits", [512, 256])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_operand_leaves_its_memory_and_no_tasks_race(vector_bits, dtype):
    at, itemsize = machine(vector_bits, False), np.dtype(dtype).itemsize
    sizes, bias = (30, 170, 120, 4), (True, False, True)
    network = Prediction(sizes, bias, itemsize, WIDE, "logits", ("tanh", "relu"))
    plan = plan_prediction(network, at)
    elements = sum((n + b) * m for n, m, b in zip(sizes, sizes[1:], bias, strict=False))
    for rows in (1, 50, WIDE_ROWS):
        bases = {
            record.X: rows * sizes[0] * itemsize,
            record.PARAMETERS: elements * itemsize,
            record.KEPT: kept_bytes(sizes, itemsize, at),
            record.LOSSES: rows * sizes[-1] * itemsize,
            record.BUFFERS: plan.buffers,
            record.OWN: plan.own,
            record.PLAN: (plan.words.size - plan.starts[4]) * 8,
        }
        assert len(plan.stages) == 4  # packs, two layers by columns, blocks of rows
        for number, (start, stop) in enumerate(plan.stages.tolist()):
            tasks, block = [], 48 if number == 3 else WIDE_ROWS
            for task in plan.tasks[start:stop]:
                for row in range(0, rows if number else 1, block):
                    one = task.copy()
                    if number:
                        one[2:5] = row, min(block, rows - row), rows
                    tasks.append(accesses(plan, network, one))
            for runs in tasks:
                for base, first, last, _ in runs:
                    assert 0 <= first <= last <= bases[base], record.BASE_NAMES[base]
            assert race(tasks, bases) is None

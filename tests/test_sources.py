"""Samples that aren't in memory: the same bits from each place, little memory, errors by row."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest
import zarr
from helpers import DTYPES, assert_same_bits, with_threads

import fastmlp
from fastmlp import reference
from fastmlp.sources import blocks, rows, samples, windows
from fastmlp.sources.kinds import source_of
from fastmlp.sources.means import Mean
from fastmlp.sources.rows import ahead

HERE = Path(__file__).parent
N, INPUTS = 503, 7
PIXELS = np.random.default_rng(0).integers(0, 9, (N, INPUTS)).astype(np.uint8)
LABELS = np.arange(N) % 3
each_module = pytest.mark.parametrize("module", [fastmlp, reference], ids=["fastmlp", "reference"])


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Blocks of 8 samples, windows of 11 blocks, pieces of 22 samples; runs of 9."""
    monkeypatch.setattr(blocks, "NUMBERS_OF_BLOCK", 9 * INPUTS)
    monkeypatch.setattr(rows, "NUMBERS_OF_BLOCK", 9 * INPUTS)
    for module in (blocks, windows):
        monkeypatch.setattr(module, "NUMBERS_OF_WINDOW", 95 * INPUTS)
    monkeypatch.setattr(rows, "PIECE", 22 * INPUTS)
    monkeypatch.setattr(samples, "LABELS", 100)
    monkeypatch.setattr(samples, "LARGE", 0)


class Own:
    """The least that a store of one's own needs."""

    def __init__(self, array, give=None):
        self.shape, self.dtype = array.shape, array.dtype
        self.array, self.give = array, give or (lambda rows, start: rows)
        self.asked = []

    def __getitem__(self, mine):
        self.asked.append((mine.start, mine.stop))
        return self.give(self.array[mine], mine.start)


def places(folder, x, y):
    """x and y in each place that fit reads from: name, x, y."""
    flat = x.reshape(len(x), -1)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    cuts = [0, 200, 200, 430, len(x)]
    files = [folder / f"x{number}.npy" for number in range(4)]
    for file, start, stop in zip(files, cuts, cuts[1:], strict=False):
        np.save(file, x[start:stop])
    yield "map", np.load(folder / "x.npy", mmap_mode="r"), y
    yield "map to write to", np.load(folder / "x.npy", mmap_mode="r+")[:], [*y]
    yield "private map", np.asarray(np.load(folder / "x.npy", mmap_mode="c")), y
    yield "files", files, [str(folder / "y.npy")]
    with h5py.File(folder / "x.h5", "w") as file:
        yield "h5py", file.create_dataset("x", data=x), file.create_dataset("y", data=y)
    yield "zarr", zarr.array(x, chunks=(50, *x.shape[1:])), zarr.array(y, chunks=(40,))
    columns = {f"c{number}": column for number, column in enumerate(flat.T)}
    table = pa.table({"label": y, **columns})
    for number in range(3):
        some = table.slice(200 * number, 200)
        pa.parquet.write_table(some, folder / f"{number}.parquet", row_group_size=60)
    parquet = [folder / f"{number}.parquet" for number in range(3)]
    yield "a data set", pa.dataset.dataset([str(one) for one in parquet]), "label"
    yield "a table", pa.dataset.dataset(table), "label"
    lists = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    pa.parquet.write_table(pa.table({"x": lists}), folder / "lists.parquet", row_group_size=77)
    yield "lists of numbers", [str(folder / "lists.parquet")], y
    yield "its own class", Own(x), y


SETTINGS = [
    {"batch_size": 10},
    {"batch_size": 88, "shuffle": False},
    {"batch_size": 33, "shuffle": True, "optimizer": "momentum"},
    {"batch_size": 64, "sample_weight": np.arange(N) % 5, "block_size": 5},
    {"batch_size": 200, "class_weight": "balanced", "block_size": 120},
    {"batch_size": 900, "max_norm": 0.1},
]


def trained(module, x, y, how, dtype="f4", loss="cross_entropy", predicts=True):
    """All that a training leaves and what the model then says of its samples, as bits."""
    model = module.MLP([INPUTS, 8, 3], rng=0, dtype=dtype, loss=loss)
    generator = np.random.PCG64(1)
    how = {"shuffle": "blocks", "epochs": 2, "learning_rate": 0.01, **how}
    history = model.fit(x, y, rng=generator, validation=(x, y), **how)
    history.seconds.clear()
    how = {name: how[name] for name in ("sample_weight", "class_weight") if name in how}
    figures = [model.score(x, y, **how), model.loss(x, y, **how), str(generator.state)]
    answers = [model.predict(x), model.decision_function(x)] if predicts else []
    state = model.optimizer_state
    return history, figures, (state[:2]), [model.flat_parameters, state[2], *answers]


def assert_same(found, expected):
    assert found[:3] == expected[:3]
    for one, other in zip(found[3], expected[3], strict=False):
        assert_same_bits(one, other)


@pytest.mark.parametrize("how", SETTINGS, ids=lambda how: f"batches of {how['batch_size']}")
def test_each_place_gives_the_bits_of_memory_and_of_the_reference(tmp_path, how):
    with with_threads(2):
        expected = trained(fastmlp, PIXELS, LABELS, how)
    assert_same(trained(reference, PIXELS, LABELS, how), expected)
    for number, (name, x, y) in enumerate(places(tmp_path, PIXELS, LABELS)):
        if how.get("shuffle") is True and "map" not in name:
            mend = "got True; pass shuffle='blocks'$"
            with pytest.raises(ValueError, match=mend):
                trained(fastmlp, x, y, how)
            continue
        predicts = not isinstance(y, str)
        with with_threads(1 + number % 3):
            assert_same(trained(fastmlp, x, y, how, predicts=predicts), expected)
        if name == "map":
            assert_same(trained(reference, x, y, how), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", ["f2", "f4", ">f4", "?", "u2"])
def test_numbers_of_each_dtype_are_converted_as_they_are_read(tmp_path, stored, dtype):
    x = (PIXELS.reshape(N, 1, INPUTS) / 8).astype(stored)
    y = PIXELS[:, :3] / np.float32(4)
    how = {"loss": "squared_error", "dtype": dtype}
    expected = trained(reference, x, y, {}, **how)
    np.save(tmp_path / "x.npy", x)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stores = file.create_dataset("x", data=x), Own(x)
        for store in (np.load(tmp_path / "x.npy", mmap_mode="r"), *stores):
            assert_same(trained(fastmlp, store, y, {}, **how), expected)


def test_the_order_is_the_pages():
    """Written anew from docs/arithmetic.md."""
    for count, size in ((N, 8), (64, 8), (5, 9), (300, 120)):
        raw = np.random.PCG64(3).random_raw
        each = max(1, 95 // size)
        order, drawn = [], np.argsort(raw(-(-count // size)), kind="stable")
        numbers = range(count)
        for first in range(0, len(drawn), each):
            some = [numbers[b * size : (b + 1) * size] for b in drawn[first : first + each]]
            window = [number for block in some for number in block]
            order += [window[place] for place in np.argsort(raw(len(window)), kind="stable")]
        found = blocks.blocks_of((count, INPUTS), "blocks", size)
        assert found.order(np.random.PCG64(3)).tolist() == order
        assert sorted(order) == [*range(count)]
    # The usual block: the largest power of two of samples that has no more numbers.
    assert blocks.blocks_of((N, INPUTS), "blocks", None) == (N, 8, 11)
    assert blocks.blocks_of((N, 10**9), "blocks", None) == (N, 1, 1)


def test_a_mean_in_parts_is_that_of_all():
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    for count in (1, 255, 256, 257, 512, 1000, 4999):
        for part in (1, 100, 256, 1000):
            mean = Mean(values.dtype)
            for start in range(0, count, part):
                mean.add(values[start : min(start + part, count)])
            assert mean.value() == float(reference.MLP._mean(values[:count]))
            assert all(kept.base is None for kept in (*mean.sums, mean.rest))  # no view of more
    mean = Mean(values.dtype)
    mean.add(np.array([-0.0, -0.0], np.float32))
    assert_same_bits(np.float32(mean.value()), np.float32(reference.MLP._mean(-values[:2] * 0)))
    mean.add(np.array([1, np.nan, np.inf], np.float32))
    assert mean.first_wrong == 3
    assert np.isnan(mean.value())


def test_blocks_are_read_in_the_order_of_the_file_and_each_once():
    x = Own(PIXELS)
    fastmlp.MLP([INPUTS, 3], rng=0).fit(x, LABELS, epochs=1, shuffle="blocks", rng=0)
    assert sorted(x.asked) == [(start, min(start + 8, N)) for start in range(0, N, 8)]
    first = x.asked[:11]
    assert first == sorted(first) != sorted(x.asked)[:11]


def test_the_next_is_read_while_this_one_is_used():
    reading, used = threading.Event(), []

    def read(number):
        if number == 1:
            reading.set()
        return number

    for number in ahead(read, iter(range(4))):
        assert number > 0 or reading.wait(60)
        used.append(number)
    assert used == [0, 1, 2, 3]
    assert [*ahead(read, iter(()))] == []


BAD = np.float32(PIXELS)
BAD[400, 3] = np.nan


@each_module
@pytest.mark.parametrize("shuffle", ["blocks", False])
def test_a_nan_in_a_later_window_names_its_row(module, shuffle):
    for x in (Own(BAD), zarr.array(BAD), Own(BAD.reshape(N, INPUTS, 1))):
        model, generator = module.MLP([INPUTS, 3], rng=0), np.random.PCG64(5)
        before = model.flat_parameters.copy()
        place = r"x\[400, 3(, 0)?\]: expected finite numbers, got nan; mend it where it lies"
        with pytest.raises(ValueError, match=place):
            model.fit(x, LABELS, shuffle=shuffle, rng=generator)
        with pytest.raises(ValueError, match=place):
            model.predict(x)
        with pytest.raises(ValueError, match=place):
            model.score(x, LABELS)
        with pytest.raises(ValueError, match=place.replace("x", r"validation\[0\]", 1)):
            model.fit(PIXELS, LABELS, epochs=1, validation=(x, LABELS), rng=0)
        model.flat_parameters = before
        assert generator.state == np.random.PCG64(5).state
        answers = model.predict_proba(x, check_finite=False)
        assert_same_bits(answers, model.predict_proba(BAD, check_finite=False))
        expected = module.MLP([INPUTS, 3], rng=0)
        how = {"check_finite": False, "shuffle": shuffle, "epochs": 1}
        for one, samples_of in ((model, x), (expected, BAD)):
            one.fit(samples_of, LABELS, rng=5, **how)
        assert_same_bits(model.flat_parameters, expected.flat_parameters)


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda rows, start: rows[:3], r"x\[400:408\]: expected shape \(8, 7\) of float32, as its"),
        (lambda rows, start: rows.astype("f8"), r"got shape \(8, 7\) of float64; write its"),
        (lambda rows, start: None, r"got shape \(\) of object"),
    ],
)
def test_what_changes_in_a_later_window_leaves_the_last_finished_epoch(give, message):
    reads = []

    def later(rows, start):
        reads.append(start)
        return give(rows, start) if start == 400 and reads.count(400) == 3 else rows

    x = Own(np.float32(PIXELS), later)
    model, twin = fastmlp.MLP([INPUTS, 3], rng=0), fastmlp.MLP([INPUTS, 3], rng=0)
    with pytest.raises(ValueError, match=message):
        model.fit(x, LABELS, shuffle="blocks", rng=0, epochs=5, learning_rate=0.01)
    twin.fit(PIXELS, LABELS, shuffle="blocks", rng=0, epochs=2, learning_rate=0.01)
    assert_same_bits(model.flat_parameters, twin.flat_parameters)
    assert model.optimizer_state.step == twin.optimizer_state.step


def test_an_interrupt_and_a_store_that_fails_leave_the_last_finished_epoch():
    for error in (KeyboardInterrupt, OSError("no route to host")):
        x, told = Own(PIXELS), []

        def fail(rows, start, x=x, error=error):
            if len(x.asked) == 2 * 63 + 30:
                raise error
            return rows

        x.give = fail
        model, twin = fastmlp.MLP([INPUTS, 3], rng=0), fastmlp.MLP([INPUTS, 3], rng=0)
        message = "fit: interrupted; the model is as epoch 2 of 5 left it|no route to host"
        with pytest.raises((KeyboardInterrupt, OSError), match=message):
            model.fit(x, LABELS, shuffle="blocks", rng=0, epochs=5, callback=told.append)
        twin.fit(PIXELS, LABELS, shuffle="blocks", rng=0, epochs=2)
        assert_same_bits(model.flat_parameters, twin.flat_parameters)
        assert len(told) == 2
        assert not [one for one in threading.enumerate() if one.name == "fastmlp-reader"]


def test_what_diverges_says_the_same_as_in_memory():
    messages = []
    for x in (PIXELS, Own(PIXELS)):
        model = fastmlp.MLP([INPUTS, 8, 3], rng=0)
        with pytest.raises(FloatingPointError) as error:
            model.fit(x, LABELS, shuffle="blocks", rng=0, optimizer="sgd", learning_rate=1e30)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert "of 4, at a learning_rate of 1e+30" in messages[0]


def test_patience_callbacks_and_going_on():
    results = []
    for x in (PIXELS, Own(PIXELS)):
        model = fastmlp.MLP([INPUTS, 8, 3], rng=0)
        how = {"shuffle": "blocks", "learning_rate": 0.05, "validation": (x, LABELS)}
        first = model.fit(x, LABELS, epochs=30, patience=2, rng=0, **how)
        more = model.fit(x, LABELS, epochs=2, resume=True, rng=1, **how)
        once = model.partial_fit(x, LABELS, shuffle="blocks", rng=2)
        ended = model.fit(x, LABELS, callback=lambda history: len(history.loss) == 2, rng=3, **how)
        for history in (first, more, once, ended):
            history.seconds.clear()
        results.append((first, more, once, ended, model.flat_parameters))
    assert results[0][:4] == results[1][:4]
    assert_same_bits(results[0][4], results[1][4])
    assert len(results[0][0].loss) < 30
    assert len(results[0][3].loss) == 2


def wrong_places(folder):
    """What can't be trained on, and how fit says so: x, y, the error, its words."""
    wide, none = Own(np.zeros((9, INPUTS))), Own(np.zeros((0, INPUTS), np.uint8))
    yield wide, LABELS[:9], TypeError, "x: expected float32, .* got float64; write it as float32"
    yield Own(PIXELS[:, :6]), LABELS, ValueError, r"got shape \(503, 6\); make the model with 6"
    yield none, LABELS[:0], ValueError, r"x: expected at least one sample, got shape \(0, 7\)"
    yield Own(PIXELS), LABELS[1:], ValueError, r"y: expected shape \(503,\), a label for each"
    late = LABELS.copy()
    late[450] = 3
    yield Own(PIXELS), late, ValueError, r"y\[450\]: expected 0 to 2, got 3"
    yield Own(PIXELS), zarr.array(late), ValueError, r"y\[450\]: expected 0 to 2, got 3"
    table = pa.table({"a": np.ones(3, "f4"), "b": ["x", "y", "z"], "c": [1, 2, 3]})
    yield pa.dataset.dataset(table), "c", TypeError, "column 'b': expected numbers, got string; le"
    numbers = pa.dataset.dataset(table.select([*"ac"]))
    yield numbers, "d", ValueError, r"y: expected a column of \['a', 'c'\], got 'd'; pass y='c'"
    yield numbers, "c", ValueError, r"got shape \(3, 1\); leave columns out, as dataset.replace_sc"
    np.save(folder / "a.npy", PIXELS)
    np.save(folder / "b.npy", PIXELS[:, :5])
    np.save(folder / "c.npy", np.float32(PIXELS))
    (folder / "d.npy").write_text("nothing")
    files = {name: str(folder / f"{name}.npy") for name in "abcd"}
    yield [files["a"], files["b"]], LABELS, ValueError, r"b.npy: expected rows of shape \(7,\), as"
    yield [files["a"], files["c"]], LABELS, TypeError, "c.npy: expected uint8, as .*, got float32"
    yield [files["d"]], LABELS, ValueError, "d.npy: expected an array of numbers, got"
    yield [files["a"], "b.parquet"], LABELS, ValueError, "expected all named .npy, or all .parquet"
    yield ["no.npy"], LABELS, OSError, "no.npy"
    yield ["no.parquet"], LABELS, OSError, "no.parquet"


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path):
    model, generator = fastmlp.MLP([INPUTS, 3], rng=0), np.random.PCG64(0)
    before = model.flat_parameters.copy()
    for x, y, error, message in wrong_places(tmp_path):
        with pytest.raises(error, match=message):
            model.fit(x, y, shuffle="blocks", rng=generator)
    missing = pa.dataset.dataset(pa.table({"a": [1.0, None], "b": [0, 1]}))
    with pytest.raises(ValueError, match="column 'a', row 1: expected a number, got null; fill"):
        fastmlp.MLP([1, 2], dtype=np.float64).fit(missing, "b", shuffle="blocks")
    assert_same_bits(model.flat_parameters, before)
    assert generator.state == np.random.PCG64(0).state


@each_module
def test_the_words_of_shuffle_are_checked(module):
    model = module.MLP([INPUTS, 3], rng=0)
    with pytest.raises(ValueError, match="shuffle: expected True, False or 'blocks', got 'block'"):
        model.fit(PIXELS, LABELS, shuffle="block")
    with pytest.raises(ValueError, match="block_size: expected None, as shuffle is True, got 5"):
        model.fit(PIXELS, LABELS, block_size=5)
    with pytest.raises(ValueError, match="block_size: expected 1 or more, got 0"):
        model.fit(PIXELS, LABELS, shuffle="blocks", block_size=0)
    with pytest.raises(ValueError, match="shuffle: expected True or False"):
        module.fit_many([model], PIXELS, LABELS, shuffle="blocks")


def test_what_lies_in_memory_is_no_source():
    for value in (PIXELS, PIXELS[::2], [1, 2], ["cat", "dog"], [], "x.npy", None, np.float32(1)):
        assert source_of(value) is None
    assert source_of(np.ma.masked_array(PIXELS)) is None


def test_out_is_written_when_nothing_is_left_to_be_refused():
    model, out = fastmlp.MLP([INPUTS, 3], rng=0), np.zeros((N, 3), np.float32)
    with pytest.raises(ValueError, match=r"x\[400, 3\]"):
        model.predict_proba(Own(BAD), out=out)
    assert not out.any()
    assert model.predict_proba(Own(PIXELS), out=out) is out
    assert_same_bits(out, model.predict_proba(PIXELS))
    with pytest.raises(ValueError, match="out: expected shape"):
        model.predict_proba(Own(PIXELS), out=out[1:])


def peak_kilobytes():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def run_large(folder):
    """Print by how many MB the process grows with a file of 320 MB, all of which is read."""
    path, inputs = Path(folder, "large"), 1000
    with open(path, "wb") as file:
        file.truncate(320 * 10**6)
    for dtype, shuffle in (("u1", "blocks"), ("f4", "blocks"), ("f2", False)):
        x = np.memmap(path, dtype, "r").reshape(-1, inputs)
        y = np.zeros(len(x), np.uint8)
        model = fastmlp.MLP([inputs, 4, 2], rng=0)
        how = {"shuffle": shuffle, "epochs": 1, "batch_size": 1000, "rng": 0}
        model.fit(np.zeros((2000, inputs), dtype), y[:2000], **how)
        before = peak_kilobytes()
        model.fit(x, y, **how, validation=(x[:9000], y[:9000]))
        model.predict(x)
        print((peak_kilobytes() - before) / 1000)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="of Linux")
def test_memory_does_not_grow_with_the_file(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", f"import test_sources; test_sources.run_large({str(tmp_path)!r})"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
    )
    grown = [float(line) for line in run.stdout.split()]
    assert len(grown) == 3, run.stderr
    assert max(grown) < 120

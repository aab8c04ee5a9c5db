"""The commands that train on a table, predict one, and show a model's file."""

import csv
import io
import json
import sys
import tracemalloc

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from test_cli import run

import fastmlp
from fastmlp import reference
from fastmlp.commands.predict import predictions
from fastmlp.files.safetensors import read as read_file
from fastmlp.tables import read


def table(path, rows, seed=0, delimiter=","):
    """A table whose classes and numbers follow from its columns, with some cells missing."""
    raw = np.random.PCG64(seed).random_raw(4 * rows).reshape(rows, 4) >> np.uint64(11)
    u = raw * 2.0**-53
    age, color = 20 + 50 * u[:, 0], np.array(["red", "green", "blue"])[(3 * u[:, 1]).astype(int)]
    species = np.where((age > 45) ^ (color == "red"), "oak", "elm, old")
    price = 1e5 + 2000 * age + 3e4 * (color == "blue")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "age", "color", "species", "price"])
        for row in range(rows):
            cells = [f"n{row}", f"{age[row]:.2f}", color[row], species[row], f"{price[row]:.1f}"]
            if u[row, 2] < 0.05:
                cells[1] = "NA"
            writer.writerow(cells)
    return path


def printed(capsys):
    return capsys.readouterr().out


def rows_of(text):
    return list(csv.reader(io.StringIO(text)))


def test_a_table_is_trained_on_saved_shown_and_predicted(tmp_path, capsys):
    data, model = table(tmp_path / "trees.csv", 400), tmp_path / "trees.safetensors"
    options = ["--target", "species", "--drop", "id", "price", "--save", str(model)]
    options += ["--hidden", "16", "--epochs", "60"]
    assert run("train", str(data), *options) == 0
    lines = printed(capsys).splitlines()
    assert lines[0].endswith("400 rows; columns: 1 of numbers, 1 of categories; 4 inputs")
    assert lines[1].startswith("missing cells, taken as the mean, or as no category: age ")
    assert lines[2] == "species: a class of 2"
    figures = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("tr", "va"))}
    assert [figures["training"][0], figures["validation"][0]] == ["320", "80"]
    assert float(figures["validation"][-1]) > 0.85
    digest = lines[-2].split()[-1]
    assert run("train", str(data), *options, "--threads", "1") == 0
    assert printed(capsys).splitlines()[-2].split()[-1] == digest == HASH

    assert run("show", str(model)) == 0
    shown = printed(capsys)
    words = ("4-16-2", "cross_entropy", "version 1", "elm, old, oak", "species", "blue, green, red")
    assert all(word in shown for word in (*words, digest))

    loaded = fastmlp.load(model)
    assert run("predict", str(model), str(data)) == 0
    header, *cells = rows_of(printed(capsys))
    assert header == ["species"]
    raw = rows_of(data.read_text())
    truth = [row[3] for row in raw[1:]]
    assert np.mean([one == [other] for one, other in zip(cells, truth, strict=True)]) > 0.85
    named = dict(zip(raw[0], zip(*raw[1:], strict=True), strict=True))
    x = loaded.table.encode({name: list(column) for name, column in named.items()})
    assert [one for (one,) in cells] == loaded.table.labels(loaded.predict(x))

    assert run("predict", str(model), str(data), "--probabilities") == 0
    header, *cells = rows_of(printed(capsys))
    assert header == ["elm, old", "oak"]
    assert np.array_equal(np.array(cells, np.float32), loaded.predict_proba(x))


HASH = "28e77c6a133c5a96324efadfa887d916a527743aaab846a2fa31453dff97957a"


def test_parquet_is_the_same_table(tmp_path, capsys):
    data, model = table(tmp_path / "trees.csv", 400), tmp_path / "model"
    _, *rows = rows_of(data.read_text())
    _, age, color, species, price = (list(column) for column in zip(*rows, strict=True))
    columns = {
        "age": pyarrow.array([None if one == "NA" else float(one) for one in age]),
        "color": pyarrow.array(color).dictionary_encode(),
        "species": pyarrow.array(species),
        "price": pyarrow.array(map(float, price)),
        "large": pyarrow.array([2**60] * 400),  # not read
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "trees.parquet", row_group_size=90)
    options = ["--target", "species", "--hidden", "16", "--epochs", "60", "--save", str(model)]
    path = str(tmp_path / "trees.parquet")
    assert run("train", path, *options, "--drop", "price", "large") == 0
    assert printed(capsys).splitlines()[-2].split()[-1] == HASH
    assert run("predict", str(model), str(data)) == 0
    expected = printed(capsys)
    assert run("predict", str(model), path) == 0
    assert printed(capsys) == expected
    assert run("train", path, *options, "--drop", "price") == 2
    error = capsys.readouterr().err
    assert "column 'large', row 1: expected an integer that float64 holds exactly" in error
    (tmp_path / "trees.parquet").write_bytes(b"PAR1")
    assert run("predict", str(model), path) == 2
    assert "trees.parquet: expected a file of Parquet, got " in capsys.readouterr().err


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert run("train", str(tmp_path / "trees.parquet"), "--target", "species") == 2
    assert "expected pyarrow, to read it, got none; pip install" in capsys.readouterr().err


def test_a_regression_has_the_targets_own_numbers(tmp_path, capsys):
    data, model = table(tmp_path / "trees.tsv", 300, delimiter="\t"), tmp_path / "model"
    options = ["--target", "price", "--drop", "id", "species", "--save", str(model)]
    assert run("train", str(data), *options, "--epochs", "40") == 0
    lines = printed(capsys).splitlines()
    assert lines[2] == "price: a number"
    assert float(next(line for line in lines if line.startswith("validation")).split()[-1]) > 0.9
    assert run("predict", str(model), str(data)) == 0
    header, *cells = rows_of(printed(capsys))
    assert header == ["price"]
    prices = np.array([line.split("\t")[4] for line in data.read_text().splitlines()[1:]], float)
    assert np.abs(np.array(cells, float)[:, 0] - prices).mean() < 2e4
    assert run("predict", str(model), str(data), "--probabilities") == 2
    assert "--probabilities: expected a model of classes" in capsys.readouterr().err


def test_any_model_predicts_a_file_of_numbers(tmp_path, capsys):
    x = np.array([[1, 2, 3], [4, 5, 6.5]])
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "x.csv").write_text("1,2,3\n4,5,6.5\n")
    (tmp_path / "named.csv").write_text("a,b,c\n1,2,3\n4,5,6.5\n")
    cases = {
        ("cross_entropy", 4): (["class"], ["0", "1", "2", "3"]),
        ("binary_cross_entropy", 1): (["class"], ["0", "1"]),
        ("binary_cross_entropy", 2): (["class1", "class2"], ["class1", "class2"]),
        ("squared_error", 1): (["value"], None),
        ("poisson", 2): (["value1", "value2"], None),
    }
    for (loss, outputs), headers in cases.items():
        model = reference.MLP([3, 5, outputs], rng=1, loss=loss)
        model.save(tmp_path / "model")
        expected = model.predict(x.astype(np.float32)).reshape(2, -1)
        for name in ("x.npy", "x.csv", "named.csv"):
            assert run("predict", str(tmp_path / "model"), str(tmp_path / name)) == 0
            header, *cells = rows_of(printed(capsys))
            assert header == headers[0]
            assert np.array_equal(np.array(cells, expected.dtype), expected)
        if headers[1]:
            arguments = [str(tmp_path / "model"), str(tmp_path / "x.npy"), "--probabilities"]
            assert run("predict", *arguments) == 0
            header, *cells = rows_of(printed(capsys))
            assert header == headers[1]
            assert np.array_equal(
                np.array(cells, np.float32), model.predict_proba(x.astype(np.float32))
            )
    for text, words in {
        "1,2\n": "table: expected 3 columns, the model's inputs, got 2; give these alone",
        "1,2,\n": "column '3', row 1: expected a number of float32, got none; fill the cell in",
        "1,2,1e39\n": "column '3', row 1: expected a number of float32, got one beyond it",
        "a,b,c\n1,2,3\n1,x,3\n": "column 'b', row 2: expected a number, got 'x'",
    }.items():
        (tmp_path / "x.csv").write_text(text)
        assert run("predict", str(tmp_path / "model"), str(tmp_path / "x.csv")) == 2
        assert f"fastmlp predict: error: {words}" in capsys.readouterr().err


def test_predictions_take_no_memory_that_grows_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "CELLS", 2000)
    model = fastmlp.MLP([4, 3, 2], rng=0)
    model.predict(np.ones((1, 4), np.float32))
    peaks = {}
    for rows in (2000, 20000):
        np.save(tmp_path / f"{rows}.npy", np.ones((rows, 4), np.float32))
        (tmp_path / f"{rows}.csv").write_text("1,2,3,4\n" * rows)
        for kind in ("npy", "csv"):
            tracemalloc.start()
            lines = 0
            for text in predictions(model, tmp_path / f"{rows}.{kind}", False):
                lines += text.count("\n")
            peaks[kind, rows] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert lines == rows + 1
    with open(tmp_path / "20000.csv", "a") as file:
        file.write("1,2,three,4\n")
    with pytest.raises(ValueError, match=r"column '3', row 20001: expected a number, got 'three'"):
        list(predictions(model, tmp_path / "20000.csv", False))
    for kind in ("npy", "csv"):
        assert peaks[kind, 20000] < 1.2 * peaks[kind, 2000]
        assert peaks[kind, 20000] < 1e6


def test_show_a_model_of_no_table(tmp_path, capsys):
    x = np.ones((4, 3), np.float32)
    model = fastmlp.MLP([3, 2], rng=0, loss="huber", delta=0.5)
    model.fit(x, x[:, :2], epochs=1)
    model.save(tmp_path / "model", optimizer_state=True)
    assert run("show", str(tmp_path / "model")) == 0
    shown = dict(line.split("  ", 1) for line in printed(capsys).splitlines() if "  " in line)
    shown = {key.strip(): value.strip() for key, value in shown.items()}
    assert shown["loss"] == "huber, delta 0.5"
    assert shown["activation"] == "none, it is linear"
    assert shown["sizes"] == "3-2, 8 parameters"
    assert shown["optimizer"] == "adam, after 1 steps"
    (tmp_path / "model").write_bytes(b"{}")
    assert run("show", str(tmp_path / "model")) == 2
    assert "content: expected safetensors" in capsys.readouterr().err


def test_mnist_is_saved_too(tmp_path, small_mnist, capsys):
    path = tmp_path / "model.safetensors"
    options = ["--data", str(small_mnist), "--epochs", "1", "--save", str(path)]
    assert run("train", *options, "--hidden", "8") == 0
    lines = printed(capsys).splitlines()
    assert lines[-1] == f"saved {path}"
    assert run("show", str(path)) == 0
    assert lines[-2].split()[-1] in printed(capsys)
    assert run("train", "--notebook", *options) == 0
    assert isinstance(fastmlp.load(path), fastmlp.NotebookMLP)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["t.csv"], "--target: expected the column to predict, got none"),
        (["t.csv", "--target", "y", "--notebook"], "--notebook: expected without TABLE"),
        (["t.csv", "--target", "y", "--data", "."], "--data: expected without TABLE"),
        (["--target", "y"], "--target: expected with TABLE"),
        (["--drop", "y"], "--drop: expected with TABLE"),
        (["t.csv", "--target", "y", "--save", "/no/such/m"], "--save: expected the place of a fi"),
        (["t.csv", "--target", "y", "--save", "."], "--save: expected the place of a file, got a"),
        (["t.csv", "--target", "y"], "No such file or directory: 't.csv'"),
        (["t.xls", "--target", "y"], "table: expected a file named .csv, .tsv, .npy or .parquet"),
    ],
)
def test_wrong_options_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", *arguments) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err


def test_a_files_words_of_a_table(tmp_path):
    """As docs/files.md has them."""
    data, model = table(tmp_path / "t.csv", 40), tmp_path / "model"
    options = ["--target", "species", "--drop", "id", "--epochs", "1"]
    assert run("train", str(data), *options, "--save", str(model)) == 0
    described = read_file(str(model))[0]
    words = json.loads(described.to_json())
    assert words["classes"] == ["elm, old", "oak"]
    assert words["table"].keys() == {"columns", "target"}
    age, color, price = words["table"]["columns"]
    assert age.keys() == price.keys() == {"name", "mean", "scale"}
    assert color == {"name": "color", "categories": ["blue", "green", "red"]}

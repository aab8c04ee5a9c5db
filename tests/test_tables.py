"""Tables as samples: what is read of files, what a model keeps of it, what is refused."""

import numpy as np
import pytest
from helpers import assert_same_bits

import fastmlp
from fastmlp import reference
from fastmlp.tables import read
from fastmlp.tables.learn import learn
from fastmlp.tables.read import chunks
from fastmlp.tables.table import Categorical, Numeric, Table

PEOPLE = """\ufeffage;sex;city;paid
22;male;"Köln; Süd";1
38;female;Bern;0
;male;Bern;1
26;female;NA;0
 35 ;male;Bern;1
54;female;"Köln; Süd";0
2;male;Bern;1
27;female;Bern;0
"""


def written(tmp_path, text, name="table.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_numbers_are_standardized_and_texts_become_categories(tmp_path):
    samples = learn(written(tmp_path, PEOPLE), "paid", seed=3)
    table, x = samples.table, samples.x
    age, sex, city = table.columns
    ages = np.array([22, 38, np.nan, 26, 35, 54, 2, 27])
    known = ages[samples.training][~np.isnan(ages[samples.training])]
    assert age == Numeric("age", pytest.approx(known.mean()), pytest.approx(known.std()))
    assert sex == Categorical("sex", ("female", "male"))
    assert city == Categorical("city", ("Bern", "Köln; Süd"))
    assert (table.target, table.classes, table.inputs) == ("paid", (0, 1), 5)
    scaled = np.where(np.isnan(ages), 0, (ages - age.mean) / age.scale)
    assert_same_bits(x[:, 0], scaled.astype(np.float32))
    assert x[:, 1:3].tolist() == [[0, 1], [1, 0]] * 4
    assert x[:, 3:].tolist() == [[0, 1], [1, 0], [1, 0], [0, 0], [1, 0], [0, 1], [1, 0], [1, 0]]
    assert samples.y.tolist() == [1, 0] * 4
    assert samples.missing == {"age": 1, "sex": 0, "city": 1}
    assert sorted([*samples.training, *samples.validation]) == [*range(8)]
    assert len(samples.validation) == 1
    raw = {"age": [22, None], "sex": ["male", np.nan], "city": np.array(["Bern", ""]), "more": [1]}
    assert_same_bits(table.encode(raw), np.array([[x[0, 0], 0, 1, 1, 0], [0] * 5], np.float32))
    assert table.encode(raw, np.float64)[0, 0] == (22 - age.mean) / age.scale
    assert table.labels([1, 0]) == [1, 0]


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["b", "a", "b", "a"], None, ("a", "b")),
        (["10", "-9", "10", "-9"], None, (-9, 10)),
        (["1", "2", "3", "4"], None, None),  # each its own: numbers
        (["1.5", "2", "1.5", "2"], None, None),
        (["1", "0", "1", "0"], "regression", None),
        (["1.5", "2", "1.5", "2"], "classification", ("1.5", "2")),
        (["3", "2", "1", "4"], "classification", (1, 2, 3, 4)),
    ],
)
def test_what_the_target_is(tmp_path, values, task, classes):
    path = written(tmp_path, "x,y\n" + "".join(f"{i},{y}\n" for i, y in enumerate(values)))
    samples = learn(path, "y", task=task)
    assert samples.table.classes == classes
    if classes is None:
        assert samples.y.tolist() == [float(y) for y in values]
    else:
        assert [str(classes[place]) for place in samples.y] == values


WRONG = {
    "no name": (",x,y\n0,1,2\n1,2,3\n", {}, r"column: expected a name, got none; name it, or"),
    "no rows": ("x,y\n1,2\n", {}, r"table: expected two rows or more, got 1; give more rows"),
    "no file": ("", {}, r"table\.csv: expected a header, then rows, got nothing"),
    "no names": ("1,2\n3,4\n", {}, r"table: expected names of the columns, got none; give it a he"),
    "a name twice": ("x,x\n1,2\n", {}, r"table\.csv: expected a name for each column, got 'x' twi"),
    "no target": ("x,z\n1,2\n", {}, r"column: expected one of the columns 'x', 'z', got 'y'; name"),
    "nothing else": ("y,x\n1,2\n", {"drop": ["x"]}, r"table: expected columns beside the target"),
    "another to drop": ("x,y\n1,2\n", {"drop": ["q"]}, r"column: expected one of .*, got 'q'"),
    "a short row": ("x,y\n1,2\n3\n", {}, r"table\.csv, row 2: expected 2 cells, got 1 cells; mend"),
    "no target's value": ("x,y\n1,2\n3,\n", {}, r"column 'y', row 2: expected a value of the ta"),
    "one class": ("x,y\n1,a\n3,a\n", {}, r"column 'y': expected two classes or more, got \('a',\)"),
    "no number": ("x,y\nNA,a\n,b\n,a\n,b\n", {}, r"column 'x': expected a number, got none; leave"),
    "names": ("x,y\nAnn,1\nBob,2\nCid,3\n", {}, r"column 'x': expected at most 2 categories, got "),
    "inf": ("x,y\n1,a\n-inf,b\n", {}, r"column 'x', row 2: expected a finite number, got -inf; me"),
    "no numbers": (
        "x,y\n1,a\n2,1.5\n", {"task": "regression"}, r"column 'y', row 1: expected a number, got '",
    ),
    "a quote": ('x,y\n"1,2\n', {}, r"table\.csv: expected comma-separated values, got unexpected "),
}  # fmt: skip


@pytest.mark.parametrize(("text", "options", "words"), WRONG.values(), ids=WRONG)
def test_another_table_is_one_line(tmp_path, text, options, words):
    with pytest.raises(ValueError, match=words) as refused:
        learn(written(tmp_path, text), "y", **options)
    assert len(str(refused.value).splitlines()) == 1


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "latin.csv").write_bytes("x,y\nKöln,1\n".encode("latin-1"))
    np.save(tmp_path / "row.npy", np.ones(3))
    np.savez(tmp_path / "many.npz", x=np.ones(3))
    (tmp_path / "many.npz").rename(tmp_path / "many.npy")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    for name, words in {
        "latin.csv": r"expected comma-separated values, got 'utf-8' codec can't decode",
        "row.npy": r"expected rows of samples \(2 axes or more\), got shape \(3,\); reshape",
        "many.npy": r"expected rows of samples .*, got an archive",
        "cut.npy": r"expected an array of numbers, got ",
        "objects.npy": r"expected an array of numbers, got Array can't be memory-mapped",
        "table.xls": r"table: expected a file named .csv, .tsv, .npy or .parquet, got .*; convert",
    }.items():
        with pytest.raises(ValueError, match=words):
            list(chunks(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        list(chunks(tmp_path / "none.csv"))


def test_a_file_is_read_in_chunks(tmp_path, monkeypatch):
    path = written(tmp_path, "a\tb\n" + "".join(f"{i}\tx{i}\n\n" for i in range(10)), "t.tsv")
    monkeypatch.setattr(read, "CELLS", 6)
    parts = list(chunks(path))
    assert [part.first for part in parts] == [1, 4, 7, 10]
    assert [one for part in parts for one in part.columns[1]] == [f"x{i}" for i in range(10)]
    array = np.arange(30.0).reshape(10, 3)
    for name, one in (("x.npy", array), ("f.npy", np.asfortranarray(array))):
        np.save(tmp_path / name, one.reshape(10, 1, 3) if name == "x.npy" else one)
        parts = list(chunks(tmp_path / name))
        assert [part.first for part in parts] == [1, 3, 5, 7, 9]
        assert np.array_equal(
            np.concatenate([np.array(part.columns) for part in parts], 1).T, array
        )


def test_a_model_keeps_the_columns(tmp_path):
    table = learn(written(tmp_path, PEOPLE), "paid").table
    for module in (fastmlp, reference):
        model = module.MLP([5, 4, 2], rng=0)
        assert model.table is None
        model.table = table
        model.save(tmp_path / "model")
        for load in (fastmlp.load, reference.load, fastmlp.load_predictor):
            assert load(tmp_path / "model").table == table
        for wrong in (
            table._replace(columns=table.columns[1:]),
            table._replace(classes=(1, 2, 3)),
            table._replace(columns=(table.columns[0],) * 5),
            table._replace(columns=(Numeric("age", np.nan, 1.0), *table.columns[1:])),
        ):
            model.table = wrong
            with pytest.raises(ValueError, match=r"table: expected columns of 5 inputs in all, an"):
                model.save(tmp_path / "model")
        model.table = "columns"
        with pytest.raises(TypeError, match=r"table: expected a table that fastmlp read, or None,"):
            model.save(tmp_path / "model")
        assert fastmlp.load(tmp_path / "model").table == table


def test_cells_that_training_never_saw_are_refused():
    table = Table((Numeric("age", 3.0, 2.0), Categorical("sex", ("f", "m"))), "paid")
    good = {"age": ["1", "2"], "sex": ["f", "m"]}
    for change, words in {
        "unknown": ({"sex": ["f", "x"]}, r"column 'sex', row 8: expected a category that training"),
        "no number": ({"age": ["1", "old"]}, r"column 'age', row 8: expected a number, got 'old';"),
        "underscore": ({"age": ["1_0", "2"]}, r"column 'age', row 7: expected a number, got '1_0'"),
        "infinite": ({"age": np.array([1, np.inf])}, r"column 'age', row 8: expected a finite num"),
        "too long": ({"age": np.array([1, 2**60])}, r"column 'age', row 8: expected an integer th"),
        "lengths": ({"age": ["1"]}, r"table: expected columns of one length, got \{'age': 1, 'sex"),
    }.values():
        with pytest.raises(ValueError, match=words):
            table.encode(good | change, first=7)
    with pytest.raises(ValueError, match=r"table: expected the columns age, sex, got none named '"):
        table.encode({"sex": ["f"]})
    with pytest.raises(ValueError, match=r"labels: expected a table whose target has classes, got"):
        table.labels([0])

"""The pictures of a training: History.plot, fastmlp train --plot, and the curve of a terminal."""

import sys

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from test_cli import run
from test_table_commands import table

import fastmlp
from fastmlp.model.curves import as_text


def lines_of(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_plot_draws_each_figure_of_each_epoch():
    x = np.random.default_rng(0).random((40, 5), np.float32)
    model, y = fastmlp.MLP([5, 4, 3], rng=0), np.arange(40) % 3
    history = model.fit(x, y, epochs=4, validation=(x, y), patience=9, rng=0)
    pyplot.switch_backend("agg")
    axes = history.plot()
    assert pyplot.gcf() is axes[0].figure
    pyplot.close()
    assert [axis.get_ylabel() for axis in axes] == ["loss", "accuracy"]
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        lines = lines_of(axis)
        for label, prefix in (("training", ""), ("validation", "validation_")):
            assert list(lines[label].get_xdata()) == [1, 2, 3, 4]
            assert list(lines[label].get_ydata()) == getattr(history, prefix + name)
        assert list(lines["best epoch"].get_xdata()) == [history.best_epoch + 1] * 2

    model = fastmlp.MLP([5, 4, 1], loss="squared_error", rng=0)
    history = model.fit(x, x[:, 0], epochs=2, rng=0)
    figure = Figure()
    (axis,) = history.plot(figure)
    assert axis.figure is figure
    assert [*lines_of(axis)] == ["training"]


def test_plot_without_matplotlib_says_what_to_install(monkeypatch, capsys, tmp_path):
    for name in ("matplotlib", "matplotlib.ticker", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"got none; pip install 'fastmlp\[plot\]'"):
        fastmlp.History(loss=[1.0]).plot()
    assert run("train", "--plot", str(tmp_path / "a.svg")) == 2
    assert "expected matplotlib, to draw, got none; pip install" in capsys.readouterr().err


def test_train_draws_its_curve(small_mnist, tmp_path, capsys):
    small = ["--data", str(small_mnist), "--epochs", "2", "--hidden", "8"]
    rows = [str(table(tmp_path / "trees.csv", 100)), "--target", "price", "--drop", "id"]
    for name, options in (("a.svg", small), ("b.PNG", [*small[:4], "--notebook"]), ("c.pdf", rows)):
        assert run("train", *options, "--plot", str(tmp_path / name)) == 0
        assert capsys.readouterr().out.endswith(f"drawn {tmp_path / name}\n")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "b.PNG").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_training(tmp_path, capsys):
    assert run("train", "--plot", str(tmp_path / "curve.txt")) == 2
    error = capsys.readouterr().err
    assert "svg" in error
    assert "got 'curve.txt'; name it curve.svg" in error
    assert run("train", "--plot", str(tmp_path / "none" / "curve.svg")) == 2
    assert "--plot: expected the place of a file" in capsys.readouterr().err


def test_a_terminal_shows_the_losses(small_mnist, capsys, monkeypatch):
    options = ["train", "--data", str(small_mnist), "--epochs", "3", "--hidden", "8"]
    assert run(*options) == 0
    plain = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    assert run(*options) == 0
    *curve, _, _, last = capsys.readouterr().out.splitlines()
    assert last == plain[-1]
    assert len(curve) == 12
    assert max(map(len, curve)) <= 50
    assert "training loss of each epoch" in curve[0]
    assert curve[-1].split() == ["1", "2", "3"]
    monkeypatch.setitem(sys.modules, "plotext", None)
    assert run(*options) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(plain)


def test_the_text_has_both_losses():
    history = fastmlp.History(loss=[3.0, 2.0, 1.0], validation_loss=[3.0, 3.0, 3.0])
    text = as_text(history, 60)
    assert "\x1b" not in text
    assert "* validation loss" in text
    rows = [row for row in text.splitlines() if row.count("*") > 20]
    assert len(rows) == 1
    assert as_text(fastmlp.History(loss=[1.0, 2.0]), 40) is not None

"""`fastmlp train`: on MNIST, as the notebook does, or on a table."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastmlp

from ..model.curves import INSTALL
from ..tables.learn import TASKS
from .jobs import UserError, as_user_error
from .options import Commands, count, positive, seed

if TYPE_CHECKING:
    from ..model.history import History
    from ..model.mlp import MLP

OF_A_TABLE = ("target", "drop", "task")


def add(commands: Commands) -> None:
    """Add the command to the parser's."""
    train = commands.add_parser(
        "train",
        help="train a network on MNIST, or on a table",
        description="Train a network and print its figures, and the SHA-256 of its weights, which "
        "is the same on every machine. Without TABLE: on MNIST, in float32, with momentum 0.9 and "
        "a learning rate that falls to 0 in equal steps. With TABLE: on four fifths of its rows, "
        "with Adam, until the loss of the others was not better than ever for 20 epochs.",
    )
    train.set_defaults(run=_train)
    _add_table(train)
    _add_training(train)
    train.add_argument(
        "--notebook",
        action="store_true",
        help="run the notebook's own job: 784-100-10 in float64, weights normal(0, 1), all images "
        "in every step (50 epochs, learning rate 1e-5 on the summed loss)",
    )
    train.add_argument(
        "--data",
        type=Path,
        metavar="ROOT",
        help="folder of the four MNIST files; default: those in the package",
    )
    train.add_argument(
        "--save", type=Path, metavar="FILE", help="write the model, as model.safetensors"
    )
    train.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw loss and accuracy of each epoch, as curve.svg, .png or .pdf (fastmlp[plot]); on "
        "a terminal the losses are shown in any case, where plotext is installed",
    )


def _add_training(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "--epochs",
        type=count,
        metavar="N",
        help="default 5; 50 with --notebook, 200 at most with TABLE",
    )
    train.add_argument(
        "--batch-size",
        type=count,
        metavar="N",
        help="samples in a step, default 64; 32 with TABLE",
    )
    train.add_argument(
        "--learning-rate",
        type=positive,
        metavar="RATE",
        help="default 0.1 on the mean loss of a batch; 1e-5 with --notebook, 0.001 with TABLE, "
        "throughout",
    )
    train.add_argument(
        "--hidden",
        type=count,
        nargs="*",
        metavar="N",
        help="outputs of each hidden layer, default 128, 100 with TABLE; none for a linear model",
    )
    train.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="of the initial weights, the shuffles and the split, default 0; 80 with --notebook, a "
        "seed whose curve is near the notebook's",
    )
    train.add_argument("--threads", type=count, metavar="N", help="default: all cores")


def _add_table(train: argparse.ArgumentParser) -> None:
    train.add_argument(
        "table",
        nargs="?",
        metavar="TABLE",
        help="a table with names of its columns, .csv, .tsv or .parquet: numbers are standardized, "
        "texts become one input for each category",
    )
    train.add_argument("--target", metavar="COLUMN", help="the column to predict")
    train.add_argument(
        "--drop", nargs="+", metavar="COLUMN", help="columns to leave out, such as names"
    )
    train.add_argument(
        "--task",
        choices=TASKS,
        help="default: classification of texts and of integers with few values, else regression",
    )


def _train(options: argparse.Namespace) -> int:
    with as_user_error(ValueError):
        fastmlp.set_num_threads(options.threads or fastmlp.get_num_threads())
    names = ("epochs", "learning_rate", "seed", "batch_size", "hidden", *OF_A_TABLE)
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.save is not None:
        _check_place("--save", options.save)
    figure = None if options.plot is None else _figure_for(options.plot)
    model, history = _run(options, given)
    if options.save is not None:
        with as_user_error(ValueError):
            model.save(options.save)
        print(f"saved {options.save}")
    if figure is not None:
        history.plot(figure)
        figure.savefig(options.plot)
        print(f"drawn {options.plot}")
    return 0


def _figure_for(path: Path) -> Any:
    """Return an empty figure, or raise where matplotlib or the place would fail in the end."""
    _check_place("--plot", path)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(f"--plot: expected matplotlib, to draw, got none; {INSTALL}") from None
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    kinds = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds:
        raise UserError(
            f"--plot: expected a file's name that ends in one of {', '.join(sorted(kinds))}, got "
            f"{path.name!r}; name it {path.stem}.svg"
        )
    return figure


def _run(options: argparse.Namespace, given: dict[str, Any]) -> "tuple[MLP, History]":
    from . import jobs
    from .train_table import train_table

    if options.table is not None:
        for name, value in (("--notebook", options.notebook), ("--data", options.data)):
            if value:
                raise _contradiction(name, "without TABLE")
        if "target" not in given:
            raise UserError("--target: expected the column to predict, got none; pass its name")
        return train_table(options.table, given.pop("target"), **given)
    for name in OF_A_TABLE:
        if name in given:
            raise _contradiction(f"--{name}", "with TABLE")
    if not options.notebook:
        return jobs.train(options.data, **given)
    for name in ("batch_size", "hidden"):
        if name in given:
            option = f"--{name.replace('_', '-')}"
            raise _contradiction(option, "without --notebook, whose job is fixed")
    return jobs.train_notebook(options.data, **given)


def _contradiction(option: str, when: str) -> UserError:
    return UserError(f"{option}: expected {when}; leave one of them out")


def _check_place(option: str, path: Path) -> None:
    """Raise where a file can't be written: a training may take long before it is."""
    folder = path.parent
    if path.is_dir() or not os.access(folder, os.W_OK):
        got = "a folder" if path.is_dir() else f"{folder}, where nothing can be written"
        raise UserError(f"{option}: expected the place of a file, got {got}; name another")

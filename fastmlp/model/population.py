"""Many models at once: what each is trained on, and the plain way, one after the other."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checks import Array, dtype_error, plain_array, shape_error
from .fit import Request, train
from .fit_checks import (
    Data,
    Schedule,
    checked_callback,
    checked_data,
    checked_schedule,
    checked_validation,
)
from .history import History
from .optimizer_state import Kept, starting_state
from .parameters import Rng, bit_generator
from .progress import progress_bar
from .sample_weights import ClassWeight, checked_weight, weight_of
from .stopping import Watch, checked_watch

if TYPE_CHECKING:
    from .estimator import Estimator

Callback = Callable[[int, History], object]
Show = Callable[..., None]  # see progress.py


class Task(NamedTuple):
    """What `fit` would do with a model: all of it checked.

    data: all samples, which models may share; rows: the model's own among them, None: all; weight:
    of these (samples,).
    """

    number: int
    model: "Estimator"
    data: Data
    rows: Array | None
    weight: Array | None
    schedule: Schedule
    state: Kept
    generator: np.random.PCG64 | None
    validation: Data | None
    watch: Watch | None
    check_finite: bool

    @property
    def samples(self) -> int:
        """How many samples an epoch visits."""
        return len(self.data.y if self.rows is None else self.rows)


def fit_many(
    models: Sequence["Estimator"],
    x: Any,
    y: Any,
    *,
    rows: Any = None,
    epochs: int | list[int] = 10,
    batch_size: int | list[int] = 128,
    learning_rate: float | Array | list[Any] = 1e-3,
    optimizer: str | list[str] = "adam",
    momentum: float | list[float] = 0.9,
    weight_decay: float | list[float] = 0.0,
    max_norm: float | list[float | None] | None = None,
    decay_bias: bool | list[bool] = True,
    sample_weight: Array | list[Any] | None = None,
    class_weight: ClassWeight | list[Any] = None,
    shuffle: bool | list[bool] = True,
    validation: Any = None,
    patience: int | list[int | None] | None = None,
    monitor: str | list[str] = "loss",
    restore_best: bool | list[bool] = True,
    resume: bool | list[bool] = False,
    rng: Rng | list[Rng] = None,
    progress: bool = False,
    callback: Callback | None = None,
    check_finite: bool | list[bool] = True,
) -> list[History]:
    """Train many models at once, each with the bits that it has alone; return their histories.

    Arguments are those of `fit`: one value for all models, or a list with one for each. x, y: the
    samples of all, or lists with those of each; an x (models, N, inputs) with y (models, N) or
    (models, N, outputs) is one, too. rows: for each model the numbers of its samples, from 0, also
    several times the same one, or a mask (N,); x isn't copied for them. sample_weight is of all
    samples, before rows. A generator can't be shared: give each model a seed of its own.

    A thread trains a model at a time, so models of any sizes, losses and dtypes may stand in the
    list, each once. A model that diverges is left as its last epoch with finite weights did, and
    its history's `error` says so; the others go on. Histories have no `seconds`, as threads share
    the cores. progress: show a bar over all. callback: called as callback(number, history) after
    each epoch of each model; a true result ends that model's training. Ctrl-C leaves each model
    as its last finished epoch did; the KeyboardInterrupt has the `histories`.

    TypeError and ValueError name the model's number, before anything is written.
    """
    settings = dict(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, optimizer=optimizer,
        momentum=momentum, weight_decay=weight_decay, max_norm=max_norm, decay_bias=decay_bias,
        sample_weight=sample_weight, class_weight=class_weight, shuffle=shuffle,
        validation=validation, patience=patience, monitor=monitor, restore_best=restore_best,
        resume=resume, rng=rng, check_finite=check_finite,
    )  # fmt: skip
    checked_callback(callback, "a number and a history")
    tasks = _tasks(checked_models(models), x, y, rows, settings)
    return _train(tasks, progress, callback)


def _train(tasks: list[Task], progress: bool, callback: Callback | None) -> list[History]:
    """Train the tasks' models: together those that can, the others one after the other."""
    histories = [History() for _ in tasks]
    together = [task for task in tasks if task.model._trains_together()]
    total = sum(task.schedule.epochs for task in tasks)
    try:
        with progress_bar(total, "fit_many") if progress else nullcontext() as show:
            if together:
                from .jobs import train_together  # it loads the compiler

                train_together(together, histories, show, callback)
            for task in tasks:
                if not task.model._trains_together():
                    train_alone(task, histories, show, callback)
    except KeyboardInterrupt:
        interrupt = KeyboardInterrupt(
            "fit_many: interrupted; each model is as its last finished epoch left it"
        )
        interrupt.histories = histories  # type: ignore[attr-defined]
        raise interrupt from None
    return histories


def train_alone(
    task: Task,
    histories: list[History],
    show: Show | None,
    callback: Callback | None,
    first: int = 0,
) -> None:
    """Do what `fit` does, from an epoch on; its history is written to the list."""
    data, weight, history = task.data, task.weight, histories[task.number]
    if task.rows is not None:
        x = data.x[task.rows]
        data = data._replace(name=f"{data.name}[rows]", given=x, x=x, y=data.y[task.rows])

    def after_epoch(history: History) -> object:
        if show is not None:
            show(history.last())
        return callback is not None and callback(task.number, history)

    request = Request(
        data._replace(weight=weight), task.schedule, task.state, task.generator, task.validation,
        task.watch, False, after_epoch, task.check_finite,
    )  # fmt: skip
    try:
        train(task.model, request, history, first)
    except (FloatingPointError, ValueError) as error:
        history.error = str(error)
    history.seconds.clear()


def checked_models(models: Any) -> list["Estimator"]:
    """Return the models, each of them once, or raise."""
    from .estimator import Estimator

    if isinstance(models, Estimator):
        raise TypeError(
            f"models: expected a list of models, got one {type(models).__name__}; pass [model]"
        )
    found, seen = list(models), set()
    for number, model in enumerate(found):
        if not isinstance(model, Estimator):
            got = type(model).__name__
            raise TypeError(
                f"models[{number}]: expected a model, got {got}; pass fastmlp.MLP(sizes)"
            )
        if id(model) in seen:
            mend = "pass copies, copy.deepcopy(model)"
            raise shape_error(f"models[{number}]", "each model once", "one twice", mend)
        seen.add(id(model))
    return found


def _tasks(
    models: list["Estimator"], x: Any, y: Any, rows: Any, settings: dict[str, Any]
) -> list[Task]:
    """Return the checked tasks; what models share is checked once."""
    count, checks = len(models), _Checks()
    values = {name: _each(name, value, count) for name, value in settings.items()}
    xs, ys = _samples(models, x, y)
    own_rows = _each("rows", None if rows is None else list(rows), count)
    _refuse_shared_generators(values["rng"])
    tasks = []
    for number, model in enumerate(models):
        own = {name: value[number] for name, value in values.items()}
        try:
            task = checks.task(number, model, xs[number], ys[number], own_rows[number], own)
        except (TypeError, ValueError) as error:
            raise type(error)(f"models[{number}]: {error}") from None
        tasks.append(task)
    return tasks


def _each(name: str, value: Any, count: int) -> list[Any]:
    """Return a value for each model: those of a list, or the one for all."""
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        expected = f"one value, or a list of {count}, one for each model"
        raise shape_error(name, expected, f"a list of {len(value)}", "give each model one")
    return value


def _samples(models: list["Estimator"], x: Any, y: Any) -> tuple[list[Any], list[Any]]:
    """Return x and y of each model."""
    count = len(models)
    if isinstance(x, np.ndarray) and x.ndim == 3 and models:
        inputs = models[0].sizes[0]
        if x.shape[2] == inputs != x.shape[1] * x.shape[2]:
            x = list(x)
    own_x = isinstance(x, list)
    own_y = isinstance(y, list) and len(y) > 0 and isinstance(y[0], np.ndarray)
    if own_x and not own_y and np.ndim(y) > 0 and len(y) == count:
        y, own_y = list(y), True
    if own_x and not own_y:
        expected = f"a list of {count}, one for each model, as x is"
        raise shape_error("y", expected, type(y).__name__, "give each model its own")
    return _each("x", x, count), _each("y", y, count) if own_y else [y] * count


def _refuse_shared_generators(rngs: list[Rng]) -> None:
    """Raise where two models would draw from one generator: the order of models would matter."""
    seen: set[int] = set()
    for number, rng in enumerate(rngs):
        if isinstance(rng, np.random.Generator | np.random.BitGenerator):
            if id(rng) in seen:
                mend = f"pass rng=[*range({len(rngs)})]"
                raise shape_error(f"rng of models[{number}]", "its own", "another's, too", mend)
            seen.add(id(rng))


def _checked_rows(rows: object, samples: int) -> Array:
    """Return the numbers of a model's samples, int64, or raise."""
    array = plain_array("rows", rows)
    if array.dtype == bool and array.shape == (samples,):
        array = np.flatnonzero(array)
    if array.size == 0:
        raise shape_error("rows", "at least one sample", "none", "leave the model out")
    if array.dtype.kind not in "iu":
        mend = "give numbers of samples"
        raise dtype_error("rows", f"integers, or a mask ({samples},)", array.dtype, mend)
    if array.ndim != 1:
        raise shape_error("rows", "one axis", f"shape {array.shape}", "give each model its own")
    wrong = np.flatnonzero((array < 0) | (array >= samples))
    if wrong.size:
        expected, mend = f"0 to {samples - 1}", "give numbers of samples, from 0"
        raise shape_error(f"rows[{wrong[0]}]", expected, array[wrong[0]], mend)
    return array.astype(np.int64)


class _Checks:
    """Checks what models are given; what several are given is checked once."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}
        self.alive: list[Any] = []  # whose ids are keys

    def once(self, key: Any, things: tuple[Any, ...], check: Callable[[], Any]) -> Any:
        """Return what check() gave for these things, told apart by their identity."""
        key = (*key, *map(id, things))
        if key not in self.kept:
            self.kept[key] = check()
            self.alive.append(things)
        return self.kept[key]

    def task(
        self, number: int, model: "Estimator", x: Any, y: Any, rows: Any, own: dict[str, Any]
    ) -> Task:
        model._refuse_read_only()
        is_finite = own["check_finite"]
        kind = type(model), model.sizes, model.dtype, model.loss_name, bool(is_finite)
        data = self.once(
            ("data", *kind), (x, y), lambda: checked_data(model, x, y, is_finite)
        )
        if rows is not None:
            given, count = rows, len(data.y)
            rows = self.once(("rows", count), (given,), lambda: _checked_rows(given, count))
        weight = None
        if own["sample_weight"] is not None or own["class_weight"] is not None:
            weight = _weight(model, data, rows, own["sample_weight"], own["class_weight"])
        samples = len(data.y if rows is None else rows)
        schedule = self.schedule(samples, own)
        pair = own["validation"]
        evaluated = self.once(
            ("validation", *kind), (pair,), lambda: checked_validation(model, pair, is_finite)
        )
        watch = checked_watch(
            model, own["patience"], own["monitor"], own["restore_best"], pair
        )
        state = starting_state(model, own["optimizer"], own["resume"])
        if state[1]:
            schedule = schedule._replace(done=state[1], kept={})
        generator = bit_generator(own["rng"]) if own["shuffle"] else None
        return Task(
            number, model, data, rows, weight, schedule, state, generator, evaluated, watch,
            bool(is_finite),
        )  # fmt: skip

    def schedule(self, samples: int, own: dict[str, Any]) -> Schedule:
        arguments = [own[name] for name in _OF_SCHEDULES]
        key = ("schedule", samples, *((type(one), one) for one in arguments))
        try:
            found: Schedule | None = self.kept.get(key)
        except TypeError:  # an array
            return checked_schedule(samples, *arguments)
        if found is None:
            found = self.kept[key] = checked_schedule(samples, *arguments)
        return found


_OF_SCHEDULES = (
    *("epochs", "batch_size", "learning_rate", "optimizer", "momentum", "weight_decay"),
    *("max_norm", "decay_bias"),
)


def _weight(
    model: "Estimator", data: Data, rows: Array | None, sample_weight: Any, class_weight: Any
) -> Array | None:
    """Return the weights of a model's own samples."""
    weight = checked_weight(sample_weight, len(data.y))
    if rows is None:
        return weight_of(model, data.y, weight, class_weight)
    return weight_of(model, data.y[rows], None if weight is None else weight[rows], class_weight)

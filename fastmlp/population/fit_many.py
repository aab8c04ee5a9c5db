"""Many models at once, and the plain way to train them: one after the other."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from ..checks import Array
from ..choices import Monitor, Optimizer
from ..model.draws import Rng, bit_generator
from ..model.fit import Request, train
from ..model.fit_checks import checked_callback
from ..model.history import History
from ..model.optimizer_state import starting_state
from ..model.progress import progress_bar
from ..model.sample_weights import ClassWeight
from ..model.stopping import Watch
from .tasks import Task, checked_models, checked_tasks

if TYPE_CHECKING:
    from ..model.estimator import Estimator

Callback = Callable[[int, History], object]
Show = Callable[..., None]  # see model/progress.py


def fit_many(
    models: Sequence["Estimator"],
    x: Any,
    y: Any,
    *,
    rows: Any = None,
    epochs: int | list[int] = 10,
    batch_size: int | list[int] = 128,
    learning_rate: float | Array | list[Any] = 1e-3,
    optimizer: Optimizer | list[Optimizer] = "adam",
    momentum: float | list[float] = 0.9,
    weight_decay: float | list[float] = 0.0,
    max_norm: float | list[float | None] | None = None,
    decay_bias: bool | list[bool] = True,
    sample_weight: Array | list[Any] | None = None,
    class_weight: ClassWeight | list[Any] = None,
    shuffle: bool | list[bool] = True,
    validation: Any = None,
    patience: int | list[int | None] | None = None,
    monitor: Monitor | list[Monitor] = "loss",
    restore_best: bool | list[bool] = True,
    resume: bool | list[bool] = False,
    rng: Rng | list[Rng] = None,
    progress: bool = False,
    callback: Callback | None = None,
    check_finite: bool | list[bool] = True,
    executor: Any = None,
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

    executor: who trains instead of this process's threads, with the same bits: an executor of
    concurrent.futures, or one like it, a Dask Client, or a joblib.Parallel. It gets the models in
    blocks: after Ctrl-C, those whose block was under way are as they were (with a callback, which
    is called here, a block is one epoch). There x, y and validation may be paths of .npy files or
    futures of Dask. RuntimeError names the models whose worker raises, or dies three times.

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
    found = checked_models(models)
    if executor is not None:
        from ..executors.blocks import Given
        from ..executors.training import train_on

        return train_on(executor, Given(found, x, y, rows, settings), progress, callback)
    tasks = checked_tasks(found, x, y, rows, settings)
    return _train(tasks, progress, callback)


def _train(tasks: list[Task], progress: bool, callback: Callback | None) -> list[History]:
    """Train the tasks' models: together those that can, the others one after the other."""
    histories = [History() for _ in tasks]
    together: list[Task] = []
    others: list[Task] = []
    for task in tasks:
        (together if task.model._trains_together() else others).append(task)
    total = sum(task.shared.schedule.epochs for task in tasks)
    try:
        with progress_bar(total, "fit_many") if progress else nullcontext() as show:
            if together:
                from .jobs import train_together  # it loads the compiler

                train_together(together, histories, show, callback)
            for task in others:
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
    watch: Watch | None = None,
) -> None:
    """Do what `fit` does, from where its history ends on; that is written to the list.

    watch: of a training that has come so far.
    """
    shared, model, history = task.shared, task.model, histories[task.number]
    data, stream, begun, schedule = shared.data, task.stream, len(history.loss), task.schedule
    # The state has those epochs' steps, which the schedule counts, too.
    schedule = schedule._replace(done=schedule.done - begun * len(schedule.steps(0)))
    if task.rows is not None:
        x = data.x[task.rows]
        data = data._replace(name=f"{data.name}[rows]", given=x, x=x, y=data.y[task.rows])
    if watch is None and shared.stopping is not None:
        watch = Watch(shared.stopping)

    def after_epoch(history: History) -> object:
        if show is not None:
            show(history.last())
        return callback is not None and callback(task.number, history)

    request = Request(
        data._replace(weight=task.weight), schedule,
        task.state or starting_state(model, schedule.optimizer, resume=False),
        None if stream is None else bit_generator(stream), shared.validation, watch, False,
        after_epoch, shared.check_finite,
    )  # fmt: skip
    try:
        train(model, request, history, begun)
    except (FloatingPointError, ValueError) as error:
        history.error = str(error)
    history.seconds.clear()

"""The caller's side of `fit_many(executor=)`: it checks, sends, gathers, and tells."""

from collections.abc import Callable
from contextlib import closing, nullcontext
from typing import Any

import numpy as np

from ..checks import dtype_error
from ..model.draws import bit_generator
from ..model.fit import Keeper
from ..model.history import History
from ..model.progress import progress_bar
from ..model.stopping import Watch, checked_watch
from ..population.tasks import checked_tasks, each_of
from .arrays import has_remote, opened
from .blocks import Arguments, Block, Failure, Given, Outcome, names_of, renumbered
from .engines import Dask, Engine, engine_of
from .waiting import Run, Waiting

MOST_TRIES = 3  # of a block whose workers die
FIGURES = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def train_on(
    executor: Any,
    given: Given,
    progress: bool,
    callback: Callable[[int, History], object] | None,
) -> list[History]:
    """Train the models on an executor; write their weights, states and histories here."""
    engine = engine_of(executor)
    given = given._replace(x=opened(given.x), y=opened(given.y), settings={
        **given.settings, "validation": opened(given.settings["validation"])
    })  # fmt: skip
    if not given.models:
        return []
    if has_remote([given.x, given.y, *given.settings.values()]):
        arguments, samples = _checked_there(engine, given, callback is not None)
    else:
        samples = _checked_here(given)
        arguments = Arguments(given, callback is not None)
    training = Training(given, arguments, samples, callback)
    try:
        total = sum(training.epochs)
        with progress_bar(total, "fit_many") if progress else nullcontext() as show:
            training.run(engine, show)
    except KeyboardInterrupt:
        interrupt = KeyboardInterrupt(
            "fit_many: interrupted; each model whose block was back is trained, the others are as "
            "they were"
        )
        interrupt.histories = training.histories  # type: ignore[attr-defined]
        raise interrupt from None
    return training.histories


def _checked_here(given: Given) -> list[int]:
    """Check all that was given; return how many samples each model's epoch visits."""
    settings = dict(given.settings)
    if settings["rng"] is None:  # for which each would draw a seed
        settings["rng"] = 0
    tasks = checked_tasks(given.models, given.x, given.y, given.rows, settings)
    return [task.shared.samples for task in tasks]


def _checked_there(
    engine: Engine, given: Given, epochwise: bool
) -> tuple[Arguments, list[int]]:
    """Do the same in a worker, that has the samples."""
    if not isinstance(engine, Dask):
        mend = "pass executor=the client that has it"
        raise dtype_error("executor", "a Client, as there is a future of Dask", "another", mend)
    count = len(given.models)
    for name, value in given.settings.items():
        each_of(name, value, count)  # raises for a list of another length
    arguments = Arguments(given, epochwise)
    numbers = [*range(count)]
    checked = engine.check(arguments.block(numbers, None), arguments)
    if isinstance(checked, Failure):
        raise _error(checked, numbers)
    return arguments, checked


class Training:
    """The models on their way: which wait, and what has come back."""

    def __init__(
        self,
        given: Given,
        arguments: Arguments,
        samples: list[int],
        callback: Callable[[int, History], object] | None,
    ) -> None:
        self.models, self.arguments, self.callback = given.models, arguments, callback
        count, settings = len(given.models), given.settings
        self.histories = [History() for _ in given.models]
        self.epochs = [int(one) for one in each_of("epochs", settings["epochs"], count)]
        self.rngs = each_of("rng", settings["rng"], count)
        self.watches: list[Watch | None] = [None] * count
        if callback is not None:
            names = ("patience", "monitor", "restore_best", "validation")
            values = [each_of(name, settings[name], count) for name in names]
            self.watches = [*map(checked_watch, given.models, *values)]
        costs = [
            1e-10 * number * (model.flat_parameters.size + 1500)
            for number, model in zip(samples, given.models, strict=True)
        ]
        if callback is None:
            costs = [cost * epochs for cost, epochs in zip(costs, self.epochs, strict=True)]
        self.waiting = Waiting(costs, None if callback is None else 0)

    def take(self, slots: int) -> tuple[Run, Block] | None:
        """See engines.Source."""
        run = self.waiting.take(slots)
        return None if run is None else (run, self.arguments.block(run.numbers, run.epoch))

    def waits(self) -> bool:
        """See engines.Source."""
        return bool(self.waiting.runs)

    def run(self, engine: Engine, show: Callable[..., None] | None) -> None:
        """Run all blocks on an engine."""
        with closing(engine.results(self)) as results:
            for run, result in results:
                if isinstance(result, Outcome):
                    self._keep(run, result)
                    self.waiting.measure(run, result.seconds, result.threads)
                    self._tell(run, show)
                elif isinstance(result, engine.died):
                    if run.tries + 1 >= MOST_TRIES:
                        raise _lost(run, result) from result
                    self.waiting.put_again(run)
                else:
                    self._fail(run, result)

    def _keep(self, run: Run, outcome: Outcome) -> None:
        """Give the models what is theirs; an interrupt comes when all is written."""
        try:
            self._write(run, outcome)
        except KeyboardInterrupt:
            self._write(run, outcome)
            raise

    def _write(self, run: Run, outcome: Outcome) -> None:
        rngs = self.arguments.settings["rng"]
        for place, number in enumerate(run.numbers):
            history, new = self.histories[number], outcome.histories[place]
            state = outcome.states[place]
            if new.loss and state is not None:
                Keeper(self.models[number], 0).keep(0, outcome.parameters[place], state)
            self._move_on(number, rngs, outcome.streams[place])
            if run.epoch is None:
                vars(history).update(vars(new))
                continue
            for name in FIGURES:
                setattr(history, name, getattr(history, name)[: run.epoch] + getattr(new, name))
            history.error = new.error
            self.arguments.settings["resume"][number] = True

    def _move_on(self, number: int, rngs: Any, stream: Any) -> None:
        """Move a generator to where the worker's stands."""
        if stream is None:
            return
        given = self.rngs[number]
        if isinstance(given, np.random.Generator | np.random.BitGenerator):
            bit_generator(given).state = stream
        elif isinstance(rngs, list):
            if not isinstance(rngs[number], np.random.PCG64):
                rngs[number] = np.random.PCG64()
            rngs[number].state = stream

    def _tell(self, run: Run, show: Callable[..., None] | None) -> None:
        """Move the bar; of single epochs, call back and let those wait that go on."""
        going_on = []
        for number in run.numbers:
            history = self.histories[number]
            done = len(history.loss) - (run.epoch or 0)
            over = history.error is not None
            if run.epoch is not None and not over:
                over = self._is_over(number, run.epoch)
            if show is not None:
                show(history.last(), done)
            if self.callback is None or history.error is not None:
                continue
            if self.callback(number, history) or over:
                self._restore(number)
            else:
                going_on.append(number)
        if run.epoch is not None:
            self.waiting.put(going_on, run.epoch + 1)

    def _is_over(self, number: int, epoch: int) -> bool:
        """Whether a model has all its epochs, or its patience is over."""
        watch, model = self.watches[number], self.models[number]
        over = epoch + 1 == self.epochs[number]
        if watch is None or model._optimizer_state is None:
            return over
        weights, state = model.flat_parameters.copy(), model._optimizer_state
        return watch.is_over(self.histories[number], epoch, weights, state) or over

    def _restore(self, number: int) -> None:
        """Give a model whose training has ended its best epoch, as `fit` does."""
        watch = self.watches[number]
        if watch is not None and watch.kept is not None:
            Keeper(self.models[number], 0).keep(0, *watch.kept)

    def _fail(self, run: Run, result: Failure | BaseException) -> None:
        """Raise what a worker has met, naming the model; a block of many is tried in halves."""
        if isinstance(result, BaseException):
            result = Failure(type(result).__name__, str(result), "")
        if result.text.startswith("models[") or len(run.numbers) == 1:
            raise _error(result, run.numbers)
        self.waiting.put_again(run)


def _error(failure: Failure, numbers: list[int]) -> Exception:
    """Return a worker's error, with the numbers that the models have here."""
    kinds: dict[str, type[Exception]] = {"TypeError": TypeError, "ValueError": ValueError}
    error: Exception
    if failure.kind in kinds and failure.text.startswith("models["):
        error = kinds[failure.kind](renumbered(failure.text, numbers))
    else:
        error = RuntimeError(
            f"{names_of(numbers)}: expected a worker to train, got {failure.kind}: {failure.text}; "
            "leave executor out to see it here"
        )
    error.add_note(f"In the worker:\n{failure.trace}")
    return error


def _lost(run: Run, error: BaseException) -> Exception:
    return RuntimeError(
        f"{names_of(run.numbers)}: expected a worker that lives, got none {MOST_TRIES} times, at "
        f"last {type(error).__name__}: {error}; give workers more memory, or leave executor out"
    )

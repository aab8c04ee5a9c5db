"""Populations on threads: a model is a job, which one thread trains for some epochs at a time."""

import time
from itertools import groupby
from typing import Any

import numpy as np
from fastmlp_kernels.plans import population, record

from ..checks import Array
from ..model.addresses import DTYPES
from ..model.history import History
from ..model.parameters import lent
from ..model.stopping import Watch
from ..threads import SMALLEST_PARALLEL_WORK, threads_for
from .fit_many import Callback, Show, train_alone
from .layout import PLACE, Layouts, address
from .streams import starts_of, words_of
from .tasks import Task

BLOCK = 0.05  # seconds of a thread between two looks for Ctrl-C


def train_together(
    tasks: list[Task], histories: list[History], show: Show | None, callback: Callback | None
) -> None:
    """Train the tasks' models; write their weights, states and histories."""
    threads = threads_for(SMALLEST_PARALLEL_WORK)
    if len(tasks) < threads:  # then each has several
        for task in tasks:
            train_alone(task, histories, show, callback)
        return
    itemsize = lambda task: task.model.dtype.itemsize  # noqa: E731
    for _, group in groupby(sorted(tasks, key=itemsize), itemsize):
        jobs = Jobs(list(group), histories, threads)
        try:
            jobs.run(show, callback)
        finally:
            jobs.keep()
        for task, watch in jobs.left():
            train_alone(task, histories, show, callback, watch)


class Jobs:
    """The jobs of one dtype. table (models, fields): what kernels read, and how far they are."""

    def __init__(self, tasks: list[Task], histories: list[History], threads: int) -> None:
        self.tasks, self.threads = tasks, threads
        self.histories = [histories[task.number] for task in tasks]
        self.dtype = DTYPES[tasks[0].model.dtype.itemsize]
        self.layouts = Layouts()
        kinds = [self.layouts.number_of(task) for task in tasks]
        self.table = np.array(self.layouts.rows)[kinds]
        self.each = max(self.layouts.memory)
        self.memory = np.empty(threads * self.each + record.LINE, np.uint8)
        self.told = np.zeros(len(tasks), np.int64)  # epochs that are in the histories
        # Held until the end: as long as somebody does, no copies of them are kept.
        self.weights = [task.model.flat_parameters for task in tasks]
        self._give_figures()
        self._give_states()
        self._give_streams()
        self._fill(
            rows=[address(task.rows) for task in tasks],
            weights=[address(task.weight) for task in tasks],
            parameters=[address(weights) for weights in self.weights],
        )

    def _column(self, name: str) -> Array:
        return self.table[:, PLACE[name]]

    def _fill(self, **columns: Any) -> None:
        for name, values in columns.items():
            self._column(name)[:] = values

    def _give_figures(self) -> None:
        """Give each job a place for the figures of each epoch."""
        lengths = self._column("epochs")
        ends = np.cumsum(lengths)
        self.starts, places = ends - lengths, 8 * (ends - lengths)
        total = int(ends[-1])
        self.losses, self.hits = np.empty(total), np.empty(total, np.int64)
        evaluated = total if self._column("validation_samples").any() else 0
        self.validation_losses = np.empty(evaluated)
        self.validation_hits = np.empty(evaluated, np.int64)
        self._fill(
            losses=address(self.losses) + places, hits=address(self.hits) + places,
            validation_losses=address(self.validation_losses) + places,
            validation_hits=address(self.validation_hits) + places,
            best_epoch=-1, best_figure=np.float64(-np.inf).view(np.int64),
        )  # fmt: skip

    def _give_states(self) -> None:
        """Give each job its optimizer's states, rate and decay, and a place for its best epoch."""
        tasks, itemsize = self.tasks, self.dtype.itemsize
        sizes = self._column("state_bytes") // itemsize
        ends = np.cumsum(sizes)
        self.state_starts = ends - sizes
        self.states = np.zeros(int(ends[-1]), self.dtype)
        for number, task in enumerate(tasks):
            if task.state is not None:
                self._state_array(number)[...] = task.state[2]
        keeps = self._column("best") != 0  # whether, until it is where
        bests = np.where(keeps, self._column("size") + sizes, 0)
        ends = np.cumsum(bests)
        self.best_starts = ends - bests
        self.bests = np.empty(int(ends[-1]), self.dtype)
        places = np.where(keeps, address(self.bests) + itemsize * self.best_starts, 0)
        self._fill(states=address(self.states) + itemsize * self.state_starts, best=places)
        self.rates = np.zeros(len(tasks))
        for number, task in enumerate(tasks):
            if task.rate is not None:
                self.rates[number] = task.rate
                self.table[number, PLACE["rates"]] = address(self.rates) + 8 * number
                self.table[number, PLACE["rate_step"]] = 0
        decays = [task.decay for task in tasks]
        given = np.array([decay is not None for decay in decays])
        own = np.array([decay or 0.0 for decay in decays]).view(np.int64)
        self._column("decay")[given] = own[given]

    def _give_streams(self) -> None:
        """Give each job the state of its stream."""
        streams, first = [task.stream for task in self.tasks], PLACE["state_low"]
        seeds = [stream if isinstance(stream, int) else 0 for stream in streams]
        self.table[:, first:] = starts_of(seeds).view(np.int64)
        for number, stream in enumerate(streams):
            if isinstance(stream, np.random.PCG64):
                words = np.array(words_of(stream.state), np.uint64)
                self.table[number, first:] = words.view(np.int64)

    def run(self, show: Show | None, callback: Callback | None) -> None:
        """Run the jobs in blocks, some at a time, until all are over."""
        train = population.train[self.dtype]
        start = -address(self.memory) % record.LINE
        memory = self.memory[start:]
        epoch, epochs = self._column("epoch"), self._column("epochs")
        is_left, is_over = self._column("is_left"), self._column("is_over")
        active, budget = np.arange(len(self.tasks)), self.threads  # epochs of a block
        while active.size:
            count = min(active.size, self.threads * (4 if budget > 4 * self.threads else 1))
            most = 1 if callback is not None else max(1, budget // count)
            left = int(epochs[active[0]] - epoch[active[0]])
            if most > left:
                count = min(active.size, max(self.threads, budget // left))
            picks = active[:count]
            before, begin = int(epoch[picks].sum()), time.perf_counter()
            train(self.table, picks, most, memory, self.each, self.threads)
            seconds = time.perf_counter() - begin
            done = int(epoch[picks].sum()) - before
            budget = max(1, int(BLOCK * max(1, done) / seconds))
            if callback is not None:
                self._call(callback, picks.tolist())
            if show is not None and done:
                self._note(int(picks[-1]))
                show(self.histories[picks[-1]].last(), done)
            over = (is_left[picks] | is_over[picks] | (epoch[picks] == epochs[picks])) != 0
            active = np.concatenate([picks[~over], active[count:]])

    def _call(self, callback: Callback, picks: list[int]) -> None:
        """Call back for each of the jobs that has done an epoch; end those where it says so."""
        for number in picks:
            if self.table[number, PLACE["epoch"]] > self.told[number]:
                self._note(number)
                is_over = bool(callback(self.tasks[number].number, self.histories[number]))
                self.table[number, PLACE["is_over"]] |= is_over

    def _note(self, number: int) -> None:
        """Write to a job's history what it has done; once more, if an interrupt came between."""
        task, history, row = self.tasks[number], self.histories[number], self.table[number]
        before, now = int(self.told[number]), int(row[PLACE["epoch"]])
        done = slice(start := int(self.starts[number] + before), start + now - before)
        validation = task.shared.validation
        history.loss[before:] = self.losses[done].tolist()
        if validation is not None:
            history.validation_loss[before:] = self.validation_losses[done].tolist()
        if task.model._has_accuracy:
            samples = task.shared.samples
            history.accuracy[before:] = [hits / samples for hits in self.hits[done].tolist()]
            if validation is not None:
                samples, hits = len(validation.y), self.validation_hits[done].tolist()
                history.validation_accuracy[before:] = [one / samples for one in hits]
        self.told[number] = now
        if task.shared.stopping is not None:
            best = int(row[PLACE["best_epoch"]])
            history.best_epoch = None if best < 0 else best

    def _state_array(self, number: int) -> Array:
        start, size = int(self.state_starts[number]), int(self.table[number, PLACE["state_bytes"]])
        return self.states[start : start + size // self.dtype.itemsize]

    def _state(self, number: int, epochs: int, array: Array) -> tuple[str, int, Array]:
        task = self.tasks[number]
        steps = int(self.table[number, PLACE["steps"]])
        return task.shared.schedule.optimizer, task.done + epochs * steps, array.copy()

    def _best(self, number: int) -> tuple[Array, tuple[str, int, Array]] | None:
        """Return the weights and the state of a job's best epoch, if they are kept."""
        row = self.table[number]
        best = int(row[PLACE["best_epoch"]])
        if not row[PLACE["best"]] or best < 0:
            return None
        start, size = int(self.best_starts[number]), int(row[PLACE["size"]])
        stop = start + size + int(row[PLACE["state_bytes"]]) // self.dtype.itemsize
        weights, states = np.split(self.bests[start:stop], [size])
        return weights.copy(), self._state(number, best + 1, states)

    def keep(self) -> None:
        """Give the models the states that belong to their weights, and move their streams on.

        An interrupt comes when all is written.
        """
        try:
            self._keep()
        except KeyboardInterrupt:
            self.keep()
            raise

    def _keep(self) -> None:
        epoch = self._column("epoch")
        ended = (epoch == self._column("epochs")) | (self._column("is_over") != 0)
        restored = ended & (self._column("best") != 0)
        epochs, restores = epoch.tolist(), restored.tolist()
        for number, task in enumerate(self.tasks):
            if not epochs[number]:
                continue
            self._note(number)
            attributes = vars(task.model)
            best = self._best(number) if restores[number] else None
            if best is not None:
                lent(attributes)[...], attributes["_optimizer_state"] = best
            else:
                state = self._state(number, epochs[number], self._state_array(number))
                attributes["_optimizer_state"] = state
            if isinstance(task.stream, np.random.PCG64):
                self._move_on(number, task.stream)

    def _move_on(self, number: int, generator: np.random.PCG64) -> None:
        """Let a generator go on where a job has left its stream."""
        low, high = self.table[number, PLACE["state_low"] :][:2].view(np.uint64).tolist()
        state: Any = generator.state
        state["state"]["state"] = high << 64 | low
        generator.state = state

    def left(self) -> list[tuple[Task, Watch | None]]:
        """Return what is left to do of the jobs that left."""
        found: list[tuple[Task, Watch | None]] = []
        for number in np.flatnonzero(self._column("is_left")).tolist():
            task, history = self.tasks[number], self.histories[number]
            state = self._state(number, len(history.loss), self._state_array(number))
            stream = task.stream
            if isinstance(stream, int):
                stream = np.random.PCG64(stream)
                self._move_on(number, stream)
            watch = None
            if task.shared.stopping is not None:
                watch = Watch(task.shared.stopping)
                if history.best_epoch is not None:
                    watch.figure = watch.figure_of(history, history.best_epoch)
                    watch.kept = self._best(number)
            found.append((task._replace(state=state, stream=stream), watch))
        return found

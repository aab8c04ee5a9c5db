"""Populations on threads: a model is a job, which one thread trains for some epochs at a time."""

import time
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from fastmlp_kernels import pcg64, population, record

from ..checks import Array
from ..model import epochs
from ..model.addresses import DTYPES
from ..model.history import History
from ..threads import get_num_threads
from .fit_many import Callback, Show, train_alone
from .tasks import Task

BLOCK = 0.05  # seconds of a thread between two looks for Ctrl-C
PLACE = {name: number for number, name in enumerate(record.JOB_FIELDS)}


def train_together(
    tasks: list[Task], histories: list[History], show: Show | None, callback: Callback | None
) -> None:
    """Train the tasks' models; write their weights, states and histories."""
    threads = get_num_threads()
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
        for task in jobs.left():
            first = len(histories[task.number].loss)
            train_alone(task, histories, show, callback, first)


class Kind(NamedTuple):
    """What jobs of one shape and data share: the plan, its fields of a job, the thread's memory."""

    prepared: epochs.Prepared
    fields: Array
    memory: int


class Jobs:
    """The jobs of one dtype. table (models, fields): what kernels read, and how far they are."""

    def __init__(self, tasks: list[Task], histories: list[History], threads: int) -> None:
        self.tasks, self.threads = tasks, threads
        self.histories = [histories[task.number] for task in tasks]
        self.dtype = DTYPES[tasks[0].model.dtype.itemsize]
        self.constants: dict[int, Array] = {}  # by schedule
        self.kinds: dict[Any, Kind] = {}
        lengths = [task.schedule.epochs for task in tasks]
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.losses, self.hits = np.empty(self.starts[-1]), np.empty(self.starts[-1], np.int64)
        self.states = [task.state[2].copy() for task in tasks]
        self.streams = [None if one.generator is None else one.generator.state for one in tasks]
        self.table = np.array([self._kind(task).fields for task in tasks])
        self._fill()
        self.told = np.zeros(len(tasks), np.int64)  # epochs that are in the histories
        self.ended: set[int] = set()  # those that are over, but not left
        self.each = max(kind.memory for kind in self.kinds.values())
        self.memory = np.empty(threads * self.each + record.LINE, np.uint8)

    def _kind(self, task: Task) -> Kind:
        """Return what a job shares with others, made once."""
        model, schedule = task.model, task.schedule
        key = (
            model.sizes, model.bias, model.activation, model.loss_name, model.delta, id(schedule),
            id(task.data), task.samples, task.generator is None, task.rows is None,
            task.weight is None,
        )  # fmt: skip
        if key not in self.kinds:
            if id(schedule) not in self.constants:
                self.constants[id(schedule)] = schedule._constants(range(len(schedule.rates)))
            self.kinds[key] = _kind_of(task, self.constants[id(schedule)])
        return self.kinds[key]

    def _fill(self) -> None:
        """Write what is each job's own, by columns."""
        tasks, starts = self.tasks, 8 * self.starts[:-1]
        columns = {
            "rows": [_address(task.rows) for task in tasks],
            "weights": [_address(task.weight) for task in tasks],
            "parameters": [_address(task.model.flat_parameters) for task in tasks],
            "states": [_address(states) for states in self.states],
            "losses": _address(self.losses) + starts,
            "hits": _address(self.hits) + starts,
            "check_finite": [task.check_finite for task in tasks],
        }
        for name, values in columns.items():
            self.table[:, PLACE[name]] = values
        words = [_NO_STREAM if one is None else _words(one["state"]) for one in self.streams]
        self.table[:, PLACE["state_low"] :] = np.array(words, np.uint64).view(np.int64)

    def run(self, show: Show | None, callback: Callback | None) -> None:
        """Run the jobs in blocks, some at a time, until all are over."""
        train = population.train[self.dtype]
        start = (_address(self.memory) + record.LINE - 1) // record.LINE * record.LINE
        memory = self.memory[start - _address(self.memory) :]
        looks = callback is not None or any(task.validation for task in self.tasks)
        active, budget = [*range(len(self.tasks))], self.threads  # epochs of a block
        while active:
            count = min(len(active), self.threads * (4 if budget > 4 * self.threads else 1))
            most = 1 if looks else max(1, budget // count)
            left = self.tasks[active[0]].schedule.epochs - int(self.told[active[0]])
            if most > left:
                count = min(len(active), max(self.threads, budget // left))
            picks = np.array(active[:count], np.int64)
            before, begin = int(self.told.sum()), time.perf_counter()
            train(self.table, picks, most, memory, self.each, self.threads)
            seconds = time.perf_counter() - begin
            over = {number for number in picks.tolist() if self._tell(number, show, callback)}
            done = int(self.told.sum()) - before
            budget = max(1, int(BLOCK * max(1, done) / seconds))
            active = [number for number in active if number not in over]
            self.ended |= {one for one in over if not self.table[one, PLACE["is_left"]]}

    def _tell(self, number: int, show: Show | None, callback: Callback | None) -> bool:
        """Tell what a job has done; return whether it is over."""
        task, history, before = self.tasks[number], self.histories[number], int(self.told[number])
        self._note(number)
        now = int(self.told[number])
        over = bool(self.table[number, PLACE["is_left"]]) or now == task.schedule.epochs
        if now > before:
            if task.validation is not None:
                over |= self._evaluate(number, now - 1)
            if show is not None:
                show(history.last(), now - before)
            over |= callback is not None and bool(callback(task.number, history))
        return bool(over)

    def _note(self, number: int) -> None:
        """Write to a job's history what it has done."""
        task, history, start = self.tasks[number], self.histories[number], self.starts[number]
        now = int(self.table[number, PLACE["epoch"]])
        done = slice(start + self.told[number], start + now)
        history.loss += self.losses[done].tolist()
        if task.model._has_accuracy:
            history.accuracy += (self.hits[done] / task.samples).tolist()
        self.told[number] = now

    def _evaluate(self, number: int, epoch: int) -> bool:
        """Evaluate a model after an epoch; return whether its patience is over."""
        task, history = self.tasks[number], self.histories[number]
        assert task.validation is not None
        loss, accuracy = task.model._evaluate(task.validation)
        history.validation_loss.append(loss)
        if accuracy is not None:
            history.validation_accuracy.append(accuracy)
        if task.watch is None:
            return False
        weights, state = task.model.flat_parameters.copy(), self._state(number)
        return task.watch.is_over(history, epoch, weights, (*state[:2], state[2].copy()))

    def _state(self, number: int) -> tuple[str, int, Array]:
        task, done = self.tasks[number], int(self.table[number, PLACE["epoch"]])
        steps = task.state[1] + done * len(task.schedule.steps(0))
        return task.schedule.optimizer, steps, self.states[number]

    def keep(self) -> None:
        """Give the models the states that belong to their weights, and move their streams on."""
        for number, task in enumerate(self.tasks):
            if not self.table[number, PLACE["epoch"]]:
                continue
            self._note(number)  # an interrupt can have come before
            vars(task.model)["_optimizer_state"] = self._state(number)
            watch = task.watch if number in self.ended else None
            if watch is not None and watch.kept is not None:
                task.model.flat_parameters[...], vars(task.model)["_optimizer_state"] = watch.kept
            stream = self.streams[number]
            if stream is not None and task.generator is not None:
                low, high = self.table[number, PLACE["state_low"] :][:2].view(np.uint64).tolist()
                stream["state"]["state"] = high << 64 | low
                task.generator.state = stream

    def left(self) -> list[Task]:
        """Return what is left to do of the jobs that left."""
        return [
            task._replace(state=self._state(number))
            for number, task in enumerate(self.tasks)
            if self.table[number, PLACE["is_left"]]
        ]


def _kind_of(task: Task, constants: Array) -> Kind:
    """Return what a job shares with those of its shape, compiled."""
    model, schedule, data, samples = task.model, task.schedule, task.data, task.samples
    ordered = task.generator is not None or task.rows is not None
    steps_each = len(schedule.steps(0))
    steps = epochs.steps_of(model, schedule, constants[:steps_each])
    passes = epochs.may_pass_over(data.x, model.sizes)
    prepared = epochs.prepare(
        epochs.describe(data.x, samples, ordered, steps, 1, passes, task.weight is not None)
    )
    itemsize, size, bits = model.dtype.itemsize, model.flat_parameters.size, 0
    if task.generator is not None:
        bits = pcg64.bits_of_buckets(samples)
    y_bytes = data.y.nbytes // len(data.y)
    plan_bytes = prepared.size + steps_each * itemsize
    places, memory = {}, population.HEAD
    for name, count in {
        "order": 8 * samples * ordered, "draws": 8 * samples * (bits > 0),
        "counts": 8 * (1 << bits), "seen": y_bytes * samples * ordered,
        "seen_weights": 8 * samples, "scales": itemsize * samples,
        "sample_losses": itemsize * samples, "work": 3 * size * itemsize, "plan_memory": plan_bytes,
    }.items():  # fmt: skip
        places[name] = memory = -(-memory // record.LINE) * record.LINE
        memory += count
    fields = {
        **places, "plan": _address(prepared.words), "x": _address(data.x), "y": _address(data.y),
        "constants": _address(constants), "samples": samples, "batch_size": schedule.batch_size,
        "steps": steps_each, "epochs": schedule.epochs, "y_bytes": y_bytes,
        "size": size, "parameter_bytes": size * itemsize, "state_bytes": task.state[2].nbytes,
        "max_norm": int(np.float64(schedule.max_norm).view(np.int64)), "shuffles": int(bits > 0),
        "watches": int(prepared.watches), "bits": bits, "plan_bytes": plan_bytes // 8 * 8,
    }  # fmt: skip
    row = np.zeros(len(record.JOB_FIELDS), np.int64)
    for name, value in fields.items():
        row[PLACE[name]] = value
    return Kind(prepared, row, -(-memory // record.LINE) * record.LINE)


def _address(array: Array | None) -> int:
    return 0 if array is None else int(array.__array_interface__["data"][0])


_NO_STREAM = (0,) * pcg64.STATE_WORDS
_LOWER = (1 << 64) - 1


def _words(stream: Any) -> tuple[int, ...]:
    """Return the halves of a PCG64's state and increment."""
    state, increment = stream["state"], stream["inc"]
    return state & _LOWER, state >> 64, increment & _LOWER, increment >> 64

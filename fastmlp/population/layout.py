"""What the jobs of one kind have alike: their plans, and where a thread's memory has what."""

from typing import Any

import numpy as np
from fastmlp_kernels.plans import pcg64, population, record

from ..checks import Array
from ..model import epochs
from ..model.fit_checks import Schedule
from ..model.goals import goal_of
from ..model.losses import loss_of
from ..model.predictions import prediction_bytes, predictor
from ..plan.ways import STATES
from .tasks import Task

PLACE = {name: number for number, name in enumerate(record.JOB_FIELDS)}


class Layouts:
    """The kinds of jobs: rows, what is alike in their rows of the table; memory: of a thread."""

    def __init__(self) -> None:
        self.rows: list[Array] = []
        self.memory: list[int] = []
        self.numbers: dict[Any, int] = {}
        self.plans: dict[Any, tuple[dict[str, int], int]] = {}
        self.constants: dict[Any, Array] = {}
        self.alive: list[Any] = []  # whose addresses are in the rows

    def number_of(self, task: Task) -> int:
        """Return the number of a job's kind."""
        model, shared, parts = task.model, task.shared, _parts(task)
        kind = model.sizes, model.bias, model.activation, model.loss_name, model.delta
        key = (*kind, id(shared), task.done, *parts)
        if key not in self.numbers:
            self.numbers[key] = len(self.rows)
            fields, memory = self._fields(task, kind)
            row = np.zeros(len(record.JOB_FIELDS), np.int64)
            for name, value in fields.items():
                row[PLACE[name]] = value
            self.rows.append(row)
            self.memory.append(memory)
        return self.numbers[key]

    def _fields(self, task: Task, kind: Any) -> tuple[dict[str, int], int]:
        shared, schedule, data = task.shared, task.shared.schedule, task.shared.data
        self.alive.append(shared)
        passes = epochs.may_pass_over(data.x, task.model.sizes)
        validation = shared.validation
        samples = 0 if validation is None else len(validation.y)
        steps = epochs.steps_of(task.model, schedule, schedule.rates[: len(schedule.steps(0))])
        key = (
            *kind,
            shared.samples,
            samples,
            passes,
            *_parts(task),
            *steps[:3],
            len(steps.constants),
            *steps[4:],
        )
        if key not in self.plans:
            self.plans[key] = self._plan(task, steps, passes)
        plan, memory = self.plans[key]
        itemsize, size = task.model.dtype.itemsize, task.model.flat_parameters.size
        fields = {
            **plan, "x": address(data.x), "y": address(data.y), "rates": address(schedule.rates),
            "rate_step": 1, "decay": _bits(float(schedule.weight_decay)),
            "constants": address(self._constants(schedule._replace(done=task.done))),
            "rule": _rule(schedule.optimizer), "samples": shared.samples,
            "batch_size": schedule.batch_size, "steps": len(steps.constants),
            "epochs": schedule.epochs, "y_bytes": data.y.nbytes // len(data.y), "size": size,
            "parameter_bytes": size * itemsize, "max_norm": _bits(schedule.max_norm),
            "check_finite": shared.check_finite,
        }  # fmt: skip
        if validation is not None:
            fields |= {
                "validation_x": address(validation.x), "validation_y": address(validation.y),
                "validation_samples": samples,
            }  # fmt: skip
        if shared.stopping is not None:
            patience, monitor, restore_best = shared.stopping
            fields |= {"patience": patience, "by_accuracy": monitor == "accuracy"}
            fields["best"] = restore_best  # the job says where
        return fields, memory

    def _constants(self, schedule: Schedule) -> Array:
        """Return the constants of all steps, but for rates and decay."""
        count = len(schedule.rates)
        key = (
            schedule.optimizer, schedule.momentum, schedule.done, count, schedule.beta1,
            schedule.beta2, schedule.epsilon,
        )  # fmt: skip
        if key not in self.constants:
            self.constants[key] = schedule.without_rates(range(count))
        return self.constants[key]

    def _plan(
        self, task: Task, steps: epochs.Steps, passes: tuple[bool, bool]
    ) -> tuple[dict[str, int], int]:
        """Return the fields of a job that its plans decide, and a thread's memory."""
        model, shared, samples = task.model, task.shared, task.shared.samples
        ordered, weighted, shuffles = _parts(task)
        data, validation, size = shared.data, shared.validation, model.flat_parameters.size
        prepared = epochs.prepare(
            epochs.describe(data.x, samples, ordered, steps, 1, passes, weighted)
        )
        bits = pcg64.bits_of_buckets(samples) if shuffles else 0
        count, itemsize = len(steps.constants), model.dtype.itemsize
        plan_bytes = prepared.size + count * itemsize
        fields, needs = {}, {
            "order": 8 * samples * ordered, "draws": 8 * samples * shuffles,
            "counts": 8 * (1 << bits), "seen": data.y.nbytes // len(data.y) * samples * ordered,
            "seen_weights": 8 * samples, "scales": itemsize * samples,
            "sample_losses": itemsize * samples,
            "work": size * itemsize + _state_bytes(task),
            "step_constants": 8 * record.CONSTANTS_EACH * count, "plan_memory": plan_bytes,
        }  # fmt: skip
        self.alive.append(prepared)
        if validation is not None:
            loss = loss_of(model)
            found = predictor(
                model.sizes, model.bias, model.activation, model.flat_parameters,
                goal_of(model, "losses"), loss,
            )  # fmt: skip
            words = found.words_for(len(validation.y))
            self.alive.append((found, words))
            fields["validation_plan"] = address(words)
            needs["validation_sample_losses"] = itemsize * len(validation.y)
            needs["validation_memory"] = prediction_bytes(words, len(validation.y))
        memory = population.HEAD
        for name, need in needs.items():
            fields[name] = memory = -(-memory // record.LINE) * record.LINE
            memory += need
        fields |= {
            "plan": address(prepared.words), "plan_bytes": plan_bytes // 8 * 8,
            "watches": prepared.watches, "shuffles": shuffles, "bits": bits,
            "state_bytes": _state_bytes(task),
        }  # fmt: skip
        return fields, -(-memory // record.LINE) * record.LINE


def address(array: Array | None) -> int:
    """Return where an array's memory starts, 0 for none."""
    return 0 if array is None else int(array.__array_interface__["data"][0])


def _parts(task: Task) -> tuple[bool, bool, bool]:
    """Return whether a job visits its samples in an order, has weights, and shuffles."""
    shuffles = task.stream is not None
    return shuffles or task.rows is not None, task.weight is not None, shuffles


def _state_bytes(task: Task) -> int:
    model = task.model
    states = STATES[task.shared.schedule.optimizer]
    return states * model.flat_parameters.size * model.dtype.itemsize


def _rule(optimizer: str) -> int:
    rules = record.RULES
    return rules.index(optimizer) if optimizer in rules else rules.index("other")


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))

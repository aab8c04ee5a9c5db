"""Many models at once: what each of them is trained on, checked."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..checks import Array, dtype_error, plain_array, shape_error
from ..model.draws import Rng, bit_generator
from ..model.fit_checks import (
    Data,
    Schedule,
    checked_data,
    checked_rate,
    checked_schedule,
    checked_validation,
)
from ..model.optimizer_state import Kept, starting_state
from ..model.sample_weights import checked_weight, weight_of
from ..model.stopping import Stopping, checked_watch
from ..operations.update_checks import weight_decay_number
from .streams import MOST_BITS

if TYPE_CHECKING:
    from ..model.estimator import Estimator


class Shared(NamedTuple):
    """What models of one kind have alike, all of it checked.

    data: all samples. schedule: its rates and weight decay are for tasks that have none of their
    own. stopping: what ends a training in time, if anything.
    """

    data: Data
    samples: int  # that an epoch visits
    schedule: Schedule
    validation: Data | None
    stopping: Stopping | None
    check_finite: bool


class Task(NamedTuple):
    """What `fit` would do with a model.

    rows: the model's own among the samples, None: all; weight: of these (samples,). rate, decay:
    its own learning rate and weight decay, None: the schedule's. state: None for one that starts
    anew. stream: a seed or a generator, None: no shuffle.
    """

    number: int
    model: "Estimator"
    shared: Shared
    rows: Array | None
    weight: Array | None
    rate: float | None
    decay: float | None
    state: Kept | None
    stream: np.random.PCG64 | int | None

    @property
    def schedule(self) -> Schedule:
        """The steps of this model's training."""
        schedule = self.shared.schedule
        if self.rate is not None:
            rates = np.full(len(schedule.rates), self.rate)
            schedule = schedule._replace(rates=rates, largest_rate=self.rate)
        if self.decay is not None:
            schedule = schedule._replace(weight_decay=self.decay)
        return schedule._replace(done=self.done, kept={})

    @property
    def done(self) -> int:
        """How many steps the optimizer has made before."""
        return 0 if self.state is None else self.state[1]


def checked_models(models: Any) -> list["Estimator"]:
    """Return the models, each of them once, or raise."""
    from ..model.estimator import Estimator

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


def checked_tasks(
    models: list["Estimator"], x: Any, y: Any, rows: Any, settings: dict[str, Any]
) -> list[Task]:
    """Return the checked tasks; what models share is checked once."""
    count = len(models)
    values = {name: each_of(name, value, count) for name, value in settings.items()}
    xs, ys = samples_of(models, x, y)
    own_rows = each_of("rows", None if rows is None else list(rows), count)
    _refuse_shared_generators(values["rng"])
    varying = [name for name, value in settings.items() if isinstance(value, list)]
    checks, tasks = _Checks(values, varying), []
    for number, model in enumerate(models):
        try:
            task = checks.task(number, model, xs[number], ys[number], own_rows[number])
        except (TypeError, ValueError) as error:
            raise type(error)(f"models[{number}]: {error}") from None
        tasks.append(task)
    return tasks


def each_of(name: str, value: Any, count: int) -> list[Any]:
    """Return a value for each model: those of a list, or the one for all."""
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        expected = f"one value, or a list of {count}, one for each model"
        raise shape_error(name, expected, f"a list of {len(value)}", "give each model one")
    return value


def samples_of(models: list["Estimator"], x: Any, y: Any) -> tuple[list[Any], list[Any]]:
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
    return each_of("x", x, count), each_of("y", y, count) if own_y else [y] * count


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
    """Checks what models are given: once where several are given the same.

    values: a list for each argument of `fit`; varying: those that the caller gave a list for.
    """

    def __init__(self, values: dict[str, list[Any]], varying: list[str]) -> None:
        self.values, self.varying = values, [values[name] for name in varying if name not in _OWN]
        self.rates = values["learning_rate"] if "learning_rate" in varying else None
        self.decays = values["weight_decay"] if "weight_decay" in varying else None
        # By the identity of what was given, which lives as long: it is in the caller's arguments.
        self.kept: dict[Any, Any] = {}
        weights = *values["sample_weight"], *values["class_weight"]
        self.weighted = any(weight is not None for weight in weights)

    def once(self, key: Any, check: Callable[[], Any]) -> Any:
        """Return what check() gave for a key."""
        if key not in self.kept:
            self.kept[key] = check()
        return self.kept[key]

    def task(self, number: int, model: "Estimator", x: Any, y: Any, rows: Any) -> Task:
        model._refuse_read_only()
        values, count = self.values, None
        if rows is not None:
            samples = len(self.data(number, model, x, y).y)
            rows = self.once((id(rows), samples), lambda: _checked_rows(rows, samples))
            count = len(rows)
        rate = None if self.rates is None else _number("learning_rate", self.rates[number])
        decay = None if self.decays is None else _number("weight_decay", self.decays[number])
        key = (
            type(model), model.sizes, model.dtype, model.loss_name, id(x), id(y), count,
            *[id(column[number]) for column in self.varying],
            id(self.rates[number]) if self.rates and rate is None else None,
            # What else of a schedule a rate and a decay decide.
            rate is None or rate < _USUAL_RATE or rate, decay is None or decay > 0,
        )  # fmt: skip
        shared = self.once(key, lambda: self.shared(number, model, x, y, count))
        weight = None
        if self.weighted:
            of_samples, of_classes = values["sample_weight"][number], values["class_weight"][number]
            weight = _weight(model, shared.data, rows, of_samples, of_classes)
        state = None
        if values["resume"][number]:
            state = starting_state(model, shared.schedule.optimizer, True)
        shuffles = values["shuffle"][number]
        if isinstance(shuffles, str):
            mend = "pass shuffle=True, or call fit of each model"
            raise shape_error("shuffle", "True or False, as x is in memory", repr(shuffles), mend)
        stream = _stream(values["rng"][number]) if shuffles else None
        return Task(number, model, shared, rows, weight, rate, decay, state, stream)

    def data(self, number: int, model: "Estimator", x: Any, y: Any) -> Data:
        """Return a model's samples."""
        is_finite = bool(self.values["check_finite"][number])
        kind = "data", model.sizes, model.dtype, model.loss_name, is_finite, id(x), id(y)
        return cast(Data, self.once(kind, lambda: checked_data(model, x, y, is_finite)))

    def shared(self, number: int, model: "Estimator", x: Any, y: Any, count: int | None) -> Shared:
        """Return what a model has alike with others. count: of its own rows, None: all."""
        own = {name: column[number] for name, column in self.values.items()}
        is_finite, pair = bool(own["check_finite"]), own["validation"]
        data = self.data(number, model, x, y)
        samples = len(data.y) if count is None else count
        schedule = checked_schedule(samples, *[own[name] for name in _OF_SCHEDULES])
        kind = model.sizes, model.dtype, model.loss_name, is_finite, id(pair)
        validation = self.once(kind, lambda: checked_validation(model, pair, is_finite))
        watch = checked_watch(model, own["patience"], own["monitor"], own["restore_best"], pair)
        stopping = None if watch is None else watch.stopping
        return Shared(data, samples, schedule, validation, stopping, is_finite)


_OWN = ("learning_rate", "weight_decay", "rng", "sample_weight", "class_weight")
_USUAL_RATE = 1e38  # float32 holds it


def _number(name: str, value: Any) -> float | None:
    """Return a model's own rate or decay, None for an array of rates, or raise."""
    if isinstance(value, float) and 0 <= value < math.inf:
        return float(value)
    if name == "weight_decay":
        return weight_decay_number(value)
    return checked_rate(value) if np.ndim(value) == 0 else None


def _stream(rng: Rng) -> np.random.PCG64 | int:
    """Return a seed that starts a stream, or the generator that has one."""
    if type(rng) is int and 0 <= rng < 1 << MOST_BITS:
        return rng
    return bit_generator(rng)


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

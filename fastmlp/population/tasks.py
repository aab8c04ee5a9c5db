"""Many models at once: what each of them is trained on, checked."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..checks import Array, dtype_error, plain_array, shape_error
from ..model.fit_checks import Data, Schedule, checked_data, checked_schedule, checked_validation
from ..model.optimizer_state import Kept, starting_state
from ..model.parameters import Rng, bit_generator
from ..model.sample_weights import checked_weight, weight_of
from ..model.stopping import Watch, checked_watch

if TYPE_CHECKING:
    from ..model.estimator import Estimator


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
        data = self.once(("data", *kind), (x, y), lambda: checked_data(model, x, y, is_finite))
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
        watch = checked_watch(model, own["patience"], own["monitor"], own["restore_best"], pair)
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

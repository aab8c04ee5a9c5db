"""What goes to a worker and comes back: some of the models, with their part of the arguments."""

import copy
import re
import uuid
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .. import __version__
from ..arithmetic_mode import get_arithmetic
from ..checks import Array, plain_array
from ..model.history import History
from ..model.optimizer_state import Kept
from ..population.tasks import each_of, samples_of
from .arrays import Sharing, has_remote, keys_in

if TYPE_CHECKING:
    from ..model.estimator import Estimator

# All that a model of our own classes trains with, beside its weights and its optimizer's state.
FIXED = ("sizes", "bias", "activation", "dtype", "loss_name", "delta")


class Given(NamedTuple):
    """What `fit_many` was given for its models, as it was given."""

    models: list["Estimator"]
    x: Any
    y: Any
    rows: Any
    settings: dict[str, Any]


class Block(NamedTuple):
    """A part of what `fit_many` was given.

    models: see `packed`. keys: the arrays that it needs beside itself; all_keys: those of the whole
    call, which call names. epoch: the one to train alone; None for all epochs. threads: the most
    that it may take, None for what its worker has.
    """

    models: list[Any]
    x: Any
    y: Any
    rows: Any
    settings: dict[str, Any]
    keys: tuple[str, ...]
    all_keys: tuple[str, ...]
    call: str
    epoch: int | None
    threads: int | None
    arithmetic: Literal["portable", "numpy"]
    version: str


class Outcome(NamedTuple):
    """What a worker has made of a block: for each model what is new, and what it took.

    streams: the states of the generators, None where nobody keeps them.
    """

    parameters: list[Array]
    states: list[Kept | None]
    histories: list[History]
    streams: list[Any]
    seconds: float
    threads: int


class Failure(NamedTuple):
    """The error that a worker met: the name of its class, its words, and where it came from."""

    kind: str
    text: str
    trace: str


class Missing(NamedTuple):
    """The arrays that a worker hasn't got yet."""

    keys: tuple[str, ...]


class Arguments:
    """What was given, ready to be cut into blocks: lists by models, and things for all models.

    epochwise: whether a block is one epoch of its models. threads: see Block.
    """

    def __init__(self, given: Given, epochwise: bool) -> None:
        self.models, self.epochwise, sharing = given.models, epochwise, Sharing()
        x, y = _samples(given)
        self.x, self.y = sharing.of(x), sharing.of(y)
        self.rows = None if given.rows is None else sharing.of(list(given.rows))
        self.settings = {name: sharing.of(value) for name, value in given.settings.items()}
        self.arrays, self.remote = sharing.arrays, sharing.remote
        self.all_keys, self.call = (*sharing.arrays, *sharing.remote), uuid.uuid4().hex
        self.arithmetic = get_arithmetic()
        self.threads: int | None = None
        self.kinds: dict[Any, Any] = {}
        if epochwise:  # a model's generator and its state go on from block to block
            count = len(self.models)
            for name in ("rng", "resume"):
                self.settings[name] = each_of(name, self.settings[name], count)[:]
            self.settings["patience"] = None

    def block(self, numbers: list[int], epoch: int | None) -> Block:
        """Return the block of these models."""
        settings = {name: _cut(value, numbers) for name, value in self.settings.items()}
        resumes = each_of("resume", settings["resume"], len(numbers))
        models = [
            packed(self.models[number], resume, self.kinds)
            for number, resume in zip(numbers, resumes, strict=True)
        ]
        x, y, rows = (_cut(value, numbers) for value in (self.x, self.y, self.rows))
        # Looked for only where there are some, as settings may be long.
        keys = sorted(keys_in([x, y, *settings.values()])) if self.all_keys else []
        return Block(
            models, x, y, rows, settings, tuple(keys), self.all_keys, self.call, epoch,
            self.threads, self.arithmetic, __version__,
        )  # fmt: skip


def _cut(value: Any, numbers: list[int]) -> Any:
    return [value[number] for number in numbers] if isinstance(value, list) else value


def _samples(given: Given) -> tuple[Any, Any]:
    """Return x and y as lists by models, or as what all share: arrays that can't be mistaken."""
    xs, ys = samples_of(given.models, given.x, given.y)
    return (
        _shared("x", given.x) if xs[0] is given.x else xs,
        _shared("y", given.y) if ys[0] is given.y else ys,
    )


def _shared(name: str, value: Any) -> Any:
    """Return the samples that all models share: a future, or an array of two axes at most."""
    if has_remote(value):
        return value
    array = value if isinstance(value, np.memmap) else plain_array(name, value)
    return array.reshape(len(array), -1) if array.ndim > 2 else array


def packed(model: "Estimator", resume: bool, kinds: dict[Any, Any]) -> Any:
    """Return a model as it is sent: the weights, and the state only where it is resumed.

    A class of somebody else's goes as it is, with all that it has.
    """
    attributes = vars(model)
    if not type(model).__module__.startswith("fastmlp."):
        return model
    kind = (type(model), *(attributes.get(name, getattr(model, name)) for name in FIXED))
    state = attributes.get("_optimizer_state") if resume else None
    return kinds.setdefault(kind, kind), model.flat_parameters, state


def unpacked(model: Any) -> "Estimator":
    """Return the model, whose memory is its own."""
    if not isinstance(model, tuple):
        own: Estimator = copy.deepcopy(model)
        return own
    (kind, *fixed), parameters, state = model
    made: Estimator = kind.__new__(kind)
    fields = dict(zip(FIXED, fixed, strict=True))
    made.__setstate__({**fields, "flat_parameters": parameters.copy(), "_optimizer_state": state})
    return made


def renumbered(text: str, numbers: list[int]) -> str:
    """Return a block's words with the models' numbers in the call."""
    return re.sub(r"models\[(\d+)\]", lambda found: f"models[{numbers[int(found[1])]}]", text)


def names_of(numbers: list[int]) -> str:
    """Return what errors call these models."""
    if len(numbers) == 1:
        return f"models[{numbers[0]}]"
    return f"{len(numbers)} models of models[{min(numbers)}] to models[{max(numbers)}]"

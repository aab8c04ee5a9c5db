"""What has to be the same on all ranks before the first step, and at each epoch's end."""

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import Array

if TYPE_CHECKING:
    from ..model.estimator import Estimator
    from ..model.fit import Request

_MENDS = {
    "version of fastmlp": "install the same on all machines",
    "weights": "make the model with the same rng, or send it: model = comm.bcast(model)",
    "optimizer_state": "send the model: model = comm.bcast(model)",
    "rng": "pass the same seed",
    "samples": "give all of them to each rank, or each rank its own with rows=",
    "y": "give the same to each rank, or each rank its own with rows=",
    "sample_weight": "give the same to each rank, or each rank its own with rows=",
}
_MEND_LATER = "change nothing in a callback of one rank, pass the same validation; else doubt a CPU"


def facts(model: "Estimator", request: "Request", version: str) -> dict[str, Any]:
    """Return what a training depends on, by name; of arrays a hash. x isn't looked at."""
    schedule, data, generator = request.schedule, request.data, request.generator
    optimizer, steps, states = request.state
    validation = request.validation
    return {
        "version of fastmlp": version,
        "sizes": model.sizes,
        "bias": model.bias,
        "dtype": model.dtype.name,
        "activation": model.activation,
        "loss": (model.loss_name, model.delta, [one.__name__ for one in model._head]),
        "epochs": schedule.epochs,
        "samples": len(data.y),
        "batch_size": schedule.batch_size,
        "learning_rate": _shown(schedule.rates),
        "optimizer": optimizer,
        "momentum": schedule.momentum,
        "weight_decay": schedule.weight_decay,
        "max_norm": schedule.max_norm,
        "decay_bias": schedule.decay_bias,
        "shuffle": generator is not None if request.blocks is None else request.blocks,
        "rng": None if generator is None else digest_of(repr(generator.state).encode()),
        "check_finite": bool(request.check_finite),
        "patience": None if request.watch is None else request.watch.stopping,
        "weights": digest(model.flat_parameters),
        "optimizer_state": (steps, digest(states)),
        "y": digest(data.y),
        "sample_weight": None if data.weight is None else digest(data.weight),
        "validation": None if validation is None else (len(validation.y), digest(validation.y)),
    }


def refuse_differences(told: list[dict[str, Any]], epoch: int | None = None) -> None:
    """Raise ValueError on every rank where one's facts differ from those of rank 0.

    epoch: the number of the one that they are of; None: of the start.
    """
    for name, value in told[0].items():
        for rank, other in enumerate(told):
            if other[name] == value:
                continue
            when, mend = "", _MENDS.get(name, "pass the same")
            if epoch is not None:
                when, mend = f" after epoch {epoch + 1}", _MEND_LATER
            raise ValueError(
                f"{name}{when}: expected the same on all ranks, got {value} on rank 0 and "
                f"{other[name]} on rank {rank}; {mend}"
            )


def digest(array: Array) -> str:
    """Return a hash of an array's shape and bits, which has all NaN as one."""
    plain = np.ascontiguousarray(array)
    if plain.dtype.kind == "f":
        plain = np.where(np.isnan(plain), plain.dtype.type(np.nan), plain)
    return digest_of(repr((plain.dtype.name, plain.shape)).encode() + plain.tobytes())


def digest_of(content: bytes) -> str:
    """Return a hash, short enough for a message."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _shown(rates: Array) -> Any:
    """Return a rate that all steps have, or a hash of theirs."""
    return float(rates[0]) if (rates == rates[0]).all() else digest(rates)

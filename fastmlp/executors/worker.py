"""What a worker does with a block: it trains the models, or says why not."""

import os
import signal
import time
import traceback
from typing import Any

import numpy as np

from .. import __version__
from ..arithmetic_mode import arithmetic
from ..checks import Array
from ..model.draws import bit_generator
from ..model.history import History
from ..population.fit_many import fit_many, train_alone
from ..population.tasks import checked_tasks, each_of
from ..threads import Share, at_most, get_num_threads
from .arrays import Found, offered
from .blocks import Block, Failure, Missing, Outcome, unpacked

_kept: dict[str, Array] = {}  # the arrays of the last call that had a block here
IDLE, TRAINING, ENDING = range(3)
_state = IDLE  # of a process of a pool; what a pool does for others is idle, too
_call = ""  # of the last block that it had
_interrupted = False  # whether SIGINT came since that call's first block


def train_in_process(block: Block, arrays: dict[str, Array]) -> Outcome | Failure | Missing:
    """Train a block in a process of a pool, where SIGINT ends the training and nothing else.

    A terminal's Ctrl-C comes to all workers. One that it met with a lock of the pool's queues
    just taken would keep that lock, and the pool would wait for it until the end. Nobody waits for
    the other blocks of an interrupted call.
    """
    global _state, _call, _interrupted
    if block.call != _call:
        _call, _interrupted = block.call, False
    if _interrupted:
        raise KeyboardInterrupt
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    _state = TRAINING
    try:
        return train_kept(block, arrays)
    finally:
        _state = IDLE


def _interrupt(*_: Any) -> None:
    global _state, _interrupted
    again, _interrupted = _interrupted, True
    if _state == TRAINING:
        _state = ENDING
        raise KeyboardInterrupt
    if _state == IDLE and again:
        # The caller wants to end. A second Ctrl-C while it waits for its pool lets Python 3.11
        # forget to tell the workers, and wait for them. A lock that is taken is no matter here: a
        # pool that loses a worker ends the others.
        os._exit(128 + signal.SIGINT)


def train_kept(block: Block, arrays: dict[str, Array]) -> Outcome | Failure | Missing:
    """Train a block with the arrays that are here, and those that come with it, which stay."""
    for key in {*_kept} - {*block.all_keys}:
        _kept.pop(key, None)
    _kept.update(arrays)
    found = {key: _kept.get(key, offered.get(key)) for key in block.keys}
    missing = tuple(key for key, array in found.items() if array is None)
    return Missing(missing) if missing else train_with(block, [*found], *found.values())


def train_with(block: Block, keys: list[str], *arrays: Any) -> Outcome | Failure:
    """Train a block with these arrays, that have these keys."""
    try:
        if block.version != __version__:
            expected = f"fastmlp {block.version}, as the caller has"
            raise RuntimeError(f"worker: expected {expected}, got {__version__}; install that one")
        most = min(block.threads or get_num_threads(), get_num_threads())
        # Blocks that are trained here at once share the threads.
        with arithmetic(block.arithmetic), Share(most) as threads, at_most(threads):
            return _train(block, Found(dict(zip(keys, arrays, strict=True))), threads)
    except Exception as error:
        return Failure(type(error).__name__, str(error), traceback.format_exc())


def train_numbered(number: int, *arguments: Any) -> tuple[int, Outcome | Failure]:
    """Train a block; return its number beside what became of it."""
    return number, train_with(*arguments)


def check_with(block: Block, keys: list[str], *arrays: Any) -> list[int] | Failure:
    """Check a block alone; return how many samples each model's epoch visits."""
    try:
        models, x, y, rows, settings = _restored(
            block, Found(dict(zip(keys, arrays, strict=True)))
        )
        return [task.shared.samples for task in checked_tasks(models, x, y, rows, settings)]
    except Exception as error:
        return Failure(type(error).__name__, str(error), traceback.format_exc())


def _restored(block: Block, found: Found) -> tuple[Any, ...]:
    settings = {name: found.of(value) for name, value in block.settings.items()}
    # A copy, as in a thread they are the caller's own, and this may have to be done again.
    rngs = [_copied(one) for one in each_of("rng", settings["rng"], len(block.models))]
    models = [unpacked(model) for model in block.models]
    x, y, rows = found.of(block.x), found.of(block.y), found.of(block.rows)
    return models, x, y, rows, settings | {"rng": rngs}


def _copied(rng: Any) -> Any:
    if not isinstance(rng, np.random.Generator | np.random.BitGenerator):
        return rng
    own = np.random.PCG64()
    own.state = bit_generator(rng).state
    return own


def _train(block: Block, found: Found, threads: int) -> Outcome:
    models, x, y, rows, settings = _restored(block, found)
    start = time.perf_counter()
    if block.epoch is None:
        histories = fit_many(models, x, y, rows=rows, **settings)
        streams = [
            one.state if isinstance(one, np.random.BitGenerator) else None
            for one in settings["rng"]
        ]
    else:
        histories, streams = _train_epoch(models, x, y, rows, settings, block.epoch)
    return Outcome(
        [model.flat_parameters for model in models],
        [model._optimizer_state for model in models],
        histories, streams, time.perf_counter() - start, threads,
    )  # fmt: skip


def _train_epoch(
    models: list[Any], x: Any, y: Any, rows: Any, settings: dict[str, Any], epoch: int
) -> tuple[list[History], list[Any]]:
    """Train one epoch of each model; return that epoch's histories and where generators stand."""
    histories, streams = [History([0.0] * epoch) for _ in models], []
    for task in checked_tasks(models, x, y, rows, settings):
        stream = None if task.stream is None else bit_generator(task.stream)
        train_alone(task._replace(stream=stream), histories, None, lambda *_: True)
        streams.append(None if stream is None else stream.state)
    for history in histories:
        del history.loss[:epoch]
    return histories, streams

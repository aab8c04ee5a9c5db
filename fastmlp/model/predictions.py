"""Predictions by plans, of any number of rows: whatever is asked for, in one compiled call."""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from fastmlp_kernels.compiling.call import invoke
from fastmlp_kernels.compiling.stored import address
from fastmlp_kernels.plans import record

from ..checks import Array
from ..plan.predict import (
    FEW,
    MANY,
    MANY_KEPT,
    SOME,
    WIDE,
    WIDE_ROWS,
    Prediction,
    plan_prediction,
)
from ..plan.table import Plan
from ..reference.losses import Loss
from ..scratch import kept_scratch, scratch
from ..threads import Share, threads_for
from .addresses import shared_words, starter, this_machine, worker
from .goals import Goal
from .losses import CROSS_ENTROPY
from .packed_copies import PackedCopies

# What `Predictor.run` tells, a bit each: the results are written; x holds NaN or inf; a class is
# below 0. The rest is how many samples had their label as first largest logit.
DONE, NOT_FINITE, NEGATIVE, HITS_BIT = 1, 2, 4, 3
_NO_INTEGERS = np.empty(0, np.int64)
_NO_REALS: dict[int, Array] = {
    size: np.empty((0, 1), dtype) for size, dtype in ((4, np.float32), (8, np.float64))
}


class Predictor(NamedTuple):
    """The plans of a model for one goal.

    run(x, words, integers, reals, memory, num_threads, start): x (N, inputs); of integers
    (N * each,) and reals (N, each), those that are no part of the goal are empty. The goal losses
    reads labels from integers, or targets at the address in its words, and writes reals (N, 1).
    """

    goal: Goal
    run: Any
    words: Array
    plans: list[Plan]  # whose tables the words name
    weights: int  # how many
    owner: Array | PackedCopies  # of the parameters, whose address the words have
    network: Prediction

    def fill(self, x: Array, result: Array) -> int:
        """Write the goal's result for x (N, inputs), both contiguous; return what `run` tells."""
        if result.dtype is _NO_INTEGERS.dtype:
            integers = result if result.ndim == 1 else result.reshape(-1)
            return self._run(x, integers, _NO_REALS[x.itemsize])
        reals = result if result.ndim == 2 else result[:, np.newaxis]
        return self._run(x, _NO_INTEGERS, reals)

    def losses(self, x: Array, y: Array) -> tuple[Array, int]:
        """Return the losses (N,) of x (N, inputs) beside labels or targets, and how many hits."""
        losses, labels, targets = np.empty(len(x), x.dtype), y, 0
        if not self.words[record.INTEGERS]:
            labels, targets = _NO_INTEGERS, y.ctypes.data
        found = self._run(x, labels, losses[:, np.newaxis], targets)
        return losses, found >> HITS_BIT

    def words_for(self, rows: int) -> Array:
        """Return what one thread needs of the plan for so many rows."""
        head = self.words[: record.HEAD]
        which = FEW if rows <= head[record.MOST_FEW] else SOME
        if rows >= head[record.FEWEST_MANY]:
            which = MANY
        start = record.HEAD + which * record.SHARED_WORDS
        return self.words[start : start + record.SHARED_WORDS].copy()

    def _run(self, x: Array, integers: Array, reals: Array, targets: int = 0) -> int:
        copies = self.owner
        if not isinstance(copies, PackedCopies):
            return self._with(self.words, x, integers, reals, targets)
        version = copies.version() if len(x) > self.words[record.MOST_FEW] else None
        if version is None or not copies.is_asked_again(version):
            return self._with(self.words, x, integers, reals, targets)
        stale, fresh = self._kept_words(copies)
        if copies.has(version):
            return self._with(fresh, x, integers, reals, targets)
        # One thread makes them. Nobody waits: a forked child would wait for a thread it hasn't.
        if not copies.lock.acquire(blocking=False):
            return self._with(self.words, x, integers, reals, targets)
        try:
            found = self._with(stale, x, integers, reals, targets)
            if found & DONE:
                copies.packed(version)
            return found
        finally:
            copies.lock.release()

    def _with(self, words: Array, x: Array, integers: Array, reals: Array, targets: int) -> int:
        if targets:
            words = words.copy()
            words[record.TARGETS] = targets
        threads = threads_for(len(x) * self.weights)
        if threads == 1:
            return self._on(words, x, integers, reals, 1)
        with Share(threads) as mine:
            return self._on(words, x, integers, reals, mine)

    def _on(self, words: Array, x: Array, integers: Array, reals: Array, threads: int) -> int:
        start = starter() if threads > 1 else 0
        found: int = self.run(x, words, integers, reals, kept_scratch(), threads, start)
        if found < 0:
            found = self.run(x, words, integers, reals, scratch(-found), threads, start)
        return found

    def _kept_words(self, copies: PackedCopies) -> tuple[Array, Array]:
        """Return the words of plans that read packed copies: made before, or already there."""
        made = copies.words.get(self.goal.name)
        if made is None:
            head, dtype = self.words[: record.HEAD].copy(), copies.parameters.dtype
            head[record.MOST_FEW], head[record.FEWEST_MANY] = WIDE_ROWS, WIDE_ROWS + 1
            stale, plans = _words(head, self.network, (WIDE, MANY_KEPT, MANY_KEPT), dtype)
            parts = stale[record.HEAD :].reshape(-1, record.SHARED_WORDS)
            parts[:, record.KEPT] = copies.place()
            fresh = stale.copy()
            fresh[record.HEAD :].reshape(-1, record.SHARED_WORDS)[:, record.PACKS] = 0
            made = copies.words.setdefault(self.goal.name, (stale, fresh, plans))
        return made[:2]


def prediction_bytes(words: Array, rows: int) -> int:
    """Return the memory of one thread that predicts so many rows, by `Predictor.words_for`."""
    tasks = int(words[record.PACKS]) + -(-rows // record.BLOCK_ROWS)
    tables = record.PROGRAM_WORDS + 2 * 2 + tasks * record.TASK_WORDS
    own = int(words[record.OWN_BYTES]) + int(words[record.ROOM])
    return 8 * (record.SHARED_WORDS + tables) + record.team_bytes(1) + own


def predictor(
    sizes: tuple[int, ...],
    bias: tuple[bool, ...],
    activation: tuple[str, ...],
    owner: Array | PackedCopies,
    goal: Goal,
    loss: Loss,
) -> Predictor:
    """Return the plans of a model, compiled; its parameters are read where they lie.

    owner: the parameters, or what keeps packed copies of them.
    """
    parameters = owner.parameters if isinstance(owner, PackedCopies) else owner
    dtype, machine = parameters.dtype, this_machine()
    lanes = machine.lanes(dtype.itemsize)
    must_pack = any(machine.pays_to_pack(0, columns, lanes) for columns in sizes[1:])
    head = np.zeros(record.HEAD, np.int64)
    head[record.CODE], head[record.PLACE] = worker(), parameters.ctypes.data
    head[record.INPUTS], head[record.MOST_FEW] = sizes[0], 0 if must_pack else machine.wide_rows
    head[record.FEWEST_MANY] = 0 if must_pack else machine.pack_rows
    each = math.prod(goal.shape)
    reads_labels = goal.name == "losses" and loss.name == CROSS_ENTROPY
    head[record.INTEGERS] = each if goal.dtype != dtype or reads_labels else 0
    head[record.REALS] = each if goal.dtype == dtype else 0
    network = Prediction(sizes, bias, dtype.itemsize, FEW, goal.name, activation, *loss)
    words, plans = _words(head, network, (FEW, SOME, MANY), dtype)
    run = partial(invoke(), address("plans.execute", "answerer"))
    return Predictor(goal, run, words, plans, parameters.size, owner, network)


def _words(
    head: Array, network: Prediction, kinds: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[Array, list[Plan]]:
    """Return what a run needs of three plans, and these."""
    plans = [plan_prediction(network._replace(rows=rows), this_machine()) for rows in kinds]
    parts = [head]
    for plan in plans:
        words = shared_words(plan, dtype)
        words[record.PACKS], words[record.ROOM] = plan.stages[0, 1], plan.buffers
        parts.append(words)
    return np.concatenate(parts), plans

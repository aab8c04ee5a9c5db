"""Predictions by plans, of any number of rows: whatever is asked for, in one compiled call."""

import math
from typing import Any, NamedTuple

import numpy as np
from fastmlp_kernels import execute, record

from ..checks import Array
from ..plan.predict import FEW, MANY, SOME, Prediction, plan_prediction
from ..plan.table import Plan
from ..reference.losses import Loss
from ..scratch import NONE, scratch
from ..threads import Share, threads_for
from .addresses import shared_words, this_machine
from .goals import Goal
from .losses import CROSS_ENTROPY

# What `Predictor.run` tells, a bit each: the results are written; x holds NaN or inf; a class is
# below 0. The rest is how many samples had their label as first largest logit.
DONE, NOT_FINITE, NEGATIVE, HITS_BIT = 1, 2, 4, 3
_NO_INTEGERS = np.empty(0, np.int64)
_NO_REALS: dict[int, Array] = {
    size: np.empty((0, 1), dtype) for size, dtype in ((4, np.float32), (8, np.float64))
}


class Predictor(NamedTuple):
    """The plans of a model for one goal.

    run(x, words, integers, reals, memory, num_threads): x (N, inputs); of integers (N * each,) and
    reals (N, each), those that are no part of the goal are empty. The goal losses reads labels from
    integers, or targets at the address in its words, and writes reals (N, 1).
    """

    goal: Goal
    run: Any
    words: Array
    plans: list[Plan]  # whose tables the words name
    parameters: Array  # whose address they have

    def fill(self, x: Array, result: Array) -> int:
        """Write the goal's result for x (N, inputs), both contiguous; return what `run` tells."""
        if result.dtype is _NO_INTEGERS.dtype:
            integers = result if result.ndim == 1 else result.reshape(-1)
            return self._run(x, self.words, integers, _NO_REALS[x.itemsize])
        reals = result if result.ndim == 2 else result[:, np.newaxis]
        return self._run(x, self.words, _NO_INTEGERS, reals)

    def losses(self, x: Array, y: Array) -> tuple[Array, int]:
        """Return the losses (N,) of x (N, inputs) beside labels or targets, and how many hits."""
        losses, labels, words = np.empty(len(x), x.dtype), y, self.words
        if not words[execute.INTEGERS]:
            labels, words = _NO_INTEGERS, words.copy()
            words[execute.TARGETS] = y.ctypes.data
        found = self._run(x, words, labels, losses[:, np.newaxis])
        return losses, found >> HITS_BIT

    def words_for(self, rows: int) -> Array:
        """Return what one thread needs of the plan for so many rows."""
        head = self.words[: execute.HEAD]
        which = FEW if rows <= head[execute.MOST_FEW] else SOME
        if rows >= head[execute.FEWEST_MANY]:
            which = MANY
        start = execute.HEAD + which * record.SHARED_WORDS
        return self.words[start : start + record.SHARED_WORDS].copy()

    def _run(self, x: Array, words: Array, integers: Array, reals: Array) -> int:
        threads = threads_for(len(x) * self.parameters.size)
        if threads == 1:
            return self._run_on(x, words, integers, reals, 1)
        with Share(threads) as mine:
            return self._run_on(x, words, integers, reals, mine)

    def _run_on(self, x: Array, words: Array, integers: Array, reals: Array, threads: int) -> int:
        found = int(self.run(x, words, integers, reals, NONE, threads))
        if found < 0:
            memory = scratch(-found)
            found = int(self.run(x, words, integers, reals, memory, threads))
        return found


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
    parameters: Array,
    goal: Goal,
    loss: Loss,
) -> Predictor:
    """Return the plans of a model, compiled; its parameters are read where they lie."""
    dtype, machine = parameters.dtype, this_machine()
    plans = [
        plan_prediction(
            Prediction(sizes, bias, dtype.itemsize, rows, goal.name, activation, *loss), machine
        )
        for rows in (FEW, SOME, MANY)
    ]
    head = np.zeros(execute.HEAD, np.int64)
    lanes = machine.lanes(dtype.itemsize)
    must_pack = any(machine.pays_to_pack(0, columns, lanes) for columns in sizes[1:])
    head[execute.CODE], head[execute.PLACE] = execute.worker(), parameters.ctypes.data
    head[execute.INPUTS], head[execute.MOST_FEW] = sizes[0], 0 if must_pack else machine.wide_rows
    head[execute.FEWEST_MANY] = 0 if must_pack else machine.pack_rows
    each = math.prod(goal.shape)
    reads_labels = goal.name == "losses" and loss.name == CROSS_ENTROPY
    head[execute.INTEGERS] = each if goal.dtype != dtype or reads_labels else 0
    head[execute.REALS] = each if goal.dtype == dtype else 0
    parts = [head]
    for plan in plans:
        words = shared_words(plan, dtype)
        words[record.PACKS] = len(plan.tasks) - 1
        words[record.ROOM] = plan.buffers
        words[record.FIRST], words[record.STOP] = plan.tasks[-1, :2]
        parts.append(words)
    return Predictor(goal, execute.predict[dtype], np.concatenate(parts), plans, parameters)

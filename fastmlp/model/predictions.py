"""Predictions by plans: classes, logits and losses of any number of rows, in one compiled call."""

from typing import Any, NamedTuple

import numpy as np
from fastmlp_kernels import execute, record

from ..checks import Array
from ..plan.predict import FEW, MANY, SOME, Prediction, plan_prediction
from ..plan.table import Plan
from ..reference.losses import Loss
from .addresses import shared_words, this_machine

# What `Predictor.run` tells, a bit each: the results are written; x holds NaN or inf; a class is
# below 0. The rest is how many samples had their label as first largest logit.
DONE, NOT_FINITE, NEGATIVE, HITS_BIT = 1, 2, 4, 3
NO_REALS: dict[int, Array] = {4: np.empty(0, np.float32), 8: np.empty(0, np.float64)}


class Predictor(NamedTuple):
    """The plans of a model for one goal. run(x, words, integers, reals, num_threads).

    x (N, inputs). classes: integers (N,) are written. losses: integers (N,) are the labels, or
    the words are `with_targets`, reals (N,) are written; logits: reals (N * classes,). Another
    array than those is empty.
    """

    run: Any
    words: Array
    plans: list[Plan]  # whose tables the words name
    parameters: Array  # whose address they have

    def with_targets(self, targets: Array) -> Array:
        """Return words that name targets (N, outputs), to be kept until `run` has returned."""
        words = self.words.copy()
        words[execute.TARGETS] = targets.ctypes.data
        return words


def predictor(
    sizes: tuple[int, ...],
    bias: tuple[bool, ...],
    activation: tuple[str, ...],
    parameters: Array,
    goal: str,
    loss: Loss,
) -> Predictor:
    """Return the plans of a model, compiled; its parameters are read where they lie."""
    dtype, machine = parameters.dtype, this_machine()
    plans = [
        plan_prediction(
            Prediction(sizes, bias, dtype.itemsize, rows, goal, activation, *loss), machine
        )
        for rows in (FEW, SOME, MANY)
    ]
    head = np.zeros(execute.HEAD, np.int64)
    lanes = machine.lanes(dtype.itemsize)
    must_pack = any(machine.pays_to_pack(0, columns, lanes) for columns in sizes[1:])
    head[execute.CODE], head[execute.PLACE] = execute.worker(), parameters.ctypes.data
    head[execute.INPUTS], head[execute.MOST_FEW] = sizes[0], 0 if must_pack else machine.wide_rows
    head[execute.FEWEST_MANY] = 0 if must_pack else machine.pack_rows
    parts = [head]
    for plan in plans:
        words = shared_words(plan, dtype)
        words[record.PACKS] = len(plan.tasks) - 1
        words[record.ROOM] = plan.buffers
        words[record.FIRST], words[record.STOP] = plan.tasks[-1, :2]
        parts.append(words)
    return Predictor(execute.predict[dtype], np.concatenate(parts), plans, parameters)

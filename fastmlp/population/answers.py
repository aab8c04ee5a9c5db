"""Predictions of many models: those of one kind in compiled calls, some at a time."""

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
from fastmlp_kernels.plans import population_predictions

from ..checks import Array
from ..model.goals import goal_of
from ..model.losses import loss_of
from ..model.predictions import NEGATIVE, NOT_FINITE, prediction_bytes, predictor
from ..threads import SMALLEST_PARALLEL_WORK, Share, threads_for
from .layout import address

MOST_BYTES = 1 << 24  # of the results of a call


def answers(models: list[Any], method: str, x: Array, check_finite: bool) -> Iterator[Array]:
    """Return arrays (some models, N, ...) of what a method says of x (N, ...), in their order."""
    threads = threads_for(SMALLEST_PARALLEL_WORK)
    for _, group in groupby(models, _kind):
        some = list(group)
        if len(some) < threads:  # then each has several
            for model in some:
                yield model._answer(method, x, None, check_finite)[np.newaxis]
        else:
            yield from _together(some, method, x, check_finite, threads)


def _kind(model: Any) -> tuple[Any, ...]:
    return model.sizes, model.bias, model.activation, model.dtype, loss_of(model)


def _together(
    models: list[Any], method: str, x: Array, check_finite: bool, threads: int
) -> Iterator[Array]:
    first = models[0]
    goal, rows = goal_of(first, method), first._inputs(x)
    own = np.ascontiguousarray(rows, first.dtype).view()  # no other thread can give it a shape
    plan = predictor(
        first.sizes, first.bias, first.activation, first.flat_parameters, goal, loss_of(first)
    )
    words = plan.words_for(len(own))
    each = -(-prediction_bytes(words, len(own)) // 64) * 64
    size = len(own) * math.prod(goal.shape) * goal.dtype.itemsize
    many = max(threads, MOST_BYTES // max(1, size))
    predict = population_predictions.predict[first.dtype]
    for start in range(0, len(models), many):
        buffers = [model.flat_parameters for model in models[start : start + many]]
        count = len(buffers)
        result, found = np.empty((count, size), np.uint8), np.zeros(count, np.int64)
        places = np.array([address(buffer) for buffer in buffers], np.int64)
        with Share(threads) as mine:
            predict(words, own, places, result, found, each, mine)
        if check_finite and np.any(found & NOT_FINITE):
            first._refuse_not_finite(x, rows)
        answer = result.view(goal.dtype).reshape(count, len(own), *goal.shape)
        if np.any(found & NEGATIVE):
            np.copyto(answer, -1 - answer, where=answer < 0)
        yield answer

"""`fit` on the ranks of a communicator: each has some leaves of every batch, all make each update.

A step: each rank computes the gradients of its subtrees of the batch's leaves, all exchange them in
the order of the tree, and each has the whole sum, by which it updates its own copy of the weights.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from fastmlp_kernels.plans.record import LEAF

from ..arithmetic_mode import is_numpy
from ..checks import Array, shape_error
from ..model.fit import Epoch, Samples, request_of, train
from ..model.fit_checks import Data, Schedule, checked_data, weighted_data
from ..model.history import History
from ..model.sample_weights import ClassWeight, weight_of
from ..model.updating import update
from . import tree
from .agreement import digest, facts, refuse_differences
from .ranks import Ranks
from .rows import Rows, checked_part, checked_rows, joined, whole

if TYPE_CHECKING:
    from ..model.estimator import Estimator

PAYS = (
    "an exchange pays from batches of about 1.33 F / BW samples on, 530 at 500 GFLOP/s and "
    "10 Gbit/s"
)


def fit_together(
    model: "Estimator",
    comm: Any,
    rows: Any,
    x: Any,
    y: Any,
    weights: tuple[Any, ClassWeight],
    settings: dict[str, Any],
) -> History:
    """Return what `fit` does; weights: sample_weight and class_weight; settings: the rest."""
    if comm is None:
        raise ValueError("rows: expected None without comm, got numbers; pass x[rows], y[rows]")
    ranks = Ranks(comm)
    with ranks.together():
        if is_numpy():
            raise ValueError(
                "arithmetic: expected 'portable' with comm, as NumPy's sums have no order to keep, "
                "got 'numpy'; leave the block, or pass comm=None"
            )
        data, held = _data(model, ranks, rows, x, y, weights, settings["check_finite"])
        request = request_of(model, data, **settings)
        _refuse_small(request.schedule, ranks.size, len(data.y))
        _share_stream(ranks, request.generator, settings["rng"] is None)
        from .. import __version__

        refuse_differences(ranks.gather(facts(model, request, __version__)))
        return train(model, request._replace(
            train_epoch=partial(_train_epoch, ranks, held, model),
            progress=request.progress and ranks.rank == 0,
            callback=partial(_is_over, ranks, request.callback),
        ))  # fmt: skip


def _data(
    model: "Estimator",
    ranks: Ranks,
    rows: Any,
    x: Any,
    y: Any,
    weights: tuple[Any, ClassWeight],
    check_finite: bool,
) -> tuple[Data, Rows | None]:
    """Return the samples, all of y and of the weights; and where x is, if this isn't all of it."""
    sample_weight, class_weight = weights
    if rows is None:
        own, data = None, weighted_data(model, x, y, check_finite, *weights)
    else:
        data = checked_data(model, x, y, check_finite)
        if check_finite:
            data.refuse_not_finite()
        numbers = checked_rows(rows, len(data.x))
        own = numbers, data.y, checked_part("sample_weight", sample_weight, len(data.x))
    told = ranks.gather(own)
    _refuse_some("rows", told)
    if own is None:
        return data, None
    held_numbers, y, weight = zip(*told, strict=True)
    _refuse_some("sample_weight", weight)
    held, every = joined(held_numbers)
    all_y = whole(every, y)
    all_weights = None if sample_weight is None else whole(every, weight)
    return data._replace(y=all_y, weight=weight_of(model, all_y, all_weights, class_weight)), held


def _refuse_some(name: str, told: Sequence[Any]) -> None:
    """Raise where some ranks have given an argument, and others haven't."""
    without = [one is None for one in told]
    if any(without) and not all(without):
        got = f"none on rank {without.index(True)}"
        raise shape_error(name, "it on all ranks or on none", got, "pass it on each")


def _share_stream(ranks: Ranks, generator: np.random.PCG64 | None, is_drawn: bool) -> None:
    """Give all ranks the stream of rank 0, where nobody has passed a seed."""
    told = ranks.gather(generator.state if generator is not None and is_drawn else None)
    if generator is not None and all(told):
        generator.state = told[0]


def _refuse_small(schedule: Schedule, ranks: int, samples: int) -> None:
    """Raise where a batch has no leaf of samples for each of many ranks."""
    least = LEAF * ranks
    if ranks > 1 and schedule.batch_size < least:
        mend = f"pass batch_size={least}" if samples >= least else "pass comm=None"
        raise shape_error(
            "batch_size", f"{least} or more, {LEAF} samples for each of {ranks} ranks",
            schedule.batch_size, f"{mend}; {PAYS}",
        )  # fmt: skip


def _train_epoch(
    ranks: Ranks,
    held: Rows | None,
    model: "Estimator",
    data: Samples,
    schedule: Schedule,
    states: Array,
    number: int,
) -> Epoch:
    """Train an epoch on a copy of the parameters, as `Estimator._train_epoch`."""
    y, worker, each = data.y, model._worker(), schedule.batch_size
    state = [[half] for half in states.reshape(-1, worker.flat_parameters.size)]
    owner = tree.owners(len(y), each, ranks.size)
    losses, hits = [], 0
    for batch, step in enumerate(schedule.steps(number)):
        mine = slice(batch * each, min((batch + 1) * each, len(y)))
        samples = _samples(ranks, held, data, mine, owner)
        leaves = tree.count_leaves(mine.stop - mine.start)
        parts, own_losses, own_hits = _parts(worker, samples, schedule, leaves, ranks)
        losses.append(own_losses)
        hits += own_hits
        worker.flat_gradients[...] = ranks.sum(parts, leaves)
        update(worker, schedule, state, step)
    weights = {"weights": digest(worker.flat_parameters), "optimizer_state": digest(states)}
    told = ranks.gather((weights, np.concatenate(losses), hits))
    refuse_differences([weights for weights, _, _ in told], number)
    every = np.empty(len(y), model.dtype)
    for rank, (_, own_losses, _) in enumerate(told):
        every[owner == rank] = own_losses
    return Epoch(worker.flat_parameters, every, sum(hits for _, _, hits in told))


def _samples(
    ranks: Ranks, held: Rows | None, data: Samples, mine: slice, owner: Array
) -> Samples:
    """Return a batch's samples that this rank computes."""
    x, y, order, scales = data
    count = mine.stop - mine.start
    own = tree.share(tree.count_leaves(count), ranks.rank, ranks.size)
    first, stop = mine.start + own.start * LEAF, min(mine.start + own.stop * LEAF, mine.stop)
    if held is not None:
        batch = np.arange(mine.start, mine.stop) if order is None else order[mine]
        x, order = held.fetch(ranks, x, batch, owner[mine]), None
    elif order is None:
        x = x[first:stop]
    else:
        order = order[first:stop]
    scale = np.full(stop - first, 1 / count, x.dtype) if scales is None else scales[first:stop]
    return Samples(x, y[first:stop], order, scale)


def _parts(
    worker: "Estimator", samples: Samples, schedule: Schedule, leaves: int, ranks: Ranks
) -> tuple[Array, Array, int]:
    """Return the gradients of this rank's subtrees, one behind the other; losses and hits.

    A step of momentum 0 at a rate of 0 leaves the gradient in its state: 0 * -0 + g is g.
    """
    x, y, order, scales = samples
    assert scales is not None
    step = Schedule(
        "momentum", np.zeros(1), 0.0, 0.0, schedule.batch_size, 1, 0.0, {}, math.inf, True
    )
    subtrees = tree.subtrees(leaves, ranks.size)[ranks.rank]
    parts = np.full((len(subtrees), worker.flat_parameters.size), -0.0, worker.dtype)
    losses, hits = [np.empty(0, worker.dtype)], 0
    for subtree, part in zip(subtrees, parts, strict=True):
        start = (subtree.start - subtrees[0].start) * LEAF
        mine = slice(start, start + len(subtree) * LEAF)
        part_of = Samples(
            x if order is not None else x[mine], y[mine], None if order is None else order[mine],
            scales[mine],
        )  # fmt: skip
        epoch = worker._train_epoch(part_of, step, part, 0)
        losses.append(epoch.losses)
        hits += epoch.hits
    return parts, np.concatenate(losses), hits


def _is_over(
    ranks: Ranks, callback: Callable[[History], object] | None, history: History
) -> bool:
    """Return whether the callback of any rank ends the training, after an epoch."""
    ends = callback is not None and bool(ranks.interruptible(callback, history))
    figures = {
        name: values[-1:] and repr(values[-1])  # of equal NaNs, too
        for name, values in vars(history).items()
        if name.startswith("validation")
    }
    told = ranks.gather((figures, ends))
    refuse_differences([figures for figures, _ in told], len(history.loss) - 1)
    return any(ends for _, ends in told)

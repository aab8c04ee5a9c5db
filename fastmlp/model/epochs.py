"""Epochs of training by plans: what data decides, the plan that is kept, the compiled steps."""

import math
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from fastmlp_kernels.compiling.call import invoke
from fastmlp_kernels.compiling.cpu import vector_bits
from fastmlp_kernels.compiling.stored import address
from fastmlp_kernels.plans import record

from ..checks import Array
from ..plan.step import MOST_PLANS, plan_training
from ..plan.table import Plan
from ..plan.ways import (
    FEWEST_STEPS,
    SMALLEST_WEIGHTS,
    Training,
    count_groups,
    goes_by_groups,
    run_of_leaves,
)
from .addresses import DTYPES, shared_words, this_machine, worker
from .fit_checks import Schedule
from .losses import loss_of

if TYPE_CHECKING:
    from .estimator import Estimator

# An element that is not zero took 2.7 to 3.6 ns in products that pass over zeros (100 columns,
# AVX2), where the limit of the FMAs of all elements, zero or not, was 2.0 ns each.
MOST_NONZERO = 0.5
LOOKS = 16  # samples of which the share of zeros is taken
LOOKS_OF_GROUPS = 64  # samples by which groups of inputs are given to threads
FEWEST_SAMPLES = 64  # of an epoch: moving W to its panels and back costs as much as a few samples
NO_ORDER = np.empty(0, np.int64)


class Steps(NamedTuple):
    """What the steps of an epoch need, besides the arrays that they change.

    constants: (steps, 8), see Schedule.constants; rides, max_norm, decay_bias: see Schedule;
    activation: each hidden layer's; loss, delta: see reference/losses.py.
    """

    sizes: tuple[int, ...]
    bias: tuple[bool, ...]
    optimizer: str
    constants: Array
    batch_size: int
    rides: bool
    activation: tuple[str, ...]
    max_norm: float = math.inf
    decay_bias: bool = True
    loss: str = "cross_entropy"
    delta: float = 0.0


class Weights(NamedTuple):
    """What an epoch changes: all parameters, the optimizer's states, and the losses (N,)."""

    parameters: Array
    states: Array
    losses: Array


def train(
    x: Array,
    order: Array | None,
    y: Array,
    steps: Steps,
    weights: Weights,
    num_threads: int,
    scales: Array | None = None,
) -> int:
    """Run the steps in order on batches of x, the last may be shorter; return the hits.

    In the order of the samples: y, labels (N,) or targets (N, outputs), and scales (N,), each
    sample's part in its batch; None: equal parts. The weights and the losses are written.
    """
    passes = may_pass_over(x, steps.sizes)
    first, hits = _run(x, order, y, steps, weights, num_threads, scales, passes)
    if first < len(steps.constants):
        # Steps that a zero would change are made again, and all behind them, without passing over.
        start = first * steps.batch_size
        more = _run(
            x if order is not None else x[start:], None if order is None else order[start:],
            y[start:], steps._replace(constants=steps.constants[first:]),
            weights._replace(losses=weights.losses[start:]), num_threads,
            None if scales is None else scales[start:], (False, False),
        )  # fmt: skip
        hits += more[1]
    return hits


def _run(
    x: Array,
    order: Array | None,
    y: Array,
    steps: Steps,
    weights: Weights,
    num_threads: int,
    scales: Array | None,
    passes: tuple[bool, bool],
) -> tuple[int, int]:
    """Run a plan of the steps until its end, or until it fails; return how many, and the hits.

    passes: whether hidden layers may pass over zeros, and whether the first one shall.
    """
    itemsize, count, samples = x.itemsize, len(steps.constants), len(y)
    ordered, weighted, none = order is not None, scales is not None, np.empty(0, x.dtype)
    training = describe(x, samples, ordered, steps, num_threads, passes, weighted)
    prepared = prepare(training)
    shared = prepared.words.copy()
    shared[record.STEPS], shared[record.LEFT] = count, samples
    shared[record.MAX_NORM] = np.float64(steps.max_norm).view(np.int64)
    # Watches look at padding, too, which nobody writes: it has to be finite.
    memory = (np.zeros if prepared.watches else np.empty)(
        prepared.size + count * itemsize, np.uint8
    )
    prepared.train(
        x, NO_ORDER if order is None else order,
        *((y, none) if y.ndim == 1 else (NO_ORDER, y.reshape(-1))),
        none if scales is None else scales, *weights[:2], steps.constants, weights.losses,
        memory, shared, prepared.worker,
    )  # fmt: skip
    return int(shared[record.STEPS_DONE]), int(shared[record.HITS_DONE])


def describe(
    x: Array,
    samples: int,
    ordered: bool,
    steps: Steps,
    num_threads: int,
    passes: tuple[bool, bool],
    weighted: bool = False,
) -> Training:
    """Return what the plan of the steps depends on; `passes` as in `_run`."""
    count, batch = len(steps.constants), min(steps.batch_size, samples)
    last = samples - (count - 1) * batch
    training = Training(
        steps.sizes, steps.bias, x.itemsize, batch, last if last < batch else 0, num_threads,
        steps.optimizer, steps.rides, ordered, count >= FEWEST_STEPS, *passes, (),
        steps.activation, steps.max_norm < math.inf, steps.decay_bias, steps.loss, steps.delta,
        weighted,
    )  # fmt: skip
    return training._replace(groups=_groups(x, training)) if passes[1] else training


class Prepared(NamedTuple):
    """A plan whose kernels are compiled. words: what is shared, but for the arrays' addresses."""

    plan: Plan
    words: Array
    size: int
    watches: bool
    train: Any
    worker: int


@lru_cache(MOST_PLANS)
def prepare(training: Training) -> Prepared:
    """Return the plan of a training, compiled."""
    plan, dtype = plan_training(training, this_machine()), DTYPES[training.itemsize]
    words = shared_words(plan, dtype)
    batch, itemsize = training.batch, training.itemsize
    is_labels = training.loss == "cross_entropy"
    moves = {
        record.NONE: -batch,  # of the samples that are left
        record.X: 0 if training.ordered else batch * training.sizes[0] * itemsize,
        record.ORDER: batch * 8 if training.ordered else 0,
        record.LABELS: batch * (8 if is_labels else training.sizes[-1] * itemsize),
        record.SCALES: batch * itemsize,
        record.LOSSES: batch * itemsize,
        record.RATE: itemsize,
        record.CONSTANTS: 8 * record.CONSTANTS_EACH,
    }
    for base, by in moves.items():
        words[record.MOVES + base] = by
    words[record.RATE], words[record.LAST_ROWS] = plan.buffers, training.last
    size = record.LINE + record.team_bytes(plan.threads) + plan.threads * plan.own + plan.buffers
    watches = "watch" in plan.kinds
    trains = partial(invoke(), address("plans.execute", "trainer"))
    return Prepared(plan, words, size, watches, trains, worker())


def steps_of(model: "Estimator", schedule: Schedule, constants: Array) -> Steps:
    """Return what an epoch of a model by a schedule needs, with the constants of its steps."""
    return Steps(
        model.sizes, model.bias, schedule.optimizer, constants, schedule.batch_size,
        schedule.rides(model.dtype), model.activation, schedule.max_norm, schedule.decay_bias,
        *loss_of(model),
    )  # fmt: skip


def may_pass_over(x: Array, sizes: tuple[int, ...]) -> tuple[bool, bool]:
    """Return whether hidden layers may pass over zeros, and whether the first one shall."""
    return vector_bits() != 0, pays_to_skip(x, sizes)


def pays_to_skip(x: Array, sizes: tuple[int, ...]) -> bool:
    """Return whether the first layer shall pass over zeros, by some samples of x (N, inputs)."""
    if vector_bits() == 0 or len(sizes) < 3 or len(x) < FEWEST_SAMPLES:
        return False
    if sizes[0] * sizes[1] < SMALLEST_WEIGHTS:
        return False
    some = x[len(x) * np.arange(LOOKS) // LOOKS]
    return bool(np.count_nonzero(some) <= MOST_NONZERO * LOOKS * x.shape[1])


def _groups(x: Array, training: Training) -> tuple[tuple[int, ...], ...]:
    """Return the groups of the first layer's inputs that each thread has, if they are tasks."""
    if run_of_leaves(training.batch, training.threads):
        return ()
    if not goes_by_groups(training, this_machine()):
        return ()
    return share_groups(x, count_groups(training.sizes[0], int(training.bias[0])), training.threads)


def share_groups(x: Array, count: int, num_threads: int) -> tuple[tuple[int, ...], ...]:
    """Give each group to a thread: the heaviest first, to whom has the least.

    Its weight is the number of its inputs that aren't zero in some samples of x (N, inputs).
    """
    some = x[len(x) * np.arange(LOOKS_OF_GROUPS) // LOOKS_OF_GROUPS] != 0
    leaves = range(0, record.LEAF * count, record.LEAF)
    weights_of = [1 + int(np.count_nonzero(some[:, k : k + record.LEAF])) for k in leaves]
    weights_of[-1] += int(np.count_nonzero(some[:, record.LEAF * count :]))
    loads = [0] * num_threads
    groups: list[list[int]] = [[] for _ in loads]
    for _ in range(count):
        group = weights_of.index(max(weights_of))
        thread = loads.index(min(loads))
        groups[thread].append(group)
        loads[thread] += weights_of[group]
        weights_of[group] = 0
    return tuple(map(tuple, groups))

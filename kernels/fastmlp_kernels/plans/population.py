"""Many trainings at once: each thread takes a model, runs epochs of it, and takes the next.

An epoch is what fastmlp/model/fit.py says: an order of the samples, the plan's steps on copies of
the weights and states, the mean loss, and only then the model's own weights and states change. A
model leaves before an epoch that can't end so: a loss or a weight isn't finite, or a zero that
was passed over would have mattered. Its stream is then as before that epoch. After an epoch, it is
evaluated and watched as fastmlp/model/stopping.py says.
"""

import numpy as np
from numba.core import types

from fastmlp_kernels.compiling.jit import integer, jit, kernel, packed, result
from fastmlp_kernels.loss import mean_of
from fastmlp_kernels.plans import record
from fastmlp_kernels.plans.execute import count_hits, drive, set_arrays, set_places, set_rows
from fastmlp_kernels.plans.memory import (
    add_one,
    address,
    array_at,
    bits_of,
    copy,
    fields_at,
    float64_of,
    keep_alive,
)
from fastmlp_kernels.plans.operands import record_at, set_word, word
from fastmlp_kernels.plans.parallel import SharedKernel, on_threads
from fastmlp_kernels.plans.pcg64 import STATE_WORDS, shuffle
from fastmlp_kernels.plans.record import (
    BLOCK_ROWS,
    BUFFERS,
    CONSTANTS,
    CONSTANTS_EACH,
    HITS_DONE,
    LABELS,
    LEFT,
    LINE,
    LOSSES,
    MAX_NORM,
    ORDER,
    OWN_PLACE,
    PARAMETERS,
    RATE,
    SCALES,
    SHARED_WORDS,
    STATES,
    STEPS,
    STEPS_DONE,
    X,
)

LEVELS = 64  # of the tree of any number of leaves, see loss.py
# A thread's memory starts with the words of a plan, the sums of the tree and a stream.
SUMS = SHARED_WORDS * 8
STREAM = SUMS + LEVELS * 8
HEAD = STREAM + STATE_WORDS * 8

OTHER, _, ADAMW = range(len(record.RULES))

_job_at = record_at(record.JOB_FIELDS)
_STATE = record.JOB_FIELDS.index("state_low") * 8


@jit
def visit(zero, it, job, place):
    """Put what belongs to each sample into the epoch's order; return what the plan reads of it."""
    samples, order, y = it.samples, it.rows, it.y
    weights = array_at(0.0, it.weights, samples if it.weights else 0)
    if it.shuffles:
        order = place + it.order
        shuffle(job + _STATE, samples, order, place + it.draws, place + it.counts, it.bits)
        seen = array_at(0.0, place + it.seen_weights, weights.size)
        for i in range(weights.size):
            seen[i] = weights[word(order, i)]
        weights = seen
        for i in range(samples if it.rows else 0):
            set_word(order, i, word(it.rows, word(order, i)))
    if order:
        y = place + it.seen
        for i in range(samples):
            copy(y + i * it.y_bytes, it.y + word(order, i) * it.y_bytes, it.y_bytes)
    scales = array_at(zero, place + it.scales, weights.size)
    write_scales(weights, it.batch_size, scales)
    return order, y, weights


@jit
def write_scales(weights, batch_size, scales):
    """Each sample's part in its batch; see fastmlp/model/sample_weights.py."""
    for start in range(0, weights.size, batch_size):
        stop = min(start + batch_size, weights.size)
        total = total_of(weights[start:stop])
        for i in range(start, stop):
            scales[i] = weights[i] / total if weights[i] > 0 else 0.0


@jit
def total_of(values):
    """The sum, one after the other."""
    total = values[0]
    for i in range(1, values.size):
        total += values[i]
    return total


@jit
def weigh(losses, weights):
    """losses *= weights whose mean is made 1."""
    share = total_of(weights) / weights.size
    for i in range(weights.size):
        part = losses.dtype.type(weights[i] / share)
        losses[i] = part * losses[i] if weights[i] > 0 else losses.dtype.type(0)


@jit
def are_finite(values):
    # No sum of these zeros is 0 but of finite values: x * 0 of another is NaN.
    total = values.dtype.type(0)
    for i in range(values.size):
        total += abs(values[i] * values.dtype.type(0))
    return total == 0


@jit
def write_constants(it, constants):
    """An epoch's constants at an address; see Schedule.constants in fastmlp/model/fit_checks.py."""
    first = it.epoch * it.steps
    copy(constants, it.constants + first * 8 * CONSTANTS_EACH, it.steps * 8 * CONSTANTS_EACH)
    values = array_at(0.0, constants, it.steps * CONSTANTS_EACH)
    rates = array_at(0.0, it.rates, 1 + it.rate_step * it.epochs * it.steps)
    decay = float64_of(it.decay)
    for step in range(it.steps):
        rate, row = rates[(first + step) * it.rate_step], step * CONSTANTS_EACH
        values[row] = 1 - rate * decay if it.rule == ADAMW else decay
        if it.rule == OTHER:
            values[row + 1] = rate
        else:
            values[row + 5] = rate / values[row + 5]


@jit
def run_plan(zero, it, place, order, y):
    """The steps of an epoch on copies of the weights and states; how many were right, or -1."""
    parameters = place + it.work
    states = parameters + it.parameter_bytes
    copy(place, it.plan, SHARED_WORDS * 8)
    copy(parameters, it.parameters, it.parameter_bytes)
    copy(states, it.states, it.state_bytes)
    set_word(place, X, it.x)
    set_word(place, ORDER, order)
    set_word(place, LABELS, y)
    set_word(place, SCALES, place + it.scales)
    set_word(place, LOSSES, place + it.sample_losses)
    set_word(place, PARAMETERS, parameters)
    set_word(place, STATES, states)
    write_constants(it, place + it.step_constants)
    set_word(place, CONSTANTS, place + it.step_constants)
    set_word(place, STEPS, it.steps)
    set_word(place, LEFT, it.samples)
    set_word(place, MAX_NORM, it.max_norm)
    memory = place + it.plan_memory
    if it.watches:  # these look at padding, too, which nobody writes
        words = array_at(np.int64(0), memory, it.plan_bytes // 8)
        words[:] = 0
    set_places(place, memory)
    set_word(place, RATE, word(place, RATE) + word(place, BUFFERS))
    drive(place, word(place, OWN_PLACE))
    return word(place, HITS_DONE) if word(place, STEPS_DONE) == it.steps else np.int64(-1)


@jit
def run_epoch(zero, it, job, place):
    """One epoch of a model; whether it ended as it should."""
    copy(place + STREAM, job + _STATE, STATE_WORDS * 8)
    order, y, weights = visit(zero, it, job, place)
    hits = run_plan(zero, it, place, order, y)
    losses, sums = (
        array_at(zero, place + it.sample_losses, it.samples), array_at(zero, place + SUMS, LEVELS)
    )  # fmt: skip
    if weights.size:
        weigh(losses, weights)
    mean_of(losses, sums)
    parameters = place + it.work
    new = array_at(zero, parameters, it.size)
    is_fine = abs(sums[0]) < np.inf and are_finite(new)
    if hits < 0 or (it.check_finite and not is_fine):
        copy(job + _STATE, place + STREAM, STATE_WORDS * 8)
        return False
    copy(it.parameters, parameters, it.parameter_bytes)
    copy(it.states, parameters + it.parameter_bytes, it.state_bytes)
    array_at(0.0, it.losses, it.epochs)[it.epoch] = sums[0]
    set_word(it.hits, it.epoch, hits)
    it.epoch += 1
    return True


@jit
def evaluate(zero, it, place):
    """The figures of the validation's samples after an epoch."""
    memory, last = place + it.validation_memory, it.epoch - 1
    samples, losses = it.validation_samples, place + it.validation_sample_losses
    shared = memory
    copy(shared, it.validation_plan, SHARED_WORDS * 8)
    set_rows(shared, samples, BLOCK_ROWS, memory + SHARED_WORDS * 8)
    set_arrays(shared, it.validation_x, it.parameters, it.validation_y, it.validation_y, losses)
    drive(shared, word(shared, OWN_PLACE))
    sums = array_at(zero, place + SUMS, LEVELS)
    mean_of(array_at(zero, losses, samples), sums)
    array_at(0.0, it.validation_losses, it.epochs)[last] = sums[0]
    set_word(it.validation_hits, last, count_hits(shared))


@jit
def watch(it):
    """Keep an epoch that is the best; let too many that aren't end the training."""
    last = it.epoch - 1
    figure = -array_at(0.0, it.validation_losses, it.epochs)[last]
    if it.by_accuracy:
        figure = np.float64(word(it.validation_hits, last))
    if figure > float64_of(it.best_figure):  # which no NaN is
        it.best_figure, it.best_epoch = bits_of(figure), last
        if it.best:
            copy(it.best, it.parameters, it.parameter_bytes)
            copy(it.best + it.parameter_bytes, it.states, it.state_bytes)
    if last - it.best_epoch >= it.patience:
        it.is_over = 1


@jit
def run_epochs(zero, it, job, place, most):
    """Up to `most` epochs of a model, if it hasn't ended."""
    stop = min(it.epochs, it.epoch + most)
    while it.epoch < stop and not it.is_left and not it.is_over:
        if not run_epoch(zero, it, job, place):
            it.is_left = 1
        elif it.validation_samples:
            evaluate(zero, it, place)
            if it.patience:
                watch(it)


FIELDS = 8


def _train(zero):
    def train_models(data, _, thread):
        """Take jobs until none is left: up to `most` epochs of each."""
        _, next_one, jobs, picks, count, most, memory, each = fields_at(data, FIELDS)
        place = memory + thread * each
        number = add_one(next_one)
        while number < count:
            job = jobs + word(picks, number) * len(record.JOB_FIELDS) * 8
            run_epochs(zero, _job_at(job), job, place, most)
            number = add_one(next_one)
        add_one(data)

    return train_models


@kernel(
    lambda real: (
        integer, result(integer, 2), packed(integer, 1), integer, result(types.uint8, 1), integer,
        integer,
    )
)  # fmt: skip
def run(code, jobs, picks, most, memory, each, num_threads):
    """Train the jobs (models, fields) whose numbers are picked, up to `most` epochs each.

    memory: `each` bytes of every thread. Their fields `epoch`, `is_left` and `is_over` tell how far
    they came.
    """
    next_one = np.zeros(LINE // 8, np.int64)
    fields = (
        np.int64(0), address(next_one), address(jobs), address(picks), picks.size, most,
        address(memory), each,
    )  # fmt: skip
    on_threads(code, fields, num_threads)
    keep_alive(next_one), keep_alive(jobs), keep_alive(picks), keep_alive(memory)


train = SharedKernel(_train, run)  # train[dtype](jobs, picks, most, memory, each, num_threads)

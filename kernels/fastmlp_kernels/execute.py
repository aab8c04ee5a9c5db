"""A plan's steps: threads take its tasks, and run a task's operations by their kernels' addresses.

Nothing is decided here, nor has anything here a dtype: fastmlp/plan has made the tables.
"""

from functools import cache

import numpy as np
from numba.core import types

from fastmlp_kernels.jit import address_of, integer, jit, kernel, packed, result
from fastmlp_kernels.memory import address, aligned, copy, keep_alive
from fastmlp_kernels.operands import KERNEL, own_at, set_word, task_at, word
from fastmlp_kernels.parallel import call, run_team
from fastmlp_kernels.record import (
    AFTER,
    BEFORE,
    BLOCK_ROWS,
    BUFFERS,
    CHUNK,
    CLASSES,
    CONSTANTS,
    FAILED,
    HITS_DONE,
    KERNELS,
    LABELS,
    LAST,
    LAST_ROWS,
    LEAF,
    LEFT,
    LINE,
    LOSSES,
    MOST,
    MOST_OWN,
    MOVES,
    NEGATIVE,
    OPERATION_WORDS,
    OPERATIONS,
    ORDER,
    OWN_BYTES,
    OWN_PLACE,
    PACKS,
    PARAMETERS,
    PROGRAM_WORDS,
    PROGRAMS,
    RATE,
    ROOM,
    SCALES,
    SHARED_WORDS,
    STAGES,
    STATES,
    STEPS,
    STEPS_DONE,
    TASK_WORDS,
    TASKS,
    TEAM,
    TEAM_LINES,
    THREADS,
    WHOLE,
    X,
)
from fastmlp_kernels.team import (
    await_stage,
    dismiss,
    finish_task,
    give_tasks,
    is_over,
    join_team,
    open_stage,
    take_task,
    wait,
)

# As literals, each would have what it is passed to compiled once more.
_NONE, _DRIVER = np.int64(0), np.int64(0)
_BEFORE, _WHOLE, _LAST, _AFTER = map(np.int64, (BEFORE, WHOLE, LAST, AFTER))


@jit
def run_task(shared, own, number):
    """The operations of one task, for all its rows or for one leaf of them after the other."""
    task, me = task_at(word(shared, TASKS) + number * 8 * TASK_WORDS), own_at(own)
    operations = word(shared, OPERATIONS)
    me.batch, me.part, me.leaves = task.batch, task.part, task.leaves
    for leaf in range(max(1, task.leaves)):
        start, rows = leaf * LEAF, task.rows
        if task.leaves:
            rows = min(LEAF, rows - start)
        me.row, me.leaf = task.row + start, leaf
        for operation in range(task.first, task.stop):
            row = operations + operation * 8 * OPERATION_WORDS
            me.rows = min(word(row, MOST), rows - word(row, CHUNK))
            if me.rows > 0:
                call(word(shared, KERNELS + word(row, 0)), row, shared, own)


@jit
def help_team(shared, own, thread, spins):
    """Take a task of the open stage and run it; whether there was one."""
    team = word(shared, TEAM)
    number = take_task(team, thread, word(shared, THREADS), spins)
    if number < 0:
        return False
    run_task(shared, own, number)
    finish_task(team, thread)
    return True


@jit
def run_stage(shared, own, stage):
    """Open a stage, take its tasks like the others, and wait for theirs."""
    threads, team = word(shared, THREADS), word(shared, TEAM)
    ends = word(shared, STAGES) + stage * 8 * (1 + threads)
    start = word(ends, 0)
    if threads == 1:
        for number in range(start, word(ends, 1)):
            run_task(shared, own, number)
        return
    open_stage(team, threads)
    first = start
    for thread in range(threads):
        stop = word(ends, 1 + thread)
        give_tasks(team, thread, first, stop)
        first = stop
    while help_team(shared, own, _DRIVER, _NONE):
        pass
    await_stage(team, first - start, threads)


@jit
def run_program(shared, own, number):
    """The stages of a program; whether none had to end the run."""
    program = word(shared, PROGRAMS) + number * 16
    for stage in range(word(program, 0), word(program, 1)):
        if word(shared, FAILED) and number != AFTER:
            return False
        run_stage(shared, own, stage)
    return True


@jit
def count_hits(shared):
    """How many samples of the steps until now had their label as first largest logit."""
    total = 0
    for thread in range(word(shared, THREADS)):
        total += own_at(word(shared, OWN_PLACE) + thread * word(shared, OWN_BYTES)).hits
    return total


@jit
def drive(shared, own):
    """All steps, or those before the one in which a zero that is passed over would matter."""
    run_program(shared, own, _BEFORE)
    steps = word(shared, STEPS)
    for step in range(steps):
        is_last = step == steps - 1 and word(shared, LAST_ROWS) != 0
        if not run_program(shared, own, _LAST if is_last else _WHOLE):
            break
        set_word(shared, STEPS_DONE, step + 1)
        set_word(shared, HITS_DONE, count_hits(shared))
        for base in range(1, CONSTANTS + 1):
            set_word(shared, base, word(shared, base) + word(shared, MOVES + base))
        set_word(shared, LEFT, word(shared, LEFT) + word(shared, MOVES))
    run_program(shared, own, _AFTER)


def _work(data, _, __):
    shared = data
    team = word(shared, TEAM)
    thread, spins = join_team(team), _NONE
    own = word(shared, OWN_PLACE) + thread * word(shared, OWN_BYTES)
    if thread == 0:
        drive(shared, own)
        dismiss(team)
        return
    while not is_over(team):
        spins = _NONE if help_team(shared, own, thread, spins) else wait(spins)


@cache
def worker():
    """The address of what each thread runs."""
    return address_of(_work, KERNEL)


@jit
def set_places(shared, place):
    """Let the team, the threads' own memory and the buffers lie at an address."""
    threads = word(shared, THREADS)
    set_word(shared, TEAM, place)
    for _ in range((TEAM_LINES + threads) * LINE // 8):
        set_word(place, 0, 0)
        place += 8
    set_word(shared, OWN_PLACE, place)
    for _ in range(threads):
        own_at(place).hits = 0
        place += word(shared, OWN_BYTES)
    set_word(shared, BUFFERS, place)


@kernel(
    lambda real: (
        packed(real, 2), packed(integer, 1), packed(integer, 1), packed(real, 1), packed(real, 1),
        result(real, 1), result(real, 1), packed(types.float64, 2), result(real, 1),
        result(types.uint8, 1), result(integer, 1), integer,
    )
)  # fmt: skip
def train(
    x, order, labels, targets, scales, parameters, states, constants, losses, memory, shared, code
):
    """Run a plan of training: its steps until the end, or until one has failed.

    Of labels and targets one is empty; without scales each sample's is 1 / batch. shared
    (SHARED_WORDS,): all but the addresses of these arrays. memory: room for the team,
    the threads' own memory, the buffers, and a rate for each step. code: the worker.
    """
    shared[X], shared[SCALES] = address(x), address(scales)
    shared[LABELS] = address(labels) if labels.size else address(targets)
    shared[ORDER] = address(order) if order.size else 0
    shared[PARAMETERS], shared[STATES] = address(parameters), address(states)
    shared[CONSTANTS], shared[LOSSES] = address(constants), address(losses)
    set_places(address(shared), aligned(memory))
    shared[RATE] += shared[BUFFERS]
    run_team(code, shared, shared[THREADS])
    keep_alive(memory)


# What comes before the shared words of a model's three plans, see `predict`.
HEAD = 8
CODE, PLACE, INPUTS, MOST_FEW, FEWEST_MANY, TARGETS, INTEGERS, REALS = range(8)


@jit
def _rows_each(rows, threads):
    """How many rows a task has, whole tiles of 4: each thread has as many tasks as the others."""
    mine = max(1, (rows + threads - 1) // threads)
    tasks = (mine + BLOCK_ROWS - 1) // BLOCK_ROWS
    return ((mine + tasks - 1) // tasks + 3) // 4 * 4


@jit
def _block_of(shared, stage, rows, each, threads):
    """Up to how many rows a task of a plan's stage has.

    `each` in the last; before it tasks are columns, of all rows where these are enough for threads.
    """
    if stage == word(word(shared, PROGRAMS), 1) - 1:
        return each
    plan = word(shared, STAGES) + stage * 16
    columns = max(1, word(plan, 1) - word(plan, 0))
    parts = (threads + columns - 1) // columns
    return max(4, ((rows + parts - 1) // parts + 3) // 4 * 4)


@jit
def _count_tasks(shared, rows, each, threads):
    """How many tasks `_set_tables` writes."""
    count = word(shared, PACKS)
    for stage in range(1, word(word(shared, PROGRAMS), 1)):
        block = _block_of(shared, stage, rows, each, threads)
        plan = word(shared, STAGES) + stage * 16
        count += (word(plan, 1) - word(plan, 0)) * ((rows + block - 1) // block)
    return count


@jit
def _set_tables(shared, rows, each, place):
    """Write programs, stages and tasks of a prediction of so many rows to an address.

    The first stage packs; each task of the plan's others comes once for every block of rows.
    """
    threads, packs = word(shared, THREADS), word(shared, PACKS)
    plan, plan_tasks = word(shared, STAGES), word(shared, TASKS)
    count = word(word(shared, PROGRAMS), 1)
    stages = place + PROGRAM_WORDS * 8
    tasks = stages + count * (1 + threads) * 8
    written = packs
    copy(tasks, plan_tasks, packs * TASK_WORDS * 8)
    for stage in range(count):
        start, first = written, word(plan, 2 * stage)
        block = _block_of(shared, stage, rows, each, threads)
        for number in range(first, word(plan, 2 * stage + 1) if stage else first):
            for row in range(0, rows, block):
                at = tasks + written * TASK_WORDS * 8
                copy(at, plan_tasks + number * TASK_WORDS * 8, TASK_WORDS * 8)
                task = task_at(at)
                task.row, task.rows, task.batch = row, min(block, rows - row), rows
                written += 1
        start = start if stage else 0
        ends = stages + stage * (1 + threads) * 8
        set_word(ends, 0, start)
        for thread in range(threads):
            set_word(ends, 1 + thread, start + (written - start) * (thread + 1) // threads)
    for number in range(PROGRAM_WORDS):
        set_word(place, number, 0)
    set_word(place, 0, int(packs == 0))
    set_word(place, 1, count)
    set_word(shared, PROGRAMS, place)
    set_word(shared, STAGES, stages)
    set_word(shared, TASKS, tasks)


@jit
def set_rows(shared, rows, each, place):
    """Let the memory of a prediction lie at an address, and a plan's tasks be of so many rows."""
    set_places(shared, place)
    _set_tables(shared, rows, each, word(shared, BUFFERS) + word(shared, ROOM))


@jit
def set_arrays(shared, x, parameters, labels, classes, results):
    """The addresses of a prediction's arrays."""
    set_word(shared, X, x)
    set_word(shared, PARAMETERS, parameters)
    set_word(shared, LABELS, labels)
    set_word(shared, CLASSES, classes)
    set_word(shared, LOSSES, results)


@kernel(
    lambda real: (
        packed(real, 2), packed(integer, 1), packed(integer, 1), packed(real, 2),
        result(integer, 1), integer,
    )
)  # fmt: skip
def predict(x, plans, integers, reals, memory, num_threads):
    """Run the plan for the rows of x (N, inputs); integers and reals: see predictions.py.

    plans: HEAD words, then SHARED_WORDS of each plan: of few rows, of some, of many; at TARGETS,
    the address of targets (N, outputs), or 0; at INTEGERS and REALS, how many a row has. Return 0,
    and nothing is written, for other inputs, and for another N: another thread can have given x a
    shape since it was read. Else 1, and 2 if x holds NaN or inf, 4 if a class is below 0, 8 for
    each hit. Where it needs MOST_OWN int64 or more, and the memory has less, it returns minus that.
    """
    rows = x.shape[0]
    if x.shape[1] != plans[INPUTS]:
        return 0
    if integers.size != rows * plans[INTEGERS] or reals.size != rows * plans[REALS]:
        return 0
    which = 0 if rows <= plans[MOST_FEW] else 1
    if rows >= plans[FEWEST_MANY]:
        which = 2
    words = plans[HEAD + which * SHARED_WORDS : HEAD + (which + 1) * SHARED_WORDS]
    each, stages = _rows_each(rows, num_threads), word(words[PROGRAMS], 1)
    threads = num_threads
    if stages == 2:
        threads = min(num_threads, max(1, words[PACKS], (rows + each - 1) // each))
    size = (TEAM_LINES + threads) * LINE + threads * words[OWN_BYTES] + words[ROOM]
    tasks = _count_tasks(address(words), rows, each, threads)
    tables = PROGRAM_WORDS + stages * (1 + threads) + tasks * TASK_WORDS
    need = SHARED_WORDS + size // 8 + tables + 8
    if memory.size < need:
        if need >= MOST_OWN:
            return -need
        memory = np.empty(need, np.int64)
    shared = memory[:SHARED_WORDS]
    labels = plans[TARGETS] if plans[TARGETS] else address(integers)
    copy(address(shared), address(words), SHARED_WORDS * 8)
    set_word(address(shared), THREADS, threads)
    set_rows(address(shared), rows, each, aligned(memory[SHARED_WORDS:]))
    set_arrays(
        address(shared), address(x), plans[PLACE], labels, address(integers), address(reals)
    )
    run_team(plans[CODE], shared, threads)
    found = 1 + 2 * shared[FAILED] + 4 * shared[NEGATIVE] + 8 * count_hits(address(shared))
    keep_alive(memory)
    return found

"""A plan's steps: threads take its tasks, and run a task's operations by their kernels' addresses.

Nothing is decided here, nor has anything here a dtype: fastmlp/plan has made the tables.
"""

from functools import cache

import numpy as np

from fastmlp_kernels.compiling.jit import address_of, jit
from fastmlp_kernels.compiling.passed import AXES, LENGTH, SIZE, START, WIDTH
from fastmlp_kernels.plans.memory import aligned_place, copy
from fastmlp_kernels.plans.operands import KERNEL, own_at, passed, set_word, task_at, word
from fastmlp_kernels.plans.parallel import call, run_team
from fastmlp_kernels.plans.record import (
    AFTER,
    BEFORE,
    BLOCK_ROWS,
    BUFFERS,
    CHUNK,
    CLASSES,
    CODE,
    CONSTANTS,
    FAILED,
    FEW_THREADS,
    FEWEST_MANY,
    HEAD,
    HITS_DONE,
    INPUTS,
    INTEGERS,
    KERNELS,
    LABELS,
    LAST,
    LAST_ROWS,
    LEAF,
    LEFT,
    LINE,
    LOSSES,
    MOST,
    MOST_FEW,
    MOVES,
    NEGATIVE,
    ON_THREADS,
    OPERATION_WORDS,
    OPERATIONS,
    ORDER,
    OWN_BYTES,
    OWN_PLACE,
    PACKS,
    PARAMETERS,
    PLACE,
    PROGRAM_WORDS,
    PROGRAMS,
    RATE,
    READ_ROWS,
    REALS,
    ROOM,
    SCALES,
    SHARED_WORDS,
    STAGES,
    STATES,
    STEPS,
    STEPS_DONE,
    TARGETS,
    TASK_WORDS,
    TASKS,
    TEAM,
    TEAM_LINES,
    THREADS,
    WHOLE,
    X,
)
from fastmlp_kernels.plans.team import (
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
PARTS = 4  # that are tried for equal shares
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


def _train(call, _, __):
    """Run a plan of training: its steps until the end, or until one has failed.

    Given: x, order, labels, targets, scales, parameters, states, constants, losses, memory,
    shared, code. Of labels and targets one is empty; without scales each sample's is 1 / batch.
    shared (SHARED_WORDS,): all but the addresses of these arrays. memory: room for the team,
    the threads' own memory, the buffers, and a rate for each step. code: the worker.
    """
    shared = passed(call, 11, START)
    set_word(shared, X, passed(call, 1, START))
    set_word(shared, ORDER, passed(call, 2, START) if passed(call, 2, SIZE) else 0)
    set_word(shared, LABELS, passed(call, 3 if passed(call, 3, SIZE) else 4, START))
    set_word(shared, SCALES, passed(call, 5, START))
    set_word(shared, PARAMETERS, passed(call, 6, START))
    set_word(shared, STATES, passed(call, 7, START))
    set_word(shared, CONSTANTS, passed(call, 8, START))
    set_word(shared, LOSSES, passed(call, 9, START))
    set_places(shared, aligned_place(passed(call, 10, START)))
    set_word(shared, RATE, word(shared, RATE) + word(shared, BUFFERS))
    run_team(passed(call, 12, START), shared, word(shared, THREADS), word(shared, ON_THREADS))


@cache
def trainer():
    """The address of what runs a plan of training."""
    return address_of(_train, KERNEL)


@jit
def _rows_each(rows, threads):
    """How many rows a task has, tiles of 4, or 2: each thread has as many tasks as the others."""
    mine = max(1, (rows + threads - 1) // threads)
    tasks = (mine + BLOCK_ROWS - 1) // BLOCK_ROWS
    tile = 2 if tasks == 1 and threads > FEW_THREADS else 4
    return ((mine + tasks - 1) // tasks + tile - 1) // tile * tile


@jit
def _rows_by_columns(rows, columns, threads):
    """The same where tasks are columns: of all rows, or of parts that make shares more equal."""
    fewest = (threads + columns - 1) // columns
    best, least = rows, np.int64(0)
    for parts in range(fewest, fewest + (PARTS if threads > FEW_THREADS else 1)):
        each = max(4, ((rows + parts - 1) // parts + 3) // 4 * 4)
        tasks = columns * ((rows + each - 1) // each)
        longest = (tasks + threads - 1) // threads * (each + READ_ROWS)
        if least == 0 or longest < least:
            best, least = each, longest
    return best


@jit
def _block_of(shared, stage, rows, each, threads):
    """Up to how many rows a task of a plan's stage has.

    `each` in the last; before it tasks are columns.
    """
    if stage == word(word(shared, PROGRAMS), 1) - 1:
        return each
    plan = word(shared, STAGES) + stage * 16
    return _rows_by_columns(rows, max(1, word(plan, 1) - word(plan, 0)), threads)


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


def _predict(call, _, __):
    """Run the plan for the rows of x (N, inputs); integers and reals: see predictions.py.

    Given: x, plans, integers, reals, memory, num_threads, start: what starts threads, where there
    are several. plans: HEAD words, then SHARED_WORDS of each plan: of few rows, of some, of many;
    at TARGETS, the address of targets (N, outputs), or 0; at INTEGERS and REALS, how many a row
    has. The result is 0, and nothing is written, for other inputs, and for another N: another
    thread can have given x a shape since it was read. Else 1, and 2 if x holds NaN or inf, 4 if a
    class is below 0, 8 for each hit. Where the memory has less than it needs, it is minus that.
    """
    set_word(call, 0, 0)
    rows, plans = passed(call, 1, LENGTH), passed(call, 2, START)
    num_threads = passed(call, 6, START)
    if passed(call, 1, AXES) != 2 or passed(call, 1, WIDTH) != word(plans, INPUTS):
        return
    if passed(call, 3, SIZE) != rows * word(plans, INTEGERS):
        return
    if passed(call, 4, SIZE) != rows * word(plans, REALS):
        return
    which = 0 if rows <= word(plans, MOST_FEW) else 1
    if rows >= word(plans, FEWEST_MANY):
        which = 2
    words = plans + (HEAD + which * SHARED_WORDS) * 8
    each, stages = _rows_each(rows, num_threads), word(word(words, PROGRAMS), 1)
    threads = num_threads
    if stages == 2:
        threads = min(num_threads, max(1, word(words, PACKS), (rows + each - 1) // each))
    size = (TEAM_LINES + threads) * LINE + threads * word(words, OWN_BYTES) + word(words, ROOM)
    tasks = _count_tasks(words, rows, each, threads)
    tables = PROGRAM_WORDS + stages * (1 + threads) + tasks * TASK_WORDS
    need = SHARED_WORDS + size // 8 + tables + 8
    if passed(call, 5, SIZE) < need:
        set_word(call, 0, -need)
        return
    shared, integers = passed(call, 5, START), passed(call, 3, START)
    labels = word(plans, TARGETS) if word(plans, TARGETS) else integers
    copy(shared, words, SHARED_WORDS * 8)
    set_word(shared, THREADS, threads)
    set_rows(shared, rows, each, aligned_place(shared + SHARED_WORDS * 8))
    set_arrays(
        shared, passed(call, 1, START), word(plans, PLACE), labels, integers, passed(call, 4, START)
    )
    run_team(word(plans, CODE), shared, threads, passed(call, 7, START))
    failed, negative = word(shared, FAILED), word(shared, NEGATIVE)
    set_word(call, 0, 1 + 2 * failed + 4 * negative + 8 * count_hits(shared))


@cache
def answerer():
    """The address of what runs a plan of predictions."""
    return address_of(_predict, KERNEL)

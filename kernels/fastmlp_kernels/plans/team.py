"""A team of threads for many short stages: the threads start once and share the tasks of each.

One thread drives: it opens a stage of so many tasks, takes tasks like the others, and waits for
those that others still have. A helper that is held up elsewhere delays nobody: it has no part in a
stage until it takes a task. Opening a stage costs a cache line's way to the other cores, about
0.1 us; starting an OpenMP region costs 1 to 3 us, and far more while other processes run.
"""

import sys

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastmlp_kernels.compiling.cpu import architecture
from fastmlp_kernels.compiling.jit import jit
from fastmlp_kernels.plans.memory import add_one
from fastmlp_kernels.plans.record import LINE

# The team's words: whether all is over and how many threads have come, each on a cache line of its
# own; then a line for each thread, with the end of its share of the open stage's tasks in the upper
# half of a word and the next of them in the lower one, and behind it how many tasks it finished.
# One count that all threads write cost 2% of an epoch of 784-100-10 with 32 samples.
OVER, COME, SHARES = (LINE * line for line in range(3))
FINISHED = 8

LOOKS = 64  # how often a thread looks for tasks of its own before it looks for others'

SPINS = 1000  # about 20 us of waiting before a thread lets others have its core

_INT = ir.IntType(64)


def _place(builder, address):
    return builder.inttoptr(address, _INT.as_pointer())


@intrinsic
def _read(typing_context, address):
    """Load an int64 that other threads write."""

    def codegen(context, builder, signature, values):
        return builder.load_atomic(_place(builder, values[0]), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def _write(typing_context, address, value):
    """Store an int64 that other threads read."""

    def codegen(context, builder, signature, values):
        builder.store_atomic(values[1], _place(builder, values[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _pause(typing_context):
    """Tell the CPU that this thread waits in a loop."""

    def codegen(context, builder, signature, values):
        number = ir.IntType(32)
        name, arguments = {
            "x86_64": ("llvm.x86.sse2.pause", []),
            "aarch64": ("llvm.aarch64.hint", [ir.Constant(number, 1)]),  # 1: yield
        }.get(architecture(), (None, []))
        if name:
            kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _give_up_core(typing_context):
    """Let another thread have the core for a while."""

    def codegen(context, builder, signature, values):
        if sys.platform != "win32":
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@jit
def join_team(team):
    """Return this thread's number: 0, the driver, for the first that comes."""
    return add_one(team + COME)


@jit
def open_stage(team, num_threads):
    """Start a stage: nothing of it has been done."""
    for thread in range(num_threads):
        _write(team + SHARES + thread * LINE + FINISHED, 0)


@jit
def give_tasks(team, thread, start, stop):
    """Let a thread have the open stage's tasks start .. stop (below 2^31).

    What the tasks need to know is written; others help with them from now on.
    """
    _write(team + SHARES + thread * LINE, (stop << 32) | start)


@jit
def take_task(team, thread, num_threads, spins):
    """Return the number of a task that nobody else has, or -1 if there is none.

    A thread's own share comes first, so that what it wrote in the last step is in its cache; then
    it helps the others. spins: how many moments it has waited; it rarely looks at theirs then.
    """
    # A thread that comes late to one stage may get a task of the next: both are as good.
    number = take_of_share(team, thread)
    if number < 0 and spins % LOOKS == 0:
        for other in range(thread + 1, thread + num_threads):
            number = take_of_share(team, other % num_threads)
            if number >= 0:
                break
    return number


@jit
def take_of_share(team, thread):
    """Return the number of a task of one thread's share, or -1 if there is none."""
    place = team + SHARES + thread * LINE
    tasks = _read(place)
    if tasks & 0xFFFFFFFF < tasks >> 32:
        tasks = add_one(place)
        if tasks & 0xFFFFFFFF < tasks >> 32:
            return tasks & 0xFFFFFFFF
    return -1


@jit
def finish_task(team, thread):
    """Count a task that this thread has done."""
    place = team + SHARES + thread * LINE + FINISHED
    _write(place, _read(place) + 1)


@jit
def await_stage(team, tasks, num_threads):
    """Wait until others have finished theirs."""
    spins = np.int64(0)
    while count_finished(team, num_threads) < tasks:
        spins = wait(spins)


@jit
def count_finished(team, num_threads):
    finished = 0
    for thread in range(num_threads):
        finished += _read(team + SHARES + thread * LINE + FINISHED)
    return finished


@jit
def dismiss(team):
    _write(team + OVER, 1)


@jit
def is_over(team):
    return _read(team + OVER) != 0


@jit
def wait(spins):
    """Wait a moment; `spins`: how many moments it has been."""
    _pause()
    if spins >= SPINS:
        _give_up_core()
    return spins + 1

"""Single products: what a plan tells for the arrays of one call, see fastmlp/plan/matmul.py."""

import numpy as np

from fastmlp_kernels.execute import set_places
from fastmlp_kernels.jit import integer, jit, packed, result
from fastmlp_kernels.memory import address, aligned, copy, keep_alive
from fastmlp_kernels.operands import set_word
from fastmlp_kernels.parallel import run_team
from fastmlp_kernels.record import ARRAYS, ROOM, SHARED_WORDS, THREADS, WORKER

PLAN = packed(integer, 1)  # what threads share, then the plan's tables
MEMORY = result(integer, 1)  # see fastmlp/scratch.py
NO_ARRAY = np.int64(0)


@jit
def run(plan, memory, arrays):
    """Run a plan; arrays: the addresses of the call's six arrays, in the order of their bases.

    memory: what the plan notes meanwhile; of less than it needs, nothing is used.
    """
    if memory.size < plan[ROOM]:
        memory = np.empty(plan[ROOM], np.int64)
    shared = address(memory)
    copy(shared, address(plan), SHARED_WORDS * 8)
    for number in range(len(arrays)):
        set_word(shared, ARRAYS + number, arrays[number])
    set_places(shared, aligned(memory[SHARED_WORDS:]))
    run_team(plan[WORKER], memory, plan[THREADS])
    keep_alive(memory)

"""The sum and the maximum of a row: x is 1-D and contiguous, the row x[start : start + count].

Sum: element j is added to lane j mod 16 in increasing j, each lane starting at +0; then
lane[i] += lane[i + 8] for i < 8, then + 4, + 2, + 1; lane[0] is the sum. count is at least 1.
"""

import numpy as np

from fastmlp_kernels.arithmetic import lanes
from fastmlp_kernels.arithmetic.lanes import LANES
from fastmlp_kernels.compiling.jit import jit


@jit
def last_part(count):
    """Return how many elements the last 16 lanes of a row of `count` >= 1 hold: 1 to 16."""
    return (count - 1) % LANES + 1


@jit
def row_sum(x, start, count):
    zero = x.dtype.type(0)
    rest = last_part(count)
    stop = start + count - rest
    total = lanes.splat(zero)
    for j in range(start, stop, LANES):
        total = lanes.add(total, lanes.load(x, j))
    # The +0 that fills the lanes changes no total: none is -0, as they start at +0.
    return lanes.sum_of_lanes(lanes.add(total, lanes.load_part(x, stop, rest, zero)))


@jit
def row_max(x, start, count):
    """Return the maximum, or any value if an element is NaN; which of +0 and -0 is not fixed."""
    lowest = x.dtype.type(-np.inf)
    rest = last_part(count)
    stop = start + count - rest
    first = lanes.load_part(x, stop, rest, lowest)
    second = third = fourth = first
    # Four chains: each step of one takes a CPU some cycles.
    for j in range(start, stop - 3 * LANES, 4 * LANES):
        first = lanes.larger(lanes.load(x, j), first)
        second = lanes.larger(lanes.load(x, j + LANES), second)
        third = lanes.larger(lanes.load(x, j + 2 * LANES), third)
        fourth = lanes.larger(lanes.load(x, j + 3 * LANES), fourth)
    for j in range(stop - (count - rest) % (4 * LANES), stop, LANES):
        first = lanes.larger(lanes.load(x, j), first)
    largest = lanes.larger(lanes.larger(first, second), lanes.larger(third, fourth))
    return lanes.largest_of_lanes(largest)

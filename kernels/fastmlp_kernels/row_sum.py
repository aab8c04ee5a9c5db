"""The sum and the maximum of a row: x is 1-D and contiguous, the row x[start : start + count].

Sum: element j is added to lane j mod 16 in increasing j, each lane starting at +0; then
lane[i] += lane[i + 8] for i < 8, then + 4, + 2, + 1; lane[0] is the sum.
"""

import numpy as np

from fastmlp_kernels import lanes
from fastmlp_kernels.jit import jit
from fastmlp_kernels.lanes import LANES


@jit
def row_sum(x, start, count):
    zero = x.dtype.type(0)
    total = lanes.splat(zero)
    rest = count % LANES
    stop = start + count - rest
    for j in range(start, stop, LANES):
        total = lanes.add(total, lanes.load(x, j))
    if rest:
        # The +0 that fills the lanes changes no total: none is -0, as they start at +0.
        total = lanes.add(total, lanes.load_part(x, stop, rest, zero))
    return lanes.sum_of_lanes(total)


@jit
def row_max(x, start, count):
    """The maximum, or any value if an element is NaN; which zero of +0 and -0 is not fixed."""
    lowest = x.dtype.type(-np.inf)
    largest = lanes.splat(lowest)
    rest = count % LANES
    stop = start + count - rest
    for j in range(start, stop, LANES):
        largest = lanes.larger(lanes.load(x, j), largest)
    if rest:
        largest = lanes.larger(lanes.load_part(x, stop, rest, lowest), largest)
    return lanes.largest_of_lanes(largest)

"""How many threads a call uses."""

import numba

from .checks import shape_error

# Starting a parallel region costs 1 to 3 us; below this many multiply-adds (about 4 us of one
# core's work) a call stays serial.
SMALLEST_PARALLEL_WORK = 1 << 18

_num_threads: int = numba.config.NUMBA_NUM_THREADS


def set_num_threads(num_threads: int) -> None:
    """Use up to `num_threads` threads in every later call, from any Python thread.

    The bits of a result do not depend on it. Raises TypeError for a non-integer and ValueError
    outside 1 .. NUMBA_NUM_THREADS (the number of cores unless that environment variable says more).
    """
    global _num_threads
    if isinstance(num_threads, bool) or not hasattr(num_threads, "__index__"):
        raise TypeError(
            f"num_threads: expected an integer, got {type(num_threads).__name__}; pass int(...)"
        )
    count = num_threads.__index__()
    most = numba.config.NUMBA_NUM_THREADS
    if not 1 <= count <= most:
        raise shape_error(
            "num_threads", f"1 to {most}", count, "set NUMBA_NUM_THREADS before the start for more"
        )
    _num_threads = count


def get_num_threads() -> int:
    """Return how many threads a large call uses."""
    return _num_threads


def threads_for(work: int) -> int:
    """Return the threads worth starting for `work` multiply-adds (or elements times their cost)."""
    return _num_threads if work >= SMALLEST_PARALLEL_WORK else 1

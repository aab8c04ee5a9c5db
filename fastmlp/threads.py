"""How many threads a call uses."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .checks import integer, shape_error
from .thread_limits import default_limit, logger, most_threads

# Starting a parallel region costs 1 to 3 us; below this many multiply-adds (about 4 us of one
# core's work) a call stays serial.
SMALLEST_PARALLEL_WORK = 1 << 18
# Importing Numba takes 0.15 to 0.2 s, which two cores save in the training of so much.
WORTH_LOADING = 1 << 30

# Compiled code that reads arrays while nothing else runs Python needs the lock that sees to it.
HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

_alone = 0  # multiply-adds of calls that were left to one thread
_num_threads: int | None = None  # until set_num_threads, what the process may use
# What `threads_for` gives for any work, or 0 where that depends.
for_any_work = 0
_outlived_by_fork = False  # in a child whose parent had OpenMP's threads
_under_way: list[None] = []  # one for each call that has a share of the threads


class _Here(threading.local):
    """What holds for this Python thread alone."""

    # See at_most. To ask for what a thread doesn't have takes 0.5 us, more than all the rest.
    most: int | None = None


_here = _Here()


def set_num_threads(num_threads: int) -> None:
    """Use up to `num_threads` threads in every later call, from any Python thread.

    The bits of a result do not depend on it. Raises TypeError for a non-integer and ValueError
    outside 1 .. NUMBA_NUM_THREADS (the number of cores unless that environment variable says more).
    A forked child starts with 1, and stays serial whatever is set if its parent had threads of
    OpenMP: that ends a child that starts threads after its parent did.
    """
    global _num_threads, for_any_work
    count = integer("num_threads", num_threads)
    most = most_threads()
    if not 1 <= count <= most:
        raise shape_error(
            "num_threads",
            f"1 to {most}",
            count,
            f"pass num_threads={most}, or set NUMBA_NUM_THREADS before the start for more",
        )
    _num_threads, for_any_work = count, 1 if count == 1 else 0
    logger.debug("threads of a large call: %d, by set_num_threads", count)


def get_num_threads() -> int:
    """Return how many threads a large call uses.

    Until `set_num_threads` it is `FASTMLP_NUM_THREADS`, if that is set; else the smallest of: the
    cores that the process may use, its container's CPU quota, NUMBA_NUM_THREADS, OMP_NUM_THREADS
    (joblib sets both in its workers), and in a task of a Dask worker that worker's nthreads.
    """
    return _num_threads or default_limit().threads


@contextmanager
def at_most(num_threads: int | None) -> Iterator[None]:
    """In the block, calls of this Python thread use no more threads than that; None: as ever."""
    before = _here.most
    _here.most = before if num_threads is None else num_threads
    try:
        yield
    finally:
        _here.most = before


def threads_for(work: int, steps: int = 1) -> int:
    """Return the threads worth starting for `work` multiply-adds (or elements times their cost).

    steps: how many times the call has so much work, one after the other.
    """
    if work < SMALLEST_PARALLEL_WORK:
        return 1
    count = get_num_threads()
    count = min(count, _here.most or count)
    return count if count > 1 and _may_start_threads() and _pays_to_load(work * steps) else 1


def _pays_to_load(work: int) -> bool:
    """Tell whether threads, which are Numba's, are loaded, asked for, or gain what loading takes.

    A fit of few samples, the first calls of a program, end before Numba would be imported.
    """
    global _alone
    if "numba" in sys.modules or _num_threads is not None:
        return True
    _alone += work
    return _alone >= WORTH_LOADING


class Share:
    """A call's part of so many threads, beside the calls that other Python threads are in.

    If each took all of them, those of two calls would wait for each other's.
    """

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads

    def __enter__(self) -> int:
        _under_way.append(None)
        return max(1, self.num_threads // len(_under_way))

    def __exit__(self, *_: object) -> None:
        _under_way.pop()


def _may_start_threads() -> bool:
    """Tell whether a parallel call is safe here: Numba ends the process where it isn't.

    Its workqueue layer, which it takes where neither OpenMP nor TBB is found, bears no two calls at
    once, a user's own parallel functions included: there only the main thread uses more than one,
    and only while it is alone. Daemon threads don't count, as Jupyter and tqdm always have some.
    """
    if _outlived_by_fork:
        return False
    if _threading_layer() not in (None, "workqueue"):
        return True
    main = threading.main_thread()
    return threading.current_thread() is main and all(
        thread is main or thread.daemon for thread in threading.enumerate()
    )


def _threading_layer() -> str | None:
    """Return the name of Numba's layer, or None where no call was parallel yet."""
    numba = sys.modules.get("numba")
    try:
        return None if numba is None else numba.threading_layer()
    except (ValueError, AttributeError):  # it has none, or another thread imports it just now
        return None


def _after_fork() -> None:
    """In a forked child stay serial: OpenMP's threads neither outlive a fork nor start again."""
    global _num_threads, for_any_work, _outlived_by_fork
    _num_threads = for_any_work = 1
    _under_way.clear()
    _outlived_by_fork = _threading_layer() == "omp"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

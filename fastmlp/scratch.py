"""Memory that calls of a Python thread share, one after the other, for what kernels note meanwhile.

Fresh memory costs a page fault for each 4 KB: a backward of 32x784x512 took 4 times as long.
"""

import threading

import numpy as np
from fastmlp_kernels.plans.record import MOST_OWN

from .checks import Array

MOST_KEPT = 1 << 22  # int64, 32 MB: from 4 MB on, NumPy asks for pages of 2 MB
NONE: Array = np.empty(0, np.int64)


class _Here(threading.local):
    """What this Python thread has."""

    kept: Array = NONE


_here = _Here()


def scratch(size: int) -> Array:
    """Return memory for this thread's next call: (size or more,) int64; none where it is small."""
    if size < MOST_OWN:
        return NONE
    kept = _here.kept
    if kept.size < size:
        kept = np.empty(size, np.int64)
        if size <= MOST_KEPT:
            _here.kept = kept
    return kept


def kept_scratch() -> Array:
    """Return memory for this thread's next call, as much as it has had: MOST_OWN int64 or more."""
    kept = _here.kept
    return kept if kept.size else scratch(MOST_OWN)

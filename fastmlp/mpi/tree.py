"""Which leaves of a batch each rank has, and in what order the ranks' sums are added.

Rank k of P has the leaves n * k // P to n * (k + 1) // P of a batch of n leaves (256 samples each).
It sums the largest subtrees of the arithmetic's tree that lie within them; where subtrees of two
ranks meet, the tree adds them, as docs/arithmetic.md says.
"""

from functools import lru_cache

import numpy as np
from fastmlp_kernels.plans.record import LEAF

from ..checks import Array

MOST_TREES = 64  # an epoch has two: of a batch, and of its last one


def count_leaves(samples: int) -> int:
    """Return the leaves of so many samples."""
    return -(-samples // LEAF)


def share(leaves: int, rank: int, ranks: int) -> range:
    """Return the leaves that a rank has."""
    return range(leaves * rank // ranks, leaves * (rank + 1) // ranks)


@lru_cache(MOST_TREES)
def subtrees(leaves: int, ranks: int) -> list[list[range]]:
    """Return the subtrees, as runs of leaves, that each rank sums."""
    tree = range(leaves)
    return [list(_within(tree, share(leaves, rank, ranks))) for rank in range(ranks)]


def _within(tree: range, own: range) -> list[range]:
    """Return the largest subtrees of a tree that lie within a run of leaves."""
    if own.start <= tree.start and tree.stop <= own.stop:
        return [tree] if tree else []
    if tree.stop <= own.start or own.stop <= tree.start:
        return []
    left, right = _halves(tree)
    return _within(left, own) + _within(right, own)


def _halves(tree: range) -> tuple[range, range]:
    """Cut a tree of two leaves or more where the arithmetic does."""
    half = 1 << (len(tree) - 1).bit_length() - 1  # the largest power of two below their number
    return tree[:half], tree[half:]


def add(tree: range, parts: dict[range, Array]) -> Array:
    """Return the sum of a tree, of which parts has the subtrees' sums."""
    if tree in parts:
        return parts[tree]
    left, right = _halves(tree)
    with np.errstate(all="ignore"):
        return np.asarray(add(left, parts) + add(right, parts))


def is_even(leaves: int, ranks: int) -> bool:
    """Return whether the ranks are a power of two, and each has one subtree, all of one size."""
    each = leaves // ranks
    return leaves == each * ranks and each & each - 1 == 0 and ranks & ranks - 1 == 0


def owners(samples: int, batch_size: int, ranks: int) -> Array:
    """Return the rank that has each sample (samples,) of an epoch, in the visited order."""
    owner = np.empty(samples, np.int32)
    for first in range(0, samples, batch_size):
        batch = owner[first : first + batch_size]
        leaves = count_leaves(len(batch))
        for rank in range(ranks):
            own = share(leaves, rank, ranks)
            batch[own.start * LEAF : own.stop * LEAF] = rank
    return owner

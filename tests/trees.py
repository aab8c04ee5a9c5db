"""The order of a sum, read from its results alone by the method of FPRev.

Two summands are +m and -m, all others 1, and m is so large that m + 1 = m. What is added to either
mask before they meet is lost, so the result counts the summands outside of the smallest subtree
that holds both (Xie et al., "FPRev: Revealing the Order of Floating-Point Summation by Numerical
Testing", arXiv 2411.00442).

Neighbours are enough. Let the expected tree's summands be in its own order, so that each subtree
is a run of them, and let every pair of neighbours meet in a subtree of the expected size. Then
the trees are equal, by induction over the size: the subtree where the neighbours k, k + 1 meet
overlaps the two runs that the expected node joins, which are subtrees; subtrees are nested or
disjoint, so it holds both; its size leaves no room for more.
"""

from dataclasses import dataclass

import numpy as np

LEAF, LANES = 256, 16
MASKS = {np.float32: 2.0**127, np.float64: 2.0**1023}


@dataclass
class Tree:
    """Summands in the tree's own order, and the size of the subtree where neighbours meet."""

    order: list[int]
    sizes: list[int]


def chain(indices):
    """One summand after the other."""
    return Tree(list(indices), list(range(2, len(indices) + 1)))


def join(left, right):
    if not (left.order and right.order):
        return left if left.order else right
    order = left.order + right.order
    return Tree(order, [*left.sizes, len(order), *right.sizes])


def product_tree(count):
    """Chains over leaves of 256, then the aligned tree: as docs/arithmetic.md has it."""
    starts = range(0, count, LEAF)
    return _aligned([chain(range(start, min(start + LEAF, count))) for start in starts])


def _aligned(leaves):
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while 2 * half < len(leaves):
        half *= 2
    return join(_aligned(leaves[:half]), _aligned(leaves[half:]))


def row_sum_tree(count):
    """16 lanes, then lane[i] += lane[i + 8], + 4, + 2, + 1."""
    lanes = [chain(range(lane, count, LANES)) for lane in range(LANES)]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [join(low, high) for low, high in zip(lanes[:half], lanes[half:], strict=True)]
    return lanes[0]


def borders(tree, every):
    """Some places between neighbours: where subtrees of a whole leaf or more meet, and others."""
    place = np.arange(len(tree.sizes))
    return place[(np.array(tree.sizes) > LEAF) | (place % every == 0) | (place == len(place) - 1)]


def masked(tree, dtype, places=None):
    """The summands (pairs, count) with a pair of masks in each row, and the sums they must give."""
    places = np.arange(len(tree.sizes)) if places is None else places
    order, sizes = np.array(tree.order), np.array(tree.sizes, int)
    summands, row = np.ones((len(places), len(order)), dtype), np.arange(len(places))
    summands[row, order[places]] = MASKS[dtype]
    summands[row, order[places + 1]] = -MASKS[dtype]
    return summands, (len(order) - sizes[places]).astype(dtype)

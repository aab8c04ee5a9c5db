"""shuffle="blocks": blocks of samples in a random order, then the samples of some at once.

A window is some blocks, one after the other in their order. Its samples are shuffled, as if they
were all there are. So only a window has to lie in memory, and files are read in long runs.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..checks import Array, positive, shape_error
from ..model.draws import shuffled

NUMBERS_OF_BLOCK = 1 << 17
NUMBERS_OF_WINDOW = 1 << 23


class Blocks(NamedTuple):
    """How many samples there are, how many a block has, the last but one, a window how many."""

    samples: int
    size: int
    each: int

    @property
    def total(self) -> int:
        """How many blocks there are."""
        return -(-self.samples // self.size)

    def ranges(self, blocks: Array) -> list[tuple[int, int]]:
        """Return the first sample of each block, and the end of its samples."""
        starts = (blocks * self.size).tolist()
        return [(start, min(start + self.size, self.samples)) for start in starts]

    def windows(self, generator: np.random.PCG64) -> Iterator[tuple[list[tuple[int, int]], Array]]:
        """Draw an order: the ranges of samples of each window, and the order of these samples."""
        blocks = shuffled(generator, self.total)
        for first in range(0, self.total, self.each):
            ranges = self.ranges(blocks[first : first + self.each])
            yield ranges, shuffled(generator, sum(stop - start for start, stop in ranges))

    def order(self, generator: np.random.PCG64) -> Array:
        """Draw an order (samples,) of all samples."""
        windows = self.windows(generator)
        return np.concatenate([samples_of(ranges)[order] for ranges, order in windows])


def blocks_of(
    shape: tuple[int, int], shuffle: bool | str, block_size: object
) -> Blocks | None:
    """Return the blocks of samples (N, inputs), None for another shuffle, or raise.

    block_size: None for the usual one.
    """
    samples, inputs = shape
    if shuffle != "blocks":
        if block_size is not None:
            mend = "pass shuffle='blocks', or block_size=None"
            raise shape_error("block_size", f"None, as shuffle is {shuffle}", block_size, mend)
        return None
    if block_size is None:
        size = 1 << max(0, (NUMBERS_OF_BLOCK // inputs).bit_length() - 1)
    else:
        size = positive("block_size", block_size)
    return Blocks(samples, size, max(1, NUMBERS_OF_WINDOW // (size * inputs)))


def samples_of(ranges: list[tuple[int, int]]) -> Array:
    """Return the numbers of the samples in some ranges."""
    return np.concatenate([np.arange(start, stop) for start, stop in ranges])

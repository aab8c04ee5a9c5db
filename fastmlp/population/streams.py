"""The streams of many seeds at once: each is what NumPy's PCG64(seed) starts as.

A seed's 32-bit words are hashed to a pool of four and these to a state and an increment (O'Neill,
"Developing a seed_seq alternative", 2015, as NumPy's SeedSequence has it), which PCG64 takes
(O'Neill, "PCG", 2014). A PCG64 of its own took 13 us for each model, this takes 2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import Array

MOST_BITS = 128  # of a seed: four words
_POOL, _WORDS = 4, 8  # of 32 bits each
_MASK, _WIDE = (1 << 32) - 1, (1 << 128) - 1
_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645  # PCG64's


def starts_of(seeds: Sequence[int]) -> Array:
    """Return (seeds, 4) uint64: the state's lower and upper half, then the increment's.

    seeds: from 0 on, below 2^128.
    """
    count = -(-max(map(int.bit_length, seeds), default=0) // 32)  # words that aren't all 0
    entropy = np.zeros((_POOL, len(seeds)), np.uint32)
    for number in range(count):
        entropy[number] = [seed >> 32 * number & _MASK for seed in seeds]
    words = _hashed(_mixed(entropy)).astype(np.uint64)
    upper_state, state, upper_sequence, sequence = words[::2] | words[1::2] << np.uint64(32)
    columns = zip(
        upper_state.tolist(), state.tolist(), upper_sequence.tolist(), sequence.tolist(),
        strict=True,
    )  # fmt: skip
    return np.array([_start(a << 64 | b, c << 64 | d) for a, b, c, d in columns], np.uint64)


def words_of(stream: Any) -> tuple[int, int, int, int]:
    """Return the same of the state that a PCG64 has."""
    return _halves(stream["state"]["state"], stream["state"]["inc"])


def _start(state: int, sequence: int) -> tuple[int, int, int, int]:
    increment = (sequence << 1 | 1) & _WIDE
    return _halves(((increment + state) * _MULTIPLIER + increment) & _WIDE, increment)


def _halves(state: int, increment: int) -> tuple[int, int, int, int]:
    lower = (1 << 64) - 1
    return state & lower, state >> 64, increment & lower, increment >> 64


class _Hash:
    """hash(values): uint32, with a constant that changes with each call."""

    def __init__(self, start: int, factor: int) -> None:
        self.constant, self.factor = start, factor

    def __call__(self, values: Array) -> Array:
        before, self.constant = self.constant, self.constant * self.factor & _MASK
        mixed = np.asarray((values ^ np.uint32(before)) * np.uint32(self.constant))
        return np.asarray(mixed ^ mixed >> np.uint32(16))


def _mixed(entropy: Array) -> list[Array]:
    """Return the pools (4) of entropy (4, seeds): each word has a part in each."""
    hashed = _Hash(0x43B0D7E5, 0x931E8875)
    pool = [hashed(word) for word in entropy]
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                mixed: Array = pool[target] * np.uint32(0xCA01F9DD)
                mixed -= hashed(pool[source]) * np.uint32(0x4973F715)
                pool[target] = mixed ^ mixed >> np.uint32(16)
    return pool


def _hashed(pool: list[Array]) -> Array:
    """Return (8, seeds): what the pools are drawn out to."""
    hashed = _Hash(0x8B51F9DD, 0x58F38DED)
    return np.array([hashed(pool[word % _POOL]) for word in range(_WORDS)])

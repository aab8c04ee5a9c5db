"""The choice of blocking: what is held in registers, and what stays in which cache.

Only speed depends on it, never a bit. A tile is `rows` x `vectors` accumulators, the part of the
result that a micro-kernel holds in registers. A panel is a run of columns one tile wide. Where the
last columns fill no more than a quarter (or half) of a vector, a panel ends in a packed tail: one
accumulator holds those columns for `group` = 4 (or 2) rows. For 100 columns of float32 at 512 bits
that takes 50 FMAs for 8 rows instead of 56.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from fastmlp_kernels.plans.record import (
    BLOCK_ROWS,
    FEW_THREADS,
    LEAF,
    LINE,
    READ_ROWS,
    TILE_WORDS,
    WORD,
)

from ..checks import Array

# The rows of a block, record's BLOCK_ROWS, are a multiple of tiles of 8, 6 and 12 rows. Over one
# leaf they take 48 KiB in float32 and leave the level-2 cache room for the leaf of B (256 KiB for
# 256 columns), for partial tiles, and for the next block, which is being fetched; 32 and 64 were
# up to 4% slower.

# An accumulator each, one vector of B each, and one or two for the broadcast element of A: most
# rows for 1, 2, 3, 4 vectors that divide a block, by the number of registers.
FULL_ROWS = {32: (12, 12, 8, 6), 16: (8, 6)}
REST_ROWS = (4, 2, 1)
TAIL_ROWS = {2: (12, 8, 6), 4: (12, 12, 8)}  # group: rows for 1, 2, 3 vectors
# For one or two rows a product is a walk through B: panels of up to 8 vectors read B's rows nearly
# whole, one after the other, as the prefetcher likes it: a row of 784-100-10 took 2.6 us, not 4.0.
WIDE_VECTORS = 8
# Wide panels also serve gradients that come back from up to so many outputs: there a tile's start
# and end cost more than its chains. An epoch of 784-100-10 took 0.95 of its time so.
SHORT_INNER = 16
# Up to this many leaves a tile runs over all of them at once, and its partial tiles stay in the
# level-1 cache; the panel of B it reads, 64 KiB a leaf, must stay in level 2.
FEW_LEAVES = 8
FAR_ROWS = 2048  # bytes: rows of B read in place that are so far apart share few sets of the caches
MOST_SAMPLE_ROWS = 96  # of a task of training: their activations stay in the level-2 cache
COLUMN_ROWS = (48, 32, 24, 16, 12, 8, 4)  # of a task by columns
ENOUGH_TASKS = 32  # for each thread: shares are equal, however long a task is
SAMPLES_TILE = 8  # rows of a tile: a task has whole ones, or a half where threads are many
TASKS_PER_THREAD = 4  # so that a thread that is held up leaves work for the others
# From this many leaves on, and with k this much longer than the rows, all rows go through one leaf
# before the next, and threads share the leaves.
TALL_LEAVES = 16
TALL_RATIO = 4
MOST_BLOCKS = 16  # of rows that a task of a single product has: 768 rows
PARTS_OF_BLOCKS = [24, 8]  # whole tiles: 128 x 256 x 64 by two threads took 22.4 us, not 26.9
EQUAL_SHARES = 0.02  # by how much the longest may be longer
MOST_TASKS = 256  # of a single product, before they get more blocks: each takes 1 us to plan
# Of a row of a panel whose product passes over zeros: 64 rows of B leave room in 32 KiB of the
# level-1 cache.
PANEL_BYTES = 448


class Panel(NamedTuple):
    """A run of columns one tile wide: vectors, and a tail that a group of rows may share."""

    first: int
    columns: int
    vectors: int
    group: int
    width: int  # of a packed row, in whole vectors


class Tile(NamedTuple):
    """A tile's shape, and how many of it come one below the other."""

    rows: int
    vectors: int
    group: int
    times: int


class Machine:
    """What of a CPU decides: the width of its vectors, and how many registers it has."""

    def __init__(self, vector_bits: int, is_arm: bool) -> None:
        self.vector_bits = vector_bits
        self.registers = 32 if vector_bits == 512 or is_arm else 16
        self.full_rows = FULL_ROWS[self.registers]
        self.most_vectors = len(self.full_rows)
        self.wide_rows = 2 if self.most_vectors == 4 else 1
        # Masked stores and sub-vector broadcasts cost nothing with AVX-512 and much elsewhere. NEON
        # has no masked loads: there B is packed where its last columns fill no vector, which made
        # 784-100-10 take 26 us for one row, not 8, where AVX2 did so (Zen 3).
        self.has_masks = vector_bits == 512
        self.has_masked_loads = vector_bits >= 256
        # Packing copies B once; reading it in place costs loads that cross cache lines and pages
        # for each row tile. From this many rows on the copy pays. AVX2's tiles have fewer rows:
        # there 96 rows by 784 x 256 took 0.75 of the time packed (Zen 3).
        self.pack_rows = 64 if vector_bits == 256 else 192
        # Vectors of the widest panel whose product passes over zeros; beside them there must be
        # registers for an element of A and a vector of B.
        self.sparse_vectors = min(PANEL_BYTES * 8 // max(vector_bits, 64), self.registers - 3)
        self._tiles: dict[tuple[int, int], Array] = {}
        self.shapes = self._all_shapes()
        self.numbers = {shape: number for number, shape in enumerate(self.shapes)}
        lanes = max(1, vector_bits // 32)
        self.largest_tile = lanes * max(
            rows * (vectors + (group > 1)) for rows, vectors, group in self.shapes
        )

    def _all_shapes(self) -> list[tuple[int, int, int]]:
        shapes = [
            (rows, vectors, 1)
            for vectors, most in enumerate(self.full_rows, start=1)
            for rows in (most, *REST_ROWS)
        ]
        shapes += [
            (rows, vectors, 1)
            for vectors in range(self.most_vectors + 1, WIDE_VECTORS + 1)
            for rows in ((2, 1) if self.wide_rows == 2 else (1,))
        ]
        if self.has_masks:
            shapes += [
                (self._tail_rows(vectors, group), vectors, group)
                for group in (2, 4)
                for vectors in (1, 2, 3)
            ]
        return shapes

    def lanes(self, itemsize: int) -> int:
        """Return the elements of one vector; 1 where the software FMA is used."""
        return max(1, self.vector_bits // 8 // itemsize)

    def count_panels(self, rows: int, columns: int, lanes: int) -> int:
        """Return the number of panels for a result of so many rows and columns."""
        most = WIDE_VECTORS if rows <= self.wide_rows else self.most_vectors
        vectors = -(-columns // lanes)
        return -(-vectors // most)

    def count_sparse_panels(self, columns: int, rows: int, num_threads: int, lanes: int) -> int:
        """Return in how many panels C is cut: few, but so that threads have as many tasks."""
        vectors = max(1, -(-columns // lanes))
        fewest = -(-num_threads // -(-rows // WORD))
        panels = -(-vectors // self.sparse_vectors)
        panels = -(-panels // fewest) * fewest
        return min(panels, self.count_panels(LEAF, columns, lanes))

    @cache  # noqa: B019 - one machine lives as long as the process
    def panels(self, count: int, columns: int, lanes: int) -> tuple[Panel, ...]:
        """Return so many panels, as even as can be."""
        vectors, first, panels = -(-columns // lanes), 0, []
        for p in range(count):
            each = vectors * (p + 1) // count - vectors * p // count
            rest = columns - first - (each - 1) * lanes
            group = 1
            if self.has_masks and 1 < each <= self.most_vectors and rest <= lanes // 2:
                group = 4 if rest <= lanes // 4 else 2
            own = min(each * lanes, columns - first)
            whole = each if group == 1 else each - 1
            panels.append(Panel(first, own, whole, group, panel_width(own, lanes)))
            first += each * lanes
        return tuple(panels)

    def tile(self, rows_left: int, vectors: int, group: int) -> Tile:
        """Return the tile for the next rows of a panel; of none, for the one row of ones."""
        rows, vectors, group = self._shape(max(1, rows_left), vectors, group)
        # Eight rows are two tiles of 4, not one of 6 and one of 2.
        if rows == 6 and rows_left % 6 == 2:
            rows_left -= 8
        return Tile(rows, vectors, group, max(1, rows_left // rows))

    def _shape(self, rows_left: int, vectors: int, group: int) -> tuple[int, int, int]:
        if vectors > self.most_vectors:
            return min(rows_left, self.wide_rows), vectors, 1
        if group > 1:
            full = self._tail_rows(vectors, group)
            if rows_left >= full:
                return full, vectors, group
            vectors += 1
        full = self.full_rows[vectors - 1]
        if rows_left >= full and not (full == 6 and rows_left == 8):
            return full, vectors, 1
        return next(rows for rows in REST_ROWS if rows_left >= rows), vectors, 1

    @staticmethod
    def _tail_rows(vectors: int, group: int) -> int:
        return TAIL_ROWS[group][vectors - 1]

    def tiles(self, vectors: int, group: int) -> Array:
        """Return the table of a panel's tiles: a row for each number of rows that are left."""
        key = vectors, group
        if key not in self._tiles:
            table = np.zeros((BLOCK_ROWS + 1, TILE_WORDS), np.int64)
            for rows_left in range(BLOCK_ROWS + 1):
                tile = self.tile(rows_left, vectors, group)
                table[rows_left, :3] = self.numbers[tile[:3]], tile.rows, tile.times
            self._tiles[key] = table
        return self._tiles[key]

    @cache  # noqa: B019
    def named(
        self, panels: tuple[Panel, ...], heights: frozenset[int], has_ones: bool
    ) -> frozenset[int]:
        """Return the numbers of the tiles of a product of so many rows, or of others of them."""
        starts = {rows % BLOCK_ROWS for rows in heights}
        if max(heights) >= BLOCK_ROWS:
            starts.add(BLOCK_ROWS)
        named = set()
        for vectors, group in {(panel.vectors, panel.group) for panel in panels}:
            tiles = self.tiles(vectors, group)
            if has_ones:
                named.add(int(tiles[0, 0]))
            for left in starts:
                while left > 0:
                    number, rows, times = tiles[left, :3].tolist()
                    named.add(number)
                    left -= rows * times
        return frozenset(named)

    def pays_to_pack(self, rows: int, columns: int, lanes: int) -> bool:
        """Return whether W is copied to panels: always where its rows can't be read in place."""
        return (not self.has_masked_loads and columns % lanes != 0) or rows >= self.pack_rows


@cache
def machine(vector_bits: int, is_arm: bool) -> Machine:
    """Return the one machine of these."""
    return Machine(vector_bits, is_arm)


def share(count: int, part: int, parts: int) -> range:
    """Return which of `count` things part number `part` of `parts` equal parts works on."""
    return range(count * part // parts, count * (part + 1) // parts)


def count_leaves(inner: int, with_bias: int) -> int:
    """Return the leaves of an index of `inner`, and of one more for a bias."""
    return max(1, -(-(inner + with_bias) // LEAF))


def count_levels(leaves: int) -> int:
    """Return the partial sums that wait in a tree of so many leaves."""
    return (leaves - 1).bit_length()


def panel_width(columns: int, lanes: int) -> int:
    """Return the elements that a row of a packed panel takes: whole vectors."""
    return -(-columns // lanes) * lanes


def padded_row(columns: int, itemsize: int) -> int:
    """Return the elements from row to row of a buffer of our own: whole vectors of 16 lanes."""
    row = -(-columns // 16) * 16
    return row + 16 if row * itemsize % 1024 == 0 else row


def whole_lines(size: int) -> int:
    """Return so many bytes in whole cache lines."""
    return -(-size // LINE) * LINE


def sample_rows(rows: int, num_threads: int) -> int:
    """Return the samples of a task of training: equal shares for threads, whole tiles of 8 or 4."""
    each = -(-rows // num_threads)
    if num_threads > 1:  # of 256 samples two threads had 96 and 160
        each = -(-each // -(-each // MOST_SAMPLE_ROWS))
    is_large = each > SAMPLES_TILE // 2 and num_threads <= FEW_THREADS
    tile = SAMPLES_TILE if is_large else SAMPLES_TILE // 2
    return min(MOST_SAMPLE_ROWS, -(-each // tile) * tile)


def column_rows(rows: int, panels: int, num_threads: int) -> int:
    """Return the samples of a task by columns: all that pay, or fewer, for threads' equal shares.

    Each task reads its panel, which takes as long as some samples of it.
    """
    most = COLUMN_ROWS[0]
    if num_threads <= FEW_THREADS or panels * rows >= ENOUGH_TASKS * most * num_threads:
        return most

    def longest(each: int) -> int:
        heights = READ_ROWS + np.minimum(each, rows - np.arange(0, rows, each))
        ends = np.cumsum([0, *np.tile(heights, panels)])
        shares = (len(ends) - 1) * np.arange(num_threads + 1) // num_threads
        return int(np.diff(ends[shares]).max())

    return min(COLUMN_ROWS, key=longest)


def split_leaves(leaves: int, num_threads: int) -> int:
    """Return how many leaves a task runs over: all, or a power of two, a whole subtree."""
    if num_threads == 1:
        return leaves
    each = 1
    while each * 2 * TASKS_PER_THREAD * num_threads <= leaves:
        each *= 2
    return each


def is_tall(leaves: int, rows: int) -> bool:
    """Return whether a task has all rows of C, and its leaves come one after the other."""
    return leaves >= TALL_LEAVES and leaves * LEAF >= TALL_RATIO * rows


def split_rows(rows: int, panels: int, num_threads: int) -> tuple[int, int]:
    """Return how many rows a task has, and how many tasks share the panels of a block of them.

    A task is a run of blocks, as each fetches the next one's rows; but where blocks are few, or
    threads would have unequal shares of them, tasks are parts of a block or share their panels.
    """
    blocks = max(1, -(-rows // BLOCK_ROWS))
    wanted = TASKS_PER_THREAD * num_threads
    most = max(1, min(MOST_BLOCKS, blocks // wanted))
    fewest = max(1, blocks // max(wanted, MOST_TASKS))
    if num_threads == 1 or rows == 0:
        return max(most, fewest) * BLOCK_ROWS, 1

    def excess(split: tuple[int, int]) -> float:
        """How much longer the longest share is than an equal one."""
        each, groups = split
        starts = np.arange(0, rows, each)
        heights = np.minimum(each, rows - starts)
        widths = np.diff(panels * np.arange(groups + 1) // groups)
        sizes = np.concatenate([[0], np.cumsum(np.outer(widths, heights))])
        tasks = len(sizes) - 1
        ends = sizes[tasks * np.arange(num_threads + 1) // num_threads]
        return float(np.diff(ends).max() * num_threads / (rows * panels)) - 1

    runs = [each * BLOCK_ROWS for each in range(max(most, fewest), fewest - 1, -1)]
    if blocks < wanted:
        runs += PARTS_OF_BLOCKS
    found = []
    for groups in range(min(panels, -(-wanted // blocks)), panels + 1):
        found.append(min(((each, groups) for each in runs), key=excess))
        if excess(found[-1]) <= EQUAL_SHARES:
            return found[-1]
    return min(found, key=excess)


def runs_of_leaves(leaves: int, each: int, num_threads: int) -> list[list[range]]:
    """Return each thread's runs of up to `each` leaves, whole subtrees; half ones at its ends."""
    half, runs, first = max(1, each // 2), list[list[range]](), 0
    for thread in range(1, num_threads + 1):
        stop, mine = (leaves * thread // num_threads + half // 2) // half * half, list[range]()
        if thread == num_threads:
            stop = -(-leaves // each) * each
        while first < min(stop, leaves):
            size = each if first % each == 0 and first + each <= stop else half
            mine.append(range(first, min(first + size, leaves)))
            first += size
        runs.append(mine)
    return runs

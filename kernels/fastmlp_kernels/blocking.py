"""The choice of blocking: what is held in registers, and what stays in which cache.

Only speed depends on it, never a bit. A tile is `rows` x `vectors` accumulators, the part of the
result that a micro-kernel holds in registers. A panel is a run of columns one tile wide. Where the
last columns fill no more than a quarter (or half) of a vector, a panel ends in a packed tail: one
accumulator holds those columns for `group` = 4 (or 2) rows. For 100 columns of float32 at 512 bits
that takes 50 FMAs for 8 rows instead of 56.
"""

from fastmlp_kernels.cpu import architecture, vector_bits
from fastmlp_kernels.jit import jit

LEAF = 256  # the arithmetic's own: one chain of the index k
LINE = 64  # bytes of a cache line

VECTOR_BITS = vector_bits()

# AVX-512 and NEON have 32 vector registers, AVX 16. An accumulator each, one vector of B each, and
# one or two for the broadcast element of A: most rows for 1, 2, 3, 4 vectors that divide a block.
REGISTERS = 32 if VECTOR_BITS == 512 or architecture() == "aarch64" else 16
FULL_ROWS = (12, 12, 8, 6) if REGISTERS == 32 else (8, 6)
MAX_VECTORS = len(FULL_ROWS)
REST_ROWS = (4, 2, 1)

# For one or two rows a product is a walk through B: panels of up to 8 vectors read B's rows nearly
# whole, one after the other, as the prefetcher likes it: a row of 784-100-10 took 2.6 us, not 4.0.
WIDE_ROWS = (2, 1) if MAX_VECTORS == 4 else (1,)
WIDE_VECTORS = 8

# Masked stores and sub-vector broadcasts cost nothing with AVX-512 and much elsewhere. Masked loads
# cost little with AVX, too, and NEON has none: without them B is packed where its last columns fill
# no vector, which made 784-100-10 take 26 us for one row, not 8 (Zen 3).
HAS_MASKS = VECTOR_BITS == 512
HAS_MASKED_LOADS = VECTOR_BITS >= 256
TAIL_ROWS = {2: (12, 8, 6), 4: (12, 12, 8)} if HAS_MASKS else {}  # group: rows for 1, 2, 3 vectors

# All tiles: (rows, vectors, group), where group 1 is no packed tail.
TILES = (
    [
        (rows, vectors, 1)
        for vectors, most in enumerate(FULL_ROWS, start=1)
        for rows in (most, *REST_ROWS)
    ]
    + [
        (rows, vectors, 1)
        for vectors in range(MAX_VECTORS + 1, WIDE_VECTORS + 1)
        for rows in WIDE_ROWS
    ]
    + [
        (rows, vectors, group)
        for group, choice in TAIL_ROWS.items()
        for vectors, rows in enumerate(choice, start=1)
    ]
)

# The rows of a block, a multiple of tiles of 8, 6 and 12 rows. Over one leaf they take 48 KiB in
# float32 and leave the level-2 cache room for the leaf of B (256 KiB for 256 columns), for partial
# tiles, and for the next block, which is being fetched; 32 and 64 were up to 4% slower.
BLOCK_ROWS = 48

# Up to this many leaves a tile runs over all of them at once, and its partial tiles stay in the
# level-1 cache; the panel of B it reads, 64 KiB a leaf, must stay in level 2.
FEW_LEAVES = 8

# Rows of B read in place that are this many bytes apart share few sets of the caches.
FAR_ROWS = 2048

# The elements of the largest tile.
LARGEST_TILE = max(rows * (vectors + (group > 1)) for rows, vectors, group in TILES) * max(
    1, VECTOR_BITS // 32
)

# Packing copies B once; reading it in place costs loads that cross cache lines and pages for each
# row tile. From this many rows on the copy pays. AVX2's tiles have fewer rows: there 96 rows by
# 784 x 256 took 0.75 of the time packed (Zen 3).
PACK_ROWS = 64 if VECTOR_BITS == 256 else 192

# From this many leaves on, and with k this much longer than the rows, all rows go through one leaf
# before the next, and threads share the leaves.
TALL_LEAVES = 16
TALL_RATIO = 4

# The most blocks of rows that a task has: 768 rows.
MOST_BLOCKS = 16

# Tasks for each thread, so that a thread that is held up leaves work for the others.
TASKS_PER_THREAD = 4


@jit
def lanes_of(itemsize):
    """The elements of one vector; 1 where the software FMA is used."""
    return max(1, VECTOR_BITS // 8 // itemsize)


@jit
def count_leaves(inner, with_bias):
    """The leaves of an index of `inner`, and of one more for a bias; one where there is nothing."""
    return max(1, (inner + with_bias + LEAF - 1) // LEAF)


@jit
def count_levels(leaves):
    """The partial sums that wait in a tree of so many leaves: one for each bit of their counter."""
    levels = 0
    while (leaves - 1) >> levels:
        levels += 1
    return levels


@jit
def panel_width(columns, lanes):
    """The elements that a row of a packed panel, or of a partial tile, takes: whole vectors."""
    return (columns + lanes - 1) // lanes * lanes


@jit
def count_panels(rows, columns, lanes):
    """The number of panels for a result of so many rows and columns."""
    vectors = (columns + lanes - 1) // lanes
    most = WIDE_VECTORS if rows <= WIDE_ROWS[0] else MAX_VECTORS
    return (vectors + most - 1) // most


@jit
def set_panels(columns, lanes, panels):
    """Fill panels[p] = (first column, columns, vectors, group, width), as even as can be."""
    vectors = (columns + lanes - 1) // lanes
    count = panels.shape[0]
    first = 0
    for p in range(count):
        width = vectors * (p + 1) // count - vectors * p // count
        rest = columns - first - (width - 1) * lanes
        group = 1
        if HAS_MASKS and 1 < width <= MAX_VECTORS and rest <= lanes // 2:
            group = 4 if rest <= lanes // 4 else 2
        panels[p, 0] = first
        panels[p, 1] = min(width * lanes, columns - first)
        panels[p, 2] = width if group == 1 else width - 1
        panels[p, 3] = group
        panels[p, 4] = panel_width(panels[p, 1], lanes)
        first += width * lanes


@jit
def pays_to_pack(rows, columns, column_stride, lanes):
    """Whether B is copied to panels: always where its rows can't be read as they are."""
    if column_stride != 1 or (not HAS_MASKED_LOADS and columns % lanes != 0):
        return True
    return rows >= PACK_ROWS


@jit
def is_tall(leaves, rows):
    """Whether a task has all rows of the result, and its leaves come one after the other."""
    return leaves >= TALL_LEAVES and leaves * LEAF >= TALL_RATIO * rows


@jit
def split_leaves(leaves, num_threads):
    """How many leaves a task runs over: all, or a power of two, so that it is a whole subtree."""
    if num_threads == 1:
        return leaves
    each = 1
    while each * 2 * TASKS_PER_THREAD * num_threads <= leaves:
        each *= 2
    return each


@jit
def split_rows(rows, panels, num_threads):
    """How many blocks of rows a task has, and how many tasks share the panels of a block.

    A task is a run of blocks, as each fetches the next one's rows; but where blocks are few, tasks
    share their panels.
    """
    blocks = max(1, (rows + BLOCK_ROWS - 1) // BLOCK_ROWS)
    wanted = TASKS_PER_THREAD * num_threads
    if num_threads == 1 or blocks >= wanted:
        return max(1, min(MOST_BLOCKS, blocks // wanted)), 1
    return 1, min(panels, (wanted + blocks - 1) // blocks)

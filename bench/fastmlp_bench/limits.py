"""The machine's limits as calls to time beside the providers: FMAs, and streams of memory."""

import numpy as np
from fastmlp_kernels import peak

from .providers import Array, Call

PEAK_FLOPS = 1e10  # about 20 ms of two cores: long enough to hold no start of threads
STREAM_BYTES = 1 << 28  # a stream goes through its memory until it has moved this much
LEAST_MEMORY, MOST_MEMORY = 1 << 16, 1 << 28

FMA, READ, UPDATE = "FMA peak", "read stream", "update stream"


def limit_calls(dtype: str, moved: int, threads: int) -> tuple[dict[str, Call], dict[str, int]]:
    """Return the limits as calls, and the operations or bytes of each call.

    The streams go through as much memory as the operation moves (`moved` bytes), so their limit is
    that of the cache or memory it works in.
    """
    totals = np.full(threads, 0.5, dtype)
    steps = max(1000, round(PEAK_FLOPS / (threads * peak.flops(totals.itemsize, 1))))
    run_chains = peak.run_chains[totals.dtype]

    def fma() -> None:
        totals[:] = 0.5
        run_chains(totals, steps, threads)

    memory = min(max(moved, LEAST_MEMORY), MOST_MEMORY)
    words = np.zeros(memory // 8, np.int64)
    sums = np.zeros(threads, np.int64)
    passes = max(1, STREAM_BYTES // memory)
    p, g = np.zeros((2, memory // 16))
    update_passes = max(1, STREAM_BYTES // (3 * p.nbytes))
    read, update = peak.read_stream[words.dtype], peak.update_stream[p.dtype]
    calls: dict[str, Call] = {
        FMA: fma,
        READ: lambda: read(words, sums, passes, threads),
        UPDATE: lambda: update(p, g, update_passes, threads),
    }
    counts = {
        FMA: threads * peak.flops(totals.itemsize, steps),
        READ: passes * words.nbytes,
        UPDATE: update_passes * 3 * p.nbytes,
    }
    return calls, counts


def limit_rates(seconds: dict[str, Array], counts: dict[str, int]) -> tuple[float, float]:
    """Return operations per second, and bytes per second of the faster of the two streams."""
    rates = {name: count / float(np.median(seconds[name])) for name, count in counts.items()}
    return rates[FMA], max(rates[READ], rates[UPDATE])

"""The machine's limits as calls to time beside the providers: FMAs, and streams of memory."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from fastmlp_kernels import peak
from fastmlp_kernels.plans.record import LINE

from .environment import cache_sizes, with_threads
from .providers import Array, Call
from .timing import seconds_per_call

PEAK_FLOPS = 1e10  # about 20 ms of two cores: long enough to hold no start of threads
STREAM_BYTES = 1 << 28  # a stream goes through its memory until it has moved this much
LEAST_MEMORY, MOST_MEMORY = 1 << 16, 1 << 28
TRIES = 20  # of which the best counts: other processes take their time slices

FMA, READ, UPDATE = "FMA peak", "read stream", "update stream"
BY_FMA, MEMORY = "FMA", "memory"  # what binds; else a level


def limit_calls(dtype: str, moved: int, threads: int) -> tuple[dict[str, Call], dict[str, int]]:
    """Return the limits as calls, and the operations or bytes of each call.

    The streams go through as much memory as the operation moves (`moved` bytes), so their limit is
    that of the cache or memory it works in.
    """
    fma, flops = _fma(dtype, threads)
    calls, counts = _streams(min(max(moved, LEAST_MEMORY), MOST_MEMORY), threads)
    return {FMA: fma} | calls, {FMA: flops} | counts


def _fma(dtype: str, threads: int) -> tuple[Call, int]:
    totals = np.full(threads, 0.5, dtype)
    steps = max(1000, round(PEAK_FLOPS / (threads * peak.flops(totals.itemsize, 1))))
    run_chains = peak.run_chains[totals.dtype]

    def fma() -> None:
        totals[:] = 0.5
        run_chains(totals, steps, threads)

    return fma, threads * peak.flops(totals.itemsize, steps)


def _streams(memory: int, threads: int) -> tuple[dict[str, Call], dict[str, int]]:
    words = _written(memory // 8, np.int64)
    sums = np.zeros(threads, np.int64)
    passes = max(1, STREAM_BYTES // memory)
    p, g = (_written(memory // 16, np.float64) for _ in range(2))
    update_passes = max(1, STREAM_BYTES // (3 * p.nbytes))
    read, update = peak.read_stream[words.dtype], peak.update_stream[p.dtype]
    calls: dict[str, Call] = {
        READ: lambda: read(words, sums, passes, threads),
        UPDATE: lambda: update(p, g, update_passes, threads),
    }
    return calls, {READ: passes * words.nbytes, UPDATE: update_passes * 3 * p.nbytes}


def _written(size: int, dtype: Any) -> Array:
    """Return an array of 8-byte words that starts with a cache line.

    It is written once: pages that nobody wrote are all one page of zeros, which stays in the cache:
    they were read at 165 GB/s, other memory at 55.
    """
    words = np.ones(size + LINE // 8, dtype)
    return words[-words.ctypes.data % LINE // 8 :][:size]


def limit_rates(seconds: dict[str, Array], counts: dict[str, int]) -> tuple[float, float]:
    """Return operations per second, and bytes per second of the faster of the two streams."""
    rates = {name: count / float(np.median(seconds[name])) for name, count in counts.items()}
    return rates[FMA], max(rates[READ], rates[UPDATE])


def level_of(moved: int, threads: int) -> str:
    """Return the first level of the caches that holds so many bytes, or "memory"."""
    sizes = cache_sizes(threads)
    return next((level for level, size in sizes.items() if moved <= size), MEMORY)


def measure_limits(dtypes: Iterable[str], threads: int) -> dict[str, Any]:
    """Return the most that so many threads reach: FLOP/s by dtype, bytes/s in each level.

    A stream goes through half of a level, and as much more as the levels below hold.
    """
    sizes, below, levels = cache_sizes(threads), 0, []
    with with_threads(threads):
        peaks = {}
        for dtype in dtypes:
            call, flops = _fma(dtype, threads)
            peaks[dtype] = _most({FMA: call}, {FMA: flops})[FMA]
        for level, size in (*sizes.items(), (MEMORY, 0)):
            memory = below + size // 2 if size else max(MOST_MEMORY, 4 * below)
            rates = _most(*_streams(memory, threads))
            levels.append(
                {"level": level, "size": size, "read": rates[READ], "update": rates[UPDATE]}
            )
            below += size
    return {"threads": threads, "peak_flops": peaks, "levels": levels}


def _most(calls: dict[str, Call], counts: dict[str, int]) -> dict[str, float]:
    for call in calls.values():
        call()  # compiles
    seconds = {
        name: min(seconds_per_call(call) for _ in range(TRIES)) for name, call in calls.items()
    }
    return {name: count / seconds[name] for name, count in counts.items()}

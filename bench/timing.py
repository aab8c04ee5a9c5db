"""Timing that holds on a noisy machine: interleaved rounds, medians, ratios in one run."""

import time
from collections.abc import Callable

import numpy as np

Call = Callable[[], object]

SAMPLE_SECONDS = 0.01  # a sample repeats a short call until it takes this long
PAUSE_SECONDS = 0.02  # between providers, until the threads of the last one have stopped spinning


def seconds_per_call(call: Call, repeats: int) -> float:
    """Return the mean seconds of `repeats` calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def interleaved(calls: dict[str, Call], rounds: int) -> dict[str, np.ndarray]:
    """Time every call once a round, A B C A B C; return the seconds of each, one per round."""
    repeats = {}
    for name, call in calls.items():
        call()  # compiles, allocates, starts threads
        once = min(seconds_per_call(call, 1) for _ in range(3))
        repeats[name] = max(1, int(SAMPLE_SECONDS / max(once, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE_SECONDS)
            seconds_per_call(call, repeats[name])  # until its own threads are awake and in place
            seconds[name].append(seconds_per_call(call, repeats[name]))
    return {name: np.array(values) for name, values in seconds.items()}

"""Timing that holds on a noisy machine: in interleaved rounds all see the same disturbance."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .providers import Array, Call

SAMPLE_SECONDS = 0.01  # a sample repeats a short call until it takes this long
STEADY_SECONDS = 0.05  # a call of this length is as long the second time
STEADY_CALLS = 64  # of a shorter one, one of so many is
LONG_SECONDS = 0.2  # one of this length needs no other before it; 50 ms after a sleep take 3% more
PAUSE_SECONDS = 0.01
MOST_SECONDS = 0.5
# Rounds that take longer than this are few: their calls of seconds differ little.
MOST_ROUNDS_SECONDS, FEWEST_ROUNDS = 60.0, 3


def seconds_per_call(call: Call, repeats: int = 1) -> float:
    """Return the mean seconds of `repeats` calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def wait_for_threads() -> None:
    """Sleep until no thread of this process runs: those of OpenBLAS spin for 100 ms after a call.

    A call that has to share a core with one would take twice its time.
    """
    for _ in range(int(MOST_SECONDS / PAUSE_SECONDS)):
        start = time.process_time()
        time.sleep(PAUSE_SECONDS)
        if time.process_time() - start < PAUSE_SECONDS / 4:
            return


def steady_seconds(call: Call) -> float:
    """Return the seconds of a call whose threads are awake, and nobody else's.

    The first calls of 50 us can take 10 ms each: beside another library's spinning threads.
    """
    wait_for_threads()
    seconds = [seconds_per_call(call)]
    while sum(seconds) < STEADY_SECONDS and len(seconds) < STEADY_CALLS:
        seconds.append(seconds_per_call(call))
    return min(seconds)


def interleaved(
    calls: dict[str, Call], rounds: int, done: Callable[[], Any] = lambda: None
) -> dict[str, Array]:
    """Time every call once a round, A B C A B C; return the seconds of each, one per round.

    The calls have run before. `done` is called for each round, also where long ones are left out.
    """
    repeats = {
        name: max(1, int(SAMPLE_SECONDS / max(steady_seconds(call), 1e-7)))
        for name, call in calls.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for number in range(rounds):
        if number >= FEWEST_ROUNDS and time.perf_counter() - start > MOST_ROUNDS_SECONDS:
            done()
            continue
        for name, call in calls.items():
            wait_for_threads()
            if not seconds[name] or seconds[name][-1] < LONG_SECONDS:
                seconds_per_call(call, repeats[name])  # until its own threads are awake
            seconds[name].append(seconds_per_call(call, repeats[name]))
        done()
    return {name: np.array(values) for name, values in seconds.items()}

"""What must not get worse: ratios that don't depend on the machine, beside committed ones."""

from collections.abc import Callable
from typing import Any

from .results import Results, by_case

LEAST = 0.85
BESIDE = ("numpy lean", "numpy notebook")
TRIES = 4  # a busy machine has minutes in which two threads take twice their time

Rows = dict[str, dict[str, Any]]
Problems = dict[tuple[str, str], str]


def lasting(now: Results, committed: Results, again: Callable[[set[str]], Results]) -> list[str]:
    """Return the lines of `compare` for figures that are too low in each of several tries.

    `again` measures the cases of these names once more.
    """
    problems = compare(now, committed)
    for _ in range(TRIES - 1):
        if not problems:
            break
        found = compare(again({case for case, _ in problems}), committed)
        problems = {key: line for key, line in found.items() if key in problems}
    return list(problems.values())


def compare(results: Results, committed: Results) -> Problems:
    """Return a line for each ratio below 0.85 of the committed one, or not measured any more.

    Their keys are the names of the case and of the ratio.
    """
    measured, problems = by_case(results["rows"]), {}
    for case, rows in by_case(committed["rows"]).items():
        if case[3] or "fastmlp" not in rows:  # a point of a curve
            continue
        now, name = _ratios(measured.get(case, {})), " ".join(case[:3])
        for ratio, before in _ratios(rows).items():
            what = f"{name}: {ratio}"
            if ratio not in now:
                problems[name, ratio] = f"{what}: {before:.2f} before, not measured now"
            elif now[ratio] < LEAST * before:
                part = now[ratio] / before
                problems[name, ratio] = (
                    f"{what}: {now[ratio]:.2f}, which is {part:.2f} of {before:.2f}"
                )
    return problems


def _ratios(rows: Rows) -> dict[str, float]:
    """Return how often fastmlp is as fast as NumPy, and what fraction of the limit it reaches."""
    own, found = rows.get("fastmlp"), {}
    numpy = next((rows[name] for name in BESIDE if name in rows), None)
    if own and numpy and numpy["ratio"] is not None:
        found["times as fast as NumPy"] = numpy["ratio"]
    if own and own["of_limit"] is not None:
        found["of the machine's limit"] = own["of_limit"]
    return found

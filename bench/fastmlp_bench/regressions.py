"""What must not get worse: ratios that don't depend on the machine, beside committed ones."""

from collections.abc import Callable
from typing import Any

from .results import Results, by_case, case_name

LEAST = 0.85
BESIDE = ("numpy lean", "numpy notebook")
TRIES = 4  # a busy machine has minutes in which two threads take twice their time

Rows = dict[str, dict[str, Any]]
Problems = dict[str, str]


def lasting(now: Results, committed: Results, again: Callable[[set[str]], Results]) -> list[str]:
    """Return the lines of `compare` for cases that are too slow in each of several tries.

    `again` measures the cases of these names once more.
    """
    problems = compare(now, committed)
    for _ in range(TRIES - 1):
        if not problems:
            break
        found = compare(again(set(problems)), committed)
        problems = {case: line for case, line in found.items() if case in problems}
    return list(problems.values())


def compare(results: Results, committed: Results) -> Problems:
    """Return {case: line} where all ratios are below 0.85 of the committed, or one isn't measured.

    A slower fastmlp lowers all of them: where only one is low, NumPy or the machine has changed.
    """
    measured, problems = by_case(results["rows"]), {}
    for case, rows in by_case(committed["rows"]).items():
        if case[3] or "fastmlp" not in rows:  # a point of a curve
            continue
        name = case_name(*case[:3])
        now, before = _ratios(measured.get(case, {})), _ratios(rows)
        if missing := [ratio for ratio in before if ratio not in now]:
            problems[name] = f"{name}: {', '.join(missing)}: not measured now"
        elif before and all(now[ratio] < LEAST * before[ratio] for ratio in before):
            found = (
                f"{now[ratio]:.2f} {ratio}, which is {now[ratio] / value:.2f} of {value:.2f}"
                for ratio, value in before.items()
            )
            problems[name] = f"{name}: {'; '.join(found)}"
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

"""What must not get worse: ratios that don't depend on the machine, beside committed ones."""

from typing import Any

from .results import Results, by_case

LEAST = 0.85
BESIDE = ("numpy lean", "numpy notebook")

Rows = dict[str, dict[str, Any]]


def compare(results: Results, committed: Results) -> list[str]:
    """Return a line for each ratio below 0.85 of the committed one, or not measured any more."""
    measured, problems = by_case(results["rows"]), []
    for case, rows in by_case(committed["rows"]).items():
        if case[3] or "fastmlp" not in rows:  # a point of a curve
            continue
        now = _ratios(measured.get(case, {}))
        for name, before in _ratios(rows).items():
            what = f"{' '.join(case[:3])}: {name}"
            if name not in now:
                problems.append(f"{what}: {before:.2f} before, not measured now")
            elif now[name] < LEAST * before:
                problems.append(
                    f"{what}: {now[name]:.2f}, which is {now[name] / before:.2f} of {before:.2f}"
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

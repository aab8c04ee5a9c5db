"""What a run says: the table, where fastmlp loses, how cost grows, and the README's part."""

from typing import Any

import numpy as np

from .providers import PROVIDERS
from .results import Results, by_case
from .startup import CASE as STARTUP
from .startup import NUMBA

Rows = dict[str, dict[str, Any]]

OTHERS = {name for name in PROVIDERS if not name.startswith("fastmlp")}

GROWTH = "the power of the seconds that was fitted, and in brackets that of the last step."

BEGIN = "<!-- written by `fastmlp bench`: begin -->"
END = "<!-- written by `fastmlp bench`: end -->"


def duration(seconds: float) -> str:
    """Return seconds with a unit and three digits."""
    units = (("s", 1.0), ("ms", 1e3), ("us", 1e6))
    unit, factor = next((pair for pair in units if seconds * pair[1] >= 1), units[-1])
    return f"{seconds * factor:#.3g}".rstrip(".") + f" {unit}"


def table(results: Results) -> str:
    """Return a block of lines for each case, the curves' points left out."""
    lines = [heading(results)]
    for (operation, shape, dtype, series, _), rows in by_case(results["rows"]).items():
        if not series:
            lines += ["", f"{operation} {shape} {dtype}{_limit(next(iter(rows.values())))}"]
            lines += [_line(row) for row in rows.values()]
    return "\n".join(lines + left_out(results))


def left_out(results: Results) -> list[str]:
    """Return a line for each provider that isn't installed, and for each reason why one failed."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for place, reason in results["failed"].items():
        name, _, case = place.partition(", ")
        reasons.setdefault((name, reason), []).append(case)
    lines = [f"  {name}: {reason}" for name, reason in results["missing"].items()]
    lines += [
        f"  {name} in {cases[0]}" + f" and {len(cases) - 1} more" * (len(cases) > 1) + f": {reason}"
        for (name, reason), cases in reasons.items()
    ]
    return ["", "left out:", *lines] if lines else []


def heading(results: Results) -> str:
    """Return machine and versions in a line."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in results["versions"].items())
    return (
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, "
        f"{machine['system']}; {versions}"
    )


def _limit(row: dict[str, Any]) -> str:
    if row["limit"] is None:
        return ""
    return (
        f": {row['flops'] / 1e9:.3g} GFLOP at {row['peak_flops'] / 1e9:.0f} GFLOP/s, "
        f"{row['bytes'] / 1e6:.3g} MB at {row['bandwidth'] / 1e9:.0f} GB/s: "
        f"limit {duration(row['limit'])}"
    )


def _line(row: dict[str, Any]) -> str:
    spread = f"{duration(row['p20'])} .. {duration(row['p80'])}"
    line = f"  {row['provider']:17} {duration(row['median']):>9}  ({spread:>21})"
    if row["ratio"] is not None:
        line += f"  {row['ratio']:8.2f} x fastmlp"
    if row["of_limit"] is not None:
        line += f"  {row['of_limit']:6.1%} of the limit"
    return f"{line}  first call {duration(row['first_call'])}  {row['form']}".rstrip()


def losses(results: Results) -> list[str]:
    """Return a line for each case in which another provider's median ratio to fastmlp is below 1.

    The worst come first; in brackets the 20th and 80th percentiles of the rounds' ratios.
    """
    found = []
    for (operation, shape, dtype, _, _), rows in by_case(results["rows"]).items():
        faster = sorted(
            (row["ratio"], name, row)
            for name, row in rows.items()
            if name in OTHERS and row["ratio"] is not None and row["ratio"] < 1
        )
        named = ", ".join(
            f"{name} {ratio:.2f} ({row['ratio_p20']:.2f} .. {row['ratio_p80']:.2f})"
            for ratio, name, row in faster
        )
        if faster:
            line = f"{operation} {shape} {dtype}, times of fastmlp's: {named}"
            found.append((faster[0][0], line))
    return [line for _, line in sorted(found)]


def exponents(results: Results) -> list[tuple[str, str, float, float]]:
    """Return (curve, provider, exponent, exponent of the last step) of each growing cost.

    The exponent is the slope of a line through log(seconds) against log(value).
    """
    curves: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in results["rows"]:
        if row["series"]:
            points = curves.setdefault((row["series"], row["provider"]), [])
            points.append((row["value"], row["median"]))
    fitted = []
    for (series, provider), points in curves.items():
        if len(points) > 1:
            x, y = np.log(np.array(sorted(points), float)).T
            slope = float(np.polyfit(x, y, 1)[0])
            fitted.append((series, provider, slope, float((y[-1] - y[-2]) / (x[-1] - x[-2]))))
    return fitted


def growth(results: Results) -> list[str]:
    """Return a line for each curve with its exponents, and one for the memory."""
    curves: dict[str, list[str]] = {}
    for series, provider, slope, last in exponents(results):
        curves.setdefault(series, []).append(f"{provider} {slope:.2f} ({last:.2f})")
    lines = [f"{series}: {', '.join(slopes)}" for series, slopes in curves.items()]
    if memory := results["memory"]:
        peaks = ", ".join(f"{row['provider']} {row['peak'] / 1e6:.1f} MB" for row in memory)
        inputs = memory[0]["inputs"] / 1e6
        lines.append(f"memory of an epoch, beside inputs of {inputs:.1f} MB: {peaks}")
    return lines


def markdown(results: Results, pictures: list[str]) -> str:
    """Return the README's part."""
    measured = {row["provider"] for row in results["rows"]}
    names = [name for name in PROVIDERS if name in measured & OTHERS]
    lines = [
        f"Measured on {heading(results)}. Medians of interleaved rounds; beside fastmlp's time, "
        "what fraction of the machine's own limit it reaches; for the others, how many times "
        "fastmlp's time they take.",
        "",
        f"| operation | fastmlp | of limit | {' | '.join(names)} |",
        f"|---|---|---|{'---|' * len(names)}",
    ]
    for (operation, shape, dtype, series, _), rows in by_case(results["rows"]).items():
        if not series:
            cells = [_ratio(rows, name) for name in names]
            lines.append(
                f"| {operation} {shape} {dtype} | {_own(rows)} | {_fraction(rows)} "
                f"| {' | '.join(cells)} |"
            )
    alone = [row for row in results["rows"] if row["provider"] == NUMBA]
    lines += ["", *(f"`{NUMBA}` alone takes {duration(row['median'])}." for row in alone)]
    lines += [
        f"With an empty cache fastmlp's first step comes after {duration(row['first_call'])}: that "
        "compiles the kernels, once for a machine."
        for row in results["rows"]
        if (row["operation"], row["provider"]) == (STARTUP[0], "fastmlp")
    ]
    lines += ["", "**Where fastmlp loses:**", ""]
    lines += [f"- {line}" for line in losses(results)] or ["- nowhere in this run"]
    lines += ["", f"**How cost grows:** {GROWTH}", ""] + [f"- {line}" for line in growth(results)]
    lines += ["", *(f"![{_title(path)}]({path})" for path in pictures)]
    return "\n".join(lines)


def _title(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", " ")


def _own(rows: Rows) -> str:
    return duration(rows["fastmlp"]["median"]) if "fastmlp" in rows else ""


def _fraction(rows: Rows) -> str:
    share = rows["fastmlp"]["of_limit"] if "fastmlp" in rows else None
    return "" if share is None else f"{share:.0%}"


def _ratio(rows: Rows, name: str) -> str:
    ratio = rows[name]["ratio"] if name in rows else None
    return "" if ratio is None else f"{ratio:.2f}"


def with_part(text: str, part: str) -> str:
    """Return `text` with the part between its two markers replaced; ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md: expected the lines {BEGIN} and {END}, got none; add them")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"

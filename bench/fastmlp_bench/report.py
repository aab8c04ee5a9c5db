"""What a run says: the table, where fastmlp loses, how cost grows; the parts of pages."""

from collections.abc import Container, Iterable
from typing import Any

import numpy as np

from .providers import PROVIDERS
from .results import Results, by_case, case_name
from .startup import CASE as STARTUP
from .startup import NUMBA

Rows = dict[str, dict[str, Any]]

OTHERS = {name for name in PROVIDERS if not name.startswith("fastmlp")}

WHAT = (
    "Medians of interleaved rounds. `of limit`: how near fastmlp comes to the machine's own limit, "
    "which counts no products with zeros of x, as they may be passed over. `numpy lean`: plain "
    "NumPy without needless work. "
    "The other columns: how many times fastmlp's time they take."
)
LIMITS = (
    "The most that this run reached: FMAs in registers, and streams through half of each cache. "
    "Beside `of limit` stands which of them binds: FMA, or the level that holds all bytes."
)
GROWTH = (
    "twice the size takes 2^p times the seconds. The first number is p over the whole curve; the "
    "one in brackets is p at its end."
)

# The README's rows and columns; docs/benchmarks.md has all.
ROWS = (
    "predict 1 x 784-100-10 float32",
    "predict 32 x 784-100-10 float32",
    "predict 10000 x 784-100-10 float32",
    "train 60000 x 784-100-10, batch 32 float32",
    "train 60000 x 784-100-10, batch 128 float32",
    "train 60000 x 784-100-10, batch 128 without zeros float32",
    "train 60000 x 784-512-256-10, batch 128 float32",
    "regress 10000 x 16-64-64-1 tanh, batch 64 float32",
    "adam 535818 float32",
    "start-up to the first training step float32",
)
COLUMNS = ("numpy lean", "torch eager", "jax", "scikit-learn", "onnxruntime")

BEGIN = "<!-- written by `fastmlp bench`: begin -->"
END = "<!-- written by `fastmlp bench`: end -->"


def duration(seconds: float) -> str:
    """Return seconds with a unit and three digits."""
    units = (("s", 1.0), ("ms", 1e3), ("us", 1e6))
    unit, factor = next((pair for pair in units if seconds * pair[1] >= 1), units[-1])
    return f"{seconds * factor:#.3g}".rstrip(".") + f" {unit}"


def table(results: Results) -> str:
    """Return a block of lines for each case, the curves' points left out."""
    lines = [heading(results), *limit_table(results)]
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


def limit_table(results: Results) -> list[str]:
    """Return a table of the rates that a run measured for so many threads; none of old results."""
    every = results.get("limits", [])
    lines = ["", LIMITS] if every else []
    for one in every:
        peaks = ", ".join(f"{name} {flops / 1e9:.0f}" for name, flops in one["peak_flops"].items())
        threads = f"{one['threads']} thread{'s' * (one['threads'] > 1)}"
        lines += ["", f"| {threads} | read, GB/s | update, GB/s | FMA, GFLOP/s |"]
        lines += ["|---|---|---|---|"]
        for number, it in enumerate(one["levels"]):
            name = f"{it['level']}, {it['size'] >> 10:,} KiB" if it["size"] else it["level"]
            rates = f"{it['read'] / 1e9:.0f} | {it['update'] / 1e9:.0f}"
            lines.append(f"| {name} | {rates} | {'' if number else peaks} |")
    return lines


def _limit(row: dict[str, Any]) -> str:
    if row["limit"] is None:
        return ""
    binds = f", by {row['binds']}" if row.get("binds") else ""
    return (
        f": {row['flops'] / 1e9:.3g} GFLOP at {row['peak_flops'] / 1e9:.0f} GFLOP/s, "
        f"{row['bytes'] / 1e6:.3g} MB at {row['bandwidth'] / 1e9:.0f} GB/s: "
        f"limit {duration(row['limit'])}{binds}"
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


def short(results: Results, pictures: list[str]) -> str:
    """Return the README's part: its rows of the table, and the picture of the time to accuracy."""
    lines = [f"Measured on {heading(results)}. {WHAT}", "", *_rows_of(results, COLUMNS, ROWS)]
    lines += ["", *(_picture(path) for path in pictures if "accuracy" in path)]
    return "\n".join(lines)


def markdown(results: Results, pictures: list[str]) -> str:
    """Return the part of docs/benchmarks.md."""
    lines = [f"Measured on {heading(results)}. {WHAT}", "", *_rows_of(results, PROVIDERS)]
    lines += limit_table(results)
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
    lines += ["", *map(_picture, pictures)]
    return "\n".join(lines)


def _rows_of(
    results: Results, providers: Iterable[str], wanted: Container[str] | None = None
) -> list[str]:
    """Return a table of the rows wanted, None: all, and of those providers that were measured."""
    measured = {row["provider"] for row in results["rows"]}
    names = [name for name in providers if name in measured & OTHERS]
    lines = [
        f"| operation | fastmlp | of limit | {' | '.join(names)} |",
        f"|---|---|---|{'---|' * len(names)}",
    ]
    for (operation, shape, dtype, series, _), rows in by_case(results["rows"]).items():
        name = case_name(operation, shape, dtype)
        if not series and (wanted is None or name in wanted):
            cells = [_ratio(rows, name) for name in names]
            lines.append(f"| {name} | {_own(rows)} | {_fraction(rows)} | {' | '.join(cells)} |")
    return lines


def _picture(path: str) -> str:
    title = path.rpartition("/")[2].partition(".")[0].replace("-", " ")
    return f"![{title}]({path})"


def _own(rows: Rows) -> str:
    return duration(rows["fastmlp"]["median"]) if "fastmlp" in rows else ""


def _fraction(rows: Rows) -> str:
    own = rows.get("fastmlp")
    if own is None or own["of_limit"] is None:
        return ""
    binds = f", {own['binds']}" if own.get("binds") else ""
    return f"{own['of_limit']:.0%}{binds}"


def _ratio(rows: Rows, name: str) -> str:
    ratio = rows[name]["ratio"] if name in rows else None
    return "" if ratio is None else f"{ratio:.2f}"


def with_part(name: str, text: str, part: str) -> str:
    """Return a page's text with the part between its two markers replaced; ValueError without."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{name}: expected the lines {BEGIN} and {END}, got none; add them")
    return f"{before}{BEGIN}\n{part}\n{END}{after}"

"""A run's results as files: JSON with everything, CSV with a line for each measurement."""

import csv
import io
import json
from pathlib import Path
from typing import Any

Results = dict[str, Any]

COLUMNS = (
    *("operation", "shape", "dtype", "series", "value", "provider", "form", "threads"),
    *("median", "p20", "p80", "ratio", "ratio_p20", "ratio_p80", "first_call"),
    *("flops", "bytes", "limit", "of_limit", "peak_flops", "bandwidth", "binds", "versions", "cpu"),
)


def csv_text(results: Results) -> str:
    """Return the long form: seconds, operations, bytes; ratios are to fastmlp's time."""
    shared = {
        "versions": "; ".join(f"{name} {value}" for name, value in results["versions"].items()),
        "cpu": results["machine"]["cpu"],
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **shared} for row in results["rows"])
    return text.getvalue()


def write(results: Results, folder: Path) -> list[Path]:
    """Write results.json and results.csv; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"results.json": json.dumps(results, indent=1) + "\n", "results.csv": csv_text(results)}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def read(path: Path) -> Results:
    """Return the results of a JSON file."""
    results: Results = json.loads(path.read_text())
    return results


def case_name(operation: str, shape: str, dtype: str) -> str:
    """Return what a case is called: its operation, shape and dtype in one line."""
    return f"{operation} {shape} {dtype}"


def by_case(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, dict[str, Any]]]:
    """Return {(operation, shape, dtype, series, value): {provider: row}}, in the rows' order."""
    cases: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("operation", "shape", "dtype", "series", "value"))
        cases.setdefault(key, {})[row["provider"]] = row
    return cases

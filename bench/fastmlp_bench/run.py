"""A run of the benchmarks, in a process whose environment is the same for every library."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import environment

if TYPE_CHECKING:
    from .cases import Case

RESULTS, PICTURES = Path("bench/results"), Path("docs/pictures")
PAGES = [Path("README.md"), Path("docs/benchmarks.md")]  # some rows, and all of it
# Rounds of the table and of the curves.
ROUNDS = {True: (9, 3), False: (3, 2)}
STARTUP_ROUNDS = {True: 7, False: 2}
EPOCHS = {True: 10, False: 3}
LEFT_OUT_OF_QUICK = {"torch.compile": "left out of the quick form: it compiles; see --full"}


def launch(options: dict[str, Any]) -> int:
    """Start the run in a process of its own, as libraries read their environment when they load."""
    threads = options["threads"] or environment.cores()
    command = [sys.executable, "-m", "fastmlp_bench", json.dumps(options | {"threads": threads})]
    code = subprocess.run(command, env=environment.clean_environment(threads)).returncode
    return code if code >= 0 else 128 - code  # as shells report a signal


def main(options: dict[str, Any]) -> int:
    """Run what the options of `fastmlp bench` ask for; return the exit code."""
    environment.keep_to_cores(options["threads"])
    update, check = options["update_readme"], options["check"]
    try:
        if update:
            _pages_with("", "")
        elif not check:
            Path(options["output"]).mkdir(parents=True, exist_ok=True)
        if check:
            return _check(options)
        results = measure_all(**{key: options[key] for key in ("full", "only", "threads")})
        folders = (RESULTS, PICTURES) if update else (Path(options["output"]),) * 2
        _print(results)
        _write(results, *folders, update)
        if sys.stdout is not None:
            sys.stdout.flush()
    except (ValueError, OSError) as error:
        from fastmlp.startup import tell, write_nothing_more

        write_nothing_more()
        tell(f"fastmlp bench: error: {error}")
        return 2
    except KeyboardInterrupt:
        return 130  # the parent says it
    wrong = [place for place, why in results["failed"].items() if "WrongResultError" in why]
    if wrong:
        print(f"fastmlp bench: error: wrong results: {'; '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def _pages_with(short: str, whole: str) -> dict[Path, str]:
    """Return the texts of the pages that show results, with these parts."""
    from .report import with_part

    if not all(page.is_file() for page in PAGES):
        names = " and ".join(map(str, PAGES))
        raise FileNotFoundError(f"--update-readme: expected {names} here; run it in a checkout")
    parts = zip(PAGES, (short, whole), strict=True)
    return {page: with_part(str(page), page.read_text(), part) for page, part in parts}


def _check(options: dict[str, Any]) -> int:
    from .regressions import lasting
    from .results import case_name, read

    path = RESULTS / "results.json"
    if not path.is_file():
        raise FileNotFoundError(f"expected committed results in {path}, got none; run make bench")

    def measured(names: Collection[str] | None = None) -> dict[str, Any]:
        if names is not None:
            print(f"measuring again: {', '.join(sorted(names))}", file=sys.stderr)
        providers = ("fastmlp", "numpy lean", "numpy notebook")
        return measure_all(
            True, options["only"], options["threads"], providers, names, curves=False
        )

    results, committed = measured(), read(path)
    committed["rows"] = [
        row
        for row in committed["rows"]
        if options["only"] in case_name(row["operation"], row["shape"], row["dtype"])
    ]
    problems = lasting(results, committed, measured)
    print("\n".join(problems) or "no row whose ratios are below 0.85 of the committed ones")
    return 1 if problems else 0


def measure_all(
    full: bool,
    only: str,
    threads: int,
    providers: tuple[str, ...] | None = None,
    names: Collection[str] | None = None,
    curves: bool = True,
) -> dict[str, Any]:
    """Return the results of the table, and of the rest unless cases are picked by their names.

    `only`: a part of the names; `names`: the names themselves.
    """
    from tqdm import tqdm

    from . import cases, populations
    from .measure import measure, missing
    from .providers import PROVIDERS
    from .results import case_name
    from .startup import CASE as STARTUP
    from .startup import measure_startup

    left_out = {} if full or providers else LEFT_OUT_OF_QUICK
    providers = tuple(name for name in providers or PROVIDERS if name not in left_out)

    def wanted(name: str) -> bool:
        return only in name and (names is None or name in names)

    table = cases.FULL + populations.FULL if full else cases.QUICK
    chosen = [case for case in table if wanted(case.name)]
    starts = wanted(case_name(*STARTUP))
    if not chosen and not starts:
        raise ValueError(f"--only: expected part of a row's name, got {only!r}")
    points: list[cases.Case] = []
    if curves and not only:
        points = cases.curves(full, threads) + populations.curve(full)
    table_rounds, curve_rounds = ROUNDS[full]
    total = len(chosen) * table_rounds + len(points) * curve_rounds
    total += (STARTUP_ROUNDS[full] + 3) * starts
    rows: list[dict[str, Any]] = []
    failed: dict[str, str] = {}
    measured = chosen + points
    with tqdm(total=total, unit=" rounds", dynamic_ncols=True, disable=not sys.stderr) as bar:
        advance: Callable[[], Any] = bar.update
        for case in measured:
            bar.set_description(case.series or case.name)
            rounds = curve_rounds if case.series else table_rounds
            rows += measure(case, rounds, threads, failed, advance, providers)
        if starts:
            bar.set_description("start-up")
            rows += measure_startup(full, STARTUP_ROUNDS[full], threads, failed, advance, providers)
        memory, accuracy = _rest(full, failed, bar) if curves and not only else ([], [])
    return {
        "machine": environment.machine(threads),
        "versions": environment.versions(),
        "full": full,
        "missing": missing() | left_out,
        "failed": failed,
        "limits": _limits(measured, threads),
        "rows": rows,
        "memory": memory,
        "accuracy": accuracy,
    }


def _limits(measured: Sequence["Case"], threads: int) -> list[dict[str, Any]]:
    """Return the machine's limits for each number of threads that the cases have."""
    from .limits import measure_limits

    return [
        measure_limits(sorted({case.dtype for case in measured}), count)
        for count in sorted({case.threads or threads for case in measured})
    ]


def _rest(full: bool, failed: dict[str, str], bar: Any) -> tuple[list[Any], list[Any]]:
    from .accuracy import measure_accuracy
    from .memory import measure_memory

    bar.set_description("memory")
    memory = measure_memory(60_000 if full else 20_000, failed)
    bar.set_description("accuracy")
    return memory, measure_accuracy(EPOCHS[full], failed, bar.update)


def _print(results: dict[str, Any]) -> None:
    from .report import GROWTH, growth, losses, table

    print(table(results))
    print("\nwhere fastmlp loses:")
    print("\n".join(f"  {line}" for line in losses(results)) or "  nowhere in this run")
    if lines := growth(results):
        print(f"\nhow cost grows: {GROWTH}")
        print("\n".join(f"  {line}" for line in lines))


def _write(results: dict[str, Any], folder: Path, pictures: Path, update: bool) -> None:
    from .results import write

    paths = write(results, folder)
    try:
        from .plots import draw

        drawn = draw(results, pictures)
    except ImportError:
        print("\nno pictures: pip install 'fastmlp[plot]' for them")
        drawn = []
    if update:
        write_pages(results, [path for path in drawn if path.suffix == ".svg"])
        paths += PAGES
    print("\nwritten:", ", ".join(map(str, paths + drawn)))


def write_pages(results: dict[str, Any], pictures: list[Path]) -> None:
    """Write the results into the pages that show them."""
    from .report import markdown, short

    parts = short, markdown
    seen = [
        [Path(os.path.relpath(path, page.parent)).as_posix() for path in pictures] for page in PAGES
    ]
    texts = _pages_with(*(part(results, paths) for part, paths in zip(parts, seen, strict=True)))
    for page, text in texts.items():
        page.write_text(text)

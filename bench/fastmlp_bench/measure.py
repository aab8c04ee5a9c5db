"""Measure a case: every provider is checked, warmed up and timed beside the machine's limits."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .cases import Case, Error
from .environment import with_threads
from .limits import BY_FMA, level_of, limit_calls, limit_rates
from .providers import PROVIDERS, Array, Call, Provider
from .timing import LONG_SECONDS, interleaved, steady_seconds

Row = dict[str, Any]


class WrongResultError(Exception):
    """A provider computes something else than it is asked for."""


def reason(error: Exception) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {error}".split("\n")[0]


def missing() -> dict[str, str]:
    """Return the providers whose libraries aren't installed, and which these are."""
    absent = {name: provider.missing() for name, provider in PROVIDERS.items()}
    return {name: f"no {', '.join(modules)}" for name, modules in absent.items() if modules}


def measure(
    case: Case,
    rounds: int,
    threads: int,
    failed: dict[str, str],
    done: Callable[[], Any] = lambda: None,
    providers: Iterable[str] = PROVIDERS,
) -> list[Row]:
    """Return a row for each provider that has the operation and is installed.

    What a provider raises, and that its result is wrong, is noted in `failed` by its name and the
    case's; it has no row then.
    """
    threads = case.threads or threads
    with with_threads(threads):
        arguments, error = case.make()
        calls, forms, first = {}, {}, {}
        for name in case.providers or providers:
            provider = PROVIDERS[name]
            if name not in providers or provider.missing() or case.work > provider.most_work:
                continue
            try:
                found = ready(case, provider, arguments, error)
            except Exception as problem:
                failed[f"{name}, {case.name}"] = reason(problem)
                continue
            if found is not None:
                calls[name], forms[name], first[name] = found
        limits, counts = limit_calls(case.dtype, case.bytes, threads)
        for call in limits.values():
            call()  # compiles
        seconds = interleaved(calls | limits, rounds, done)
    peak, bandwidth = limit_rates(seconds, counts)
    by_fma, by_bytes = (case.flops - case.zeros) / peak, case.bytes / bandwidth
    limit = max(by_fma, by_bytes)
    binds = BY_FMA if by_fma >= by_bytes else level_of(case.bytes, threads)
    shared = {
        **{"operation": case.operation, "shape": case.shape, "dtype": case.dtype},
        **{"series": case.series, "value": case.value, "threads": threads},
        **{"flops": case.flops, "bytes": case.bytes, "limit": limit},
        **{"peak_flops": peak, "bandwidth": bandwidth, "binds": binds},
    }
    return [
        {
            **shared,
            **{"provider": name, "form": forms[name], "first_call": first[name]},
            **statistics(seconds[name], seconds.get("fastmlp")),
            "of_limit": limit / float(np.median(seconds[name])),
        }
        for name in calls
    ]


def ready(
    case: Case, provider: Provider, arguments: tuple[Any, ...], error: Error
) -> tuple[Call, str, float] | None:
    """Return a provider's fastest form, its name, and the seconds until its first result.

    None where it doesn't have the operation. Raises WrongResultError, and what the library raises.
    """
    form = provider.form(case.operation)
    start = time.perf_counter()  # importing the library is in the start-up's row
    made = form(*arguments) if form else None
    if made is None:
        return None
    building = time.perf_counter() - start
    best: tuple[Call, str, float] | None = None
    fastest = float("inf")
    forms = made if isinstance(made, dict) else {"": made}
    for variant, call in forms.items():
        start = time.perf_counter()
        result = call()
        first = building + time.perf_counter() - start
        off = error(result)
        if not off < case.tolerance:
            raise WrongResultError(
                f"expected a relative error below {case.tolerance:g}, got {off:.1e} {variant}"
            )
        seconds = steady_seconds(call) if len(forms) > 1 else 0.0
        if 0 < seconds < LONG_SECONDS:
            seconds = min(seconds, steady_seconds(call))
        if seconds < fastest:
            best, fastest = (call, variant, first), seconds
    return best


def statistics(seconds: Array, beside: Array | None) -> dict[str, float | None]:
    """Return median and spread of seconds per call, and of their ratios to fastmlp's by pairs."""
    middle = dict(zip(("p20", "median", "p80"), np.percentile(seconds, (20, 50, 80)), strict=True))
    ratios = (None,) * 3 if beside is None else np.percentile(seconds / beside, (20, 50, 80))
    named = dict(zip(("ratio_p20", "ratio", "ratio_p80"), ratios, strict=True))
    return {key: None if value is None else float(value) for key, value in (middle | named).items()}

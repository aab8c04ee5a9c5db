"""How many threads a process uses by default: the smallest of the limits that it runs under."""

import logging
import math
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .checks import shape_error

VARIABLE = "FASTMLP_NUM_THREADS"

logger = logging.getLogger("fastmlp.threads")


class Limit(NamedTuple):
    """A number of threads, and what says so."""

    threads: int
    name: str


def default_limit() -> Limit:
    """Return the limit that decides here; FASTMLP_NUM_THREADS goes over all others.

    Raises ValueError where that isn't a number of threads that Numba has.
    """
    limit = _of_process()
    if limit.name != VARIABLE:
        nthreads = _dask_threads()
        if nthreads is not None and nthreads < limit.threads:
            return Limit(nthreads, "the Dask worker's nthreads")
    return limit


@cache
def most_threads() -> int:
    """Return Numba's number of threads; where it isn't imported, what it would be."""
    asked = os.environ.get("NUMBA_NUM_THREADS")
    if "numba" not in sys.modules and not os.path.exists(".numba_config.yaml"):
        if asked is None:
            return _cores()
        if asked.isdecimal() and int(asked) > 0:
            return int(asked)
    try:
        import numba
    except ImportError:
        return int(os.environ.get("NUMBA_NUM_THREADS") or _cores())
    most: int = numba.config.NUMBA_NUM_THREADS
    return most


@cache
def _of_process() -> Limit:
    """Return the smallest limit that a process has from its start; of equal ones the first."""
    limit = _smallest()
    logger.debug("threads of a large call: %d, by %s", *limit)
    return limit


def _smallest() -> Limit:
    own, most = os.environ.get(VARIABLE, ""), most_threads()
    if own:
        if not own.isdecimal() or not 1 <= int(own) <= most:
            mend = f"set {VARIABLE}={most}, or NUMBA_NUM_THREADS before the start for more"
            raise shape_error(VARIABLE, f"1 to {most}", own, mend)
        return Limit(int(own), VARIABLE)
    limits = [Limit(_cores(), "the cores that this process may use")]
    quota = cgroup_quota(Path("/"))
    if quota is not None:
        limits.append(Limit(max(1, math.ceil(quota)), "the container's CPU quota"))
    # joblib's workers get their inner limit by these two, too.
    limits.append(Limit(most, "NUMBA_NUM_THREADS"))
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        limits.append(Limit(int(first), "OMP_NUM_THREADS"))
    return min(limits, key=lambda limit: limit.threads)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _dask_threads() -> int | None:
    """Return how many threads the Dask worker has whose task this is; None outside of one."""
    module = sys.modules.get("distributed.worker")
    if module is None:
        return None
    try:
        return int(module.get_worker().state.nthreads)
    except ValueError:
        return None


def cgroup_quota(root: Path) -> float | None:
    """Return how many CPUs' time the control groups of this process get; None: as much as is there.

    The smallest quota of its group and of those above, of version 2 (cpu.max) or 1
    (cpu.cfs_quota_us), see cgroups(7). root: where /proc and /sys are.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas = [quota for line in lines for quota in _quotas(line, root / "sys/fs/cgroup")]
    return min(quotas, default=None)


def _quotas(line: str, mount: Path) -> Iterator[float]:
    """Yield the quotas along a line `number:controllers:/path` of /proc/self/cgroup."""
    _, controllers, path = line.split(":", 2)
    if controllers == "":
        folders = [mount, mount / "unified"]
    elif "cpu" in controllers.split(","):
        folders = [mount / "cpu", mount / controllers]
    else:
        return
    group = PurePosixPath(path.lstrip("/"))
    for folder in folders:
        for place in (group, *group.parents):  # in a container the path may be the host's
            try:
                yield from _quota(folder / place, is_second=controllers == "")
            except (OSError, ValueError):
                continue


def _quota(folder: Path, is_second: bool) -> Iterator[float]:
    if is_second:
        quota, period = (folder / "cpu.max").read_text().split()
    else:
        quota = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
    if quota.strip() != "max" and int(quota) > 0:  # -1: none
        yield int(quota) / int(period)

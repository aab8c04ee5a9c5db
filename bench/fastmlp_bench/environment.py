"""What a run needs before any library loads: its environment, and afterwards the machine's names.

Nothing here imports NumPy at the top: the variables count only for what loads after them.
"""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

# What a shell may set against a library, fastmlp among them.
CLEARED = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "NPY_DISABLE_CPU_FEATURES",
    "XLA_FLAGS",
    "FASTMLP_ARITHMETIC",
    "FASTMLP_VECTOR_BITS",
)
# One number of threads for all; NPROC is what JAX's thread pool goes by.
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",
)
CACHES = "/sys/devices/system/cpu/cpu{}/cache"
COMMON_CACHES = {1: 32 << 10, 2: 1 << 20, 3: 32 << 20}  # where the system doesn't tell
LIBRARIES = ("numpy", "numba", "torch", "jax", "scikit-learn", "onnxruntime")


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads() -> int:
    """Return the number of threads that this process's libraries were told to use."""
    return int(os.environ.get(THREADS[0], cores()))


@cache
def cache_sizes(threads: int) -> dict[str, int]:
    """Return the bytes of all data caches that so many cores have, by level from "level 1" on."""
    ours = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    found: dict[tuple[int, str], int] = {}  # a cache that cores share is one
    for core in ours[:threads]:
        for place in Path(CACHES.format(core)).glob("index*"):
            try:
                kind, level, shared, size = (
                    (place / name).read_text().strip()
                    for name in ("type", "level", "shared_cpu_list", "size")
                )
            except OSError:
                continue
            if kind != "Instruction":
                found[int(level), shared] = int(size.removesuffix("K")) << 10
    totals = {k: size * (threads if k < 3 else 1) for k, size in COMMON_CACHES.items()}
    if found:
        totals = dict.fromkeys(sorted({number for number, _ in found}), 0)
        for (number, _), each in found.items():
            totals[number] += each
    return {f"level {level}": size for level, size in totals.items()}


def clean_environment(threads: int) -> dict[str, str]:
    """Return the environment of a run: nothing against a library, the same threads for all."""
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    return kept | dict.fromkeys(THREADS, str(threads))


def keep_to_cores(count: int) -> None:
    """Keep this process to `count` cores, where the system can: it binds every library."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """Every library that can change it at run time uses `count` threads in the block."""
    import fastmlp

    before = fastmlp.get_num_threads()
    torch: Any = sys.modules.get("torch")
    before_torch = torch.get_num_threads() if torch else None
    with ExitStack() as stack:
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            pass
        else:
            stack.enter_context(threadpool_limits(count))
        fastmlp.set_num_threads(count)
        if torch:
            torch.set_num_threads(count)
        try:
            yield
        finally:
            fastmlp.set_num_threads(before)
            if torch:
                torch.set_num_threads(before_torch)


def versions() -> dict[str, str]:
    """Return the versions of Python, fastmlp and the libraries that are installed."""
    import fastmlp

    found = {"python": platform.python_version(), "fastmlp": fastmlp.__version__}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine(threads: int) -> dict[str, Any]:
    """Return what identifies the machine: CPU, cores, threads used, vectors, system, pools."""
    from fastmlp_kernels.compiling.cpu import cpu_name, vector_bits

    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "vector_bits": vector_bits(),
        "system": f"{platform.system()} {platform.machine()}",
        "pools": _pools(),
    }


def _pools() -> list[str]:
    """Return every thread pool that threadpoolctl finds in this process, with its threads."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    return sorted({f"{pool['internal_api']}: {pool['num_threads']}" for pool in threadpool_info()})

"""Peak memory of a training epoch, beside the bytes of its inputs: each in a process of its own.

`python -m fastmlp_bench.memory PROVIDER SAMPLES` is one such process; it prints both numbers.
"""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .environment import threads, with_threads
from .providers import PROVIDERS

SIZES, BATCH = (784, 100, 10), 128


def peak_bytes() -> int:
    """Return the most memory this process has had, in bytes."""
    if sys.platform == "linux":  # there, getrusage has the parent's peak, too
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def epoch(name: str, samples: int) -> tuple[int, int]:
    """Train an epoch; return the bytes of the inputs, and the bytes that came on top of them.

    The libraries are loaded, and an epoch of few samples has run, before it counts.
    """
    random = np.random.default_rng(0)
    parameters = [
        random.standard_normal((rows + 1, columns), np.float32) * np.float32(0.05)
        for rows, columns in pairwise(SIZES)
    ]
    form: Any = PROVIDERS[name].form("train")

    def train(count: int) -> int:
        x = random.random((count, SIZES[0]), np.float32)
        y = random.integers(0, SIZES[-1], count)
        before = peak_bytes()
        made = form(x, y, parameters, BATCH, 0.01)
        call = next(iter(made.values())) if isinstance(made, dict) else made
        call()
        return peak_bytes() - before

    train(2 * BATCH)
    return samples * (SIZES[0] * 4 + 8), train(samples)


def measure_memory(samples: int, failed: dict[str, str]) -> list[dict[str, Any]]:
    """Return the bytes of inputs and of the peak above them for each provider that trains."""
    if sys.platform not in ("linux", "darwin"):  # no such count
        return []
    rows = []
    for name, provider in PROVIDERS.items():
        if provider.missing() or not provider.trains:
            continue
        if name in ("numpy notebook", "torch.compile"):  # it trains on whole batches; it compiles
            continue
        command = [sys.executable, "-m", "fastmlp_bench.memory", name, str(samples)]
        try:
            output = subprocess.run(command, check=True, capture_output=True).stdout
        except subprocess.CalledProcessError as error:
            failed[f"{name}, memory"] = error.stderr.decode().strip().split("\n")[-1]
            continue
        inputs, peak = json.loads(output.decode().strip().split("\n")[-1])
        rows.append({"provider": name, "samples": samples, "inputs": inputs, "peak": peak})
    return rows


if __name__ == "__main__":
    with with_threads(threads()):  # so that fastmlp, too, has loaded what it needs for threads
        print(json.dumps(epoch(sys.argv[1], int(sys.argv[2]))))

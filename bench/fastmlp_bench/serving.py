"""A model under load: calls from Python threads, and a web service, beside onnxruntime's.

    python -m fastmlp_bench.serving

It prints the tables of docs/serving.md. The service is examples/serve.py (`fastmlp[serve]`), its
client runs on the same machine.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import fastmlp

from .providers import Array

SIZES = (784, 100, 10)
SECONDS = 2.0
CONNECTIONS = 4
EXAMPLES = Path(__file__).parents[2] / "examples"


def sessions(model: fastmlp.MLP) -> dict[str, Callable[[Array], Any]]:
    """Return predict_proba by name."""
    calls: dict[str, Callable[[Array], Any]] = {"fastmlp": model.predict_proba}
    if find_spec("onnxruntime") and find_spec("onnx"):
        import onnxruntime
        from onnx import helper

        from .providers.onnx_runtime import graph

        softmax = helper.make_node("Softmax", ["z"], ["result"], axis=1)
        session = onnxruntime.InferenceSession(
            graph("rows", model.parameters, softmax).SerializeToString()
        )
        calls["onnxruntime"] = lambda x: session.run(None, {"x": x})
    return calls


def latencies(call: Callable[[], Any], threads: int) -> tuple[Array, float]:
    """Return the seconds of each call that so many threads make, and how many calls a second."""
    start, seconds = threading.Barrier(threads), [list[float]() for _ in range(threads)]

    def work(mine: list[float]) -> None:
        start.wait()
        now = time.perf_counter()
        end = now + SECONDS
        while now < end:
            before = now
            call()
            now = time.perf_counter()
            mine.append(now - before)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, seconds))
    each = np.concatenate(seconds)
    return each, len(each) / SECONDS


def row(name: str, what: str, call: Callable[[], Any], threads: int) -> None:
    """Measure, and print a line of a table."""
    call()
    each, rate = latencies(call, threads)
    p50, p99 = np.percentile(each, (50, 99)) * 1e6
    print(f"| {name} | {what} | {threads} | {rate:,.0f} | {p50:,.0f} | {p99:,.0f} |", flush=True)


@contextmanager
def service(app: str, model: str) -> Iterator[httpx.Client]:
    """Start a service that has this model; give a client of it."""
    command = [sys.executable, "-m", "uvicorn", "--port", "0", "--log-level", "info", app]
    paths = os.pathsep.join([str(EXAMPLES), *sys.path])
    with subprocess.Popen(
        [*command, "--no-access-log"], env=os.environ | {"PYTHONPATH": paths, "MODEL": model},
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if address := re.search(r"running on (http://[\d.:]+)", line):
                    with httpx.Client(base_url=address[1], timeout=60) as client:
                        yield client
                    return
            raise RuntimeError("".join(lines))
        finally:
            process.terminate()


def request(client: httpx.Client, body: object) -> None:
    """Ask the service for a prediction."""
    client.post("/predict", json=body).raise_for_status()


def main() -> None:
    """Print both tables."""
    model = fastmlp.MLP(SIZES, rng=0)
    x = np.random.default_rng(0).random((1000, SIZES[0]), np.float32)
    print("| predict_proba | rows | threads | calls / s | 50% us | 99% us |")
    for rows in (1, 32, 1000):
        for name, call in sessions(model).items():
            for threads in (1, 2, 4):
                row(name, f"{rows:,}", partial(call, x[:rows]), threads)
    print("\n| service | rows | connections | requests / s | 50% us | 99% us |")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        model.save(path)
        apps = {"fastmlp": "serve:app", "onnxruntime": "fastmlp_bench.serve_onnxruntime:app"}
        for name in sessions(model):
            with service(apps[name], path) as client:
                for rows in (1, 32):
                    body = {"rows": np.round(x[:rows].astype(float), 4).tolist()}
                    for threads in (1, CONNECTIONS):
                        row(name, f"{rows:,}", partial(request, client, body), threads)


if __name__ == "__main__":
    main()

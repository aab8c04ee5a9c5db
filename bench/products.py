"""The table of products and predictions: every provider, the FMA peak of the same run beside it.

    python bench/products.py [--rounds 15] [--only layer]

prints medians of interleaved rounds, each provider's time over fastmlp's round by round, and the
fraction of the FMA peak. A library that isn't installed is left out and named.
"""

import argparse

import providers  # isort: skip  (before NumPy: it clears what a shell sets against it)
import numpy as np
from fastmlp_kernels import peak
from timing import interleaved

import fastmlp

PEAK_FLOPS = 1e10  # about 20 ms of two cores: long enough to hold no start of threads


def peak_call(dtype, num_threads):
    """A call that does nothing but FMAs in registers, and how many operations these are."""
    totals = np.full(num_threads, 0.5, dtype)
    steps = max(1000, round(PEAK_FLOPS / (num_threads * peak.flops(totals.itemsize, 1))))

    def call():
        totals[:] = 0.5
        peak.run_chains[totals.dtype](totals, steps, num_threads)

    return call, num_threads * peak.flops(totals.itemsize, steps)


def layer_calls(dtype, M, K, N):
    random = np.random.default_rng(0)
    x = random.random((M, K)).astype(dtype)
    W = (random.standard_normal((K, N)) / np.sqrt(K)).astype(dtype)
    b = random.standard_normal(N).astype(dtype)
    return make(providers.LAYER, dtype, x, W, b), 2 * M * (K + 1) * N


def gradient_calls(dtype, M, K, N):
    """x^T @ grad_y: x (M, K) is read across its rows."""
    random = np.random.default_rng(0)
    x = random.random((M, K)).astype(dtype)
    grad_y = random.standard_normal((M, N)).astype(dtype)
    return make(providers.MATMUL, dtype, x.T, grad_y), 2 * M * K * N


def matmul_calls(dtype, M, K, N):
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape).astype(dtype) for shape in ((M, K), (K, N)))
    return make(providers.MATMUL, dtype, a, b), 2 * M * K * N


def predict_calls(dtype, samples, *sizes):
    """The classes of a batch, from Python: MLP.predict and its like."""
    model = fastmlp.MLP(sizes, dtype=dtype, rng=0)
    x = np.random.default_rng(0).random((samples, sizes[0])).astype(dtype)
    flops = sum(2 * samples * W.size for W in model.parameters)
    return make(providers.PREDICT, dtype, x, model), flops


def make(table, dtype, *arrays):
    calls = {}
    for name, (module, function) in table.items():
        if not providers.installed(module):
            print(f"{name} isn't installed: left out")
        elif not (name == "torch oneDNN" and dtype == np.float64):  # it has float32 only
            calls[name] = function(*arrays)
    check(calls)
    return calls


def check(calls):
    """Every provider's result is near fastmlp's before anything is timed."""
    expected = np.asarray(calls["fastmlp"]())
    scale = np.abs(expected).max()
    for name, call in calls.items():
        error = np.abs(np.asarray(call()) - expected).max() / scale
        if not error < 1e-4:
            raise SystemExit(f"{name} computes something else: relative error {error:.1e}")


ROWS = [
    ("layer", layer_calls, np.float32, (60_000, 784, 100)),
    ("layer", layer_calls, np.float64, (60_000, 784, 100)),
    ("layer", layer_calls, np.float32, (128, 784, 100)),
    ("layer", layer_calls, np.float32, (32, 784, 512)),
    ("x^T @ grad_y", gradient_calls, np.float32, (60_000, 784, 100)),
    ("x^T @ grad_y", gradient_calls, np.float64, (60_000, 784, 100)),
    ("x @ W", matmul_calls, np.float32, (1024, 1024, 1024)),
    ("predict", predict_calls, np.float32, (1, 784, 100, 10)),
    ("predict", predict_calls, np.float32, (32, 784, 100, 10)),
    ("predict", predict_calls, np.float32, (10_000, 784, 100, 10)),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default 15)")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    num_threads = fastmlp.get_num_threads()
    for name, calls_for, dtype, shape in ROWS:
        if options.only not in name:
            continue
        calls, flops = calls_for(dtype, *shape)
        run_peak, peak_flops = peak_call(dtype, num_threads)
        seconds = interleaved(calls | {"FMA peak": run_peak}, options.rounds)
        rate = peak_flops / np.median(seconds.pop("FMA peak"))
        print(
            f"\n{name} {'x'.join(map(str, shape))} {dtype.__name__}, {num_threads} threads, "
            f"{flops / 1e9:.3g} GFLOP; FMA peak {rate / 1e9:.0f} GFLOP/s"
        )
        for provider, values in seconds.items():
            median = np.median(values)
            ratio = np.median(values / seconds["fastmlp"])
            print(
                f"  {provider:14} {median * 1e3:9.4f} ms (best {values.min() * 1e3:.4f})"
                f"  {ratio:5.2f} x fastmlp  {flops / median / rate:5.1%} of peak"
            )


if __name__ == "__main__":
    main()

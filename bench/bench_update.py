"""sgd, momentum and Adam on the 535,818 parameters of a 784-512-256-10 network, against NumPy.

`extra_info` has the bytes read and written in one call, and the rate at the shortest call.
"""

import numpy as np
import pytest

import fastmlp
from fastmlp import reference

SHAPES = [(784, 512), (512,), (512, 256), (256,), (256, 10), (10,)]
# Arrays each update reads and writes, of the size of the parameters.
PASSES = {"sgd": 3, "momentum": 5, "adam": 7}
CONSTANTS = {"sgd": (1e-9,), "momentum": (1e-9, 0.9), "adam": (1, 1e-9)}


def _lists(kind, dtype, layout):
    generator = np.random.default_rng(0)
    lists = [
        [generator.random(shape, dtype) for shape in SHAPES]
        for _ in range(2 + PASSES[kind] // 2 - 1)
    ]
    if layout == "flat":
        return [[np.concatenate([array.ravel() for array in arrays])] for arrays in lists]
    return lists


@pytest.mark.parametrize("provider", [fastmlp, reference], ids=["fastmlp", "numpy"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", ["six arrays", "flat"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", PASSES)
def test_update(benchmark, kind, dtype, layout, threads, provider):
    if provider is reference and threads != 1:
        pytest.skip("NumPy updates on one thread")
    lists = _lists(kind, dtype, layout)
    moved = PASSES[kind] * sum(array.nbytes for array in lists[0])
    update = getattr(provider, kind)
    before = fastmlp.get_num_threads()
    fastmlp.set_num_threads(threads)
    try:
        benchmark(update, *lists, *CONSTANTS[kind])
    finally:
        fastmlp.set_num_threads(before)
    benchmark.extra_info["bytes"] = moved
    benchmark.extra_info["gigabytes_per_second"] = moved / benchmark.stats.stats.min / 1e9

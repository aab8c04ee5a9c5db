"""Settings of all tests, made before Numba is imported, and the fixture that varies the threads."""

import os

# More threads than one-core machines have: results must not depend on their number.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(3, os.cpu_count() or 1)))
# All of them by default: what a container or a machine of one core allows is no part of the tests.
os.environ.setdefault("FASTMLP_NUM_THREADS", os.environ["NUMBA_NUM_THREADS"])

import numpy as np
import pytest
from helpers import with_threads

import fastmlp


@pytest.fixture(params=[1, 2, 3], ids=["1 thread", "2 threads", "3 threads"])
def threads(request):
    with with_threads(request.param):
        yield request.param


@pytest.fixture
def small_mnist(tmp_path):
    """A folder of MNIST's format with the first images of the embedded set."""
    (x, y), (x_test, y_test) = fastmlp.mnist_dataset()
    for images, labels, name in ((x[:600], y[:600], "train"), (x_test[:100], y_test[:100], "t10k")):
        pixels = np.round(images * 255).astype(np.uint8)
        header = bytes((0, 0, 8, 3)) + np.array(pixels.shape, ">u4").tobytes()
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = bytes((0, 0, 8, 1)) + np.array(labels.shape, ">u4").tobytes()
        digits = labels.astype(np.uint8).tobytes()
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(header + digits)
    return tmp_path

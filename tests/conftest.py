"""Settings of all tests, made before Numba is imported, and the fixture that varies the threads."""

import os

# More threads than one-core machines have: results must not depend on their number.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(3, os.cpu_count() or 1)))

import pytest
from helpers import with_threads


@pytest.fixture(params=[1, 2, 3], ids=["1 thread", "2 threads", "3 threads"])
def threads(request):
    with with_threads(request.param):
        yield request.param

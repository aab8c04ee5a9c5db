"""Before any library loads: nothing a shell sets against one, the same threads for all."""

import os
import warnings

from fastmlp_bench import environment

_clean = environment.clean_environment(environment.cores())
for _name in set(os.environ) - set(_clean):
    del os.environ[_name]
os.environ.update(_clean)

import pytest
from fastmlp_bench.measure import ready
from fastmlp_bench.providers import PROVIDERS


@pytest.fixture(params=PROVIDERS)
def run(request, benchmark):
    """A function that checks and times a case with each provider of the table."""
    name = request.param

    def run(case):
        provider = PROVIDERS[name]
        if missing := provider.missing():
            pytest.skip(f"{name}: no {', '.join(missing)}")
        if case.work > provider.most_work:
            pytest.skip(f"{name}: too slow for this one")
        found = ready(case, provider, *case.make())
        if found is None:
            pytest.skip(f"{name} doesn't have it")
        call, form, first = found
        benchmark.extra_info |= {"flops": case.flops, "bytes": case.bytes}
        benchmark.extra_info |= {"form": form, "first_call": first}
        benchmark(call)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        yield run

"""`fastmlp plan`: how a training would be planned, as a table."""

import time
from itertools import pairwise

import numpy as np
from fastmlp_kernels.compiling.cpu import vector_bits
from fastmlp_kernels.plans.record import CONSTANTS_EACH

from ..model.addresses import this_machine
from ..model.epochs import Steps, describe, pays_to_skip
from ..plan.show import summary
from ..plan.step import plan_training
from ..threads import threads_for

INPUTS_THAT_ARE_ZERO = 5  # with --zeros, all but one of so many


def show_plan(
    sizes: tuple[int, ...],
    *,
    samples: int = 60000,
    batch_size: int = 128,
    optimizer: str = "adam",
    dtype: str = "float32",
    zeros: bool = False,
) -> None:
    """Print the plan of an epoch of shuffled samples, and how long it took to make.

    zeros: the inputs are zeros for the most part, as in images.
    """
    row = np.ones(sizes[0], dtype)
    if zeros:
        row[np.arange(sizes[0]) % INPUTS_THAT_ARE_ZERO != 0] = 0
    x = np.broadcast_to(row, (samples, sizes[0]))
    bias = (True,) * (len(sizes) - 1)
    constants = np.zeros((-(-samples // batch_size), CONSTANTS_EACH))
    steps = Steps(sizes, bias, optimizer, constants, batch_size, optimizer == "sgd", ())
    weights = sum((rows + 1) * columns for rows, columns in pairwise(sizes))
    threads = threads_for(min(batch_size, samples) * weights, len(constants))
    passes = vector_bits() != 0, pays_to_skip(x, sizes)
    start = time.perf_counter()
    plan = plan_training(describe(x, samples, True, steps, threads, passes), this_machine())
    milliseconds = 1e3 * (time.perf_counter() - start)
    name = "-".join(map(str, sizes))
    print(
        f"{name}, {dtype}, {optimizer}: {samples} samples in batches of {batch_size}, {threads} "
        f"thread{'s' if threads > 1 else ''}; planned in {milliseconds:.1f} ms"
    )
    print(summary(plan, x.itemsize, this_machine().lanes(x.itemsize)))

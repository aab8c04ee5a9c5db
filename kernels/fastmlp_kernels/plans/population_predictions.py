"""What many models of one kind say of the same samples: each thread takes a model, then the next.

result[m] = what a plan of predictions gives for model m's parameters and x (N, inputs); see
`predict` in execute.py. Each model is one thread's.
"""

import numpy as np
from numba.core import types

from fastmlp_kernels.compiling.jit import integer, kernel, packed, result
from fastmlp_kernels.plans.execute import drive, set_arrays, set_rows
from fastmlp_kernels.plans.memory import add_one, address, aligned, copy, fields_at, keep_alive
from fastmlp_kernels.plans.operands import set_word, word
from fastmlp_kernels.plans.parallel import SharedKernel, on_threads
from fastmlp_kernels.plans.record import (
    BLOCK_ROWS,
    FAILED,
    LINE,
    NEGATIVE,
    OWN_PLACE,
    SHARED_WORDS,
)

FIELDS = 12


def _predict(_):
    def predict_models(data, _, thread):
        """Take models until none is left."""
        (
            _, next_one, words, x, rows, parameters, count, results, size, found, memory, each,
        ) = fields_at(data, FIELDS)  # fmt: skip
        shared = memory + thread * each
        number = add_one(next_one)
        while number < count:
            copy(shared, words, SHARED_WORDS * 8)
            set_rows(shared, rows, BLOCK_ROWS, shared + SHARED_WORDS * 8)
            y = results + number * size
            set_arrays(shared, x, word(parameters, number), y, y, y)
            drive(shared, word(shared, OWN_PLACE))
            told = 2 * word(shared, FAILED) + 4 * word(shared, NEGATIVE)
            set_word(found, number, 1 + told)
            number = add_one(next_one)
        add_one(data)

    return predict_models


@kernel(
    lambda real: (
        integer, packed(integer, 1), packed(real, 2), packed(integer, 1), result(types.uint8, 2),
        result(integer, 1), integer, integer,
    )
)  # fmt: skip
def run(code, words, x, parameters, results, found, each, num_threads):
    """Write results (models, bytes) and found (models,), what `predict` tells of each.

    words: a plan's, of one thread and so many rows; parameters: addresses; each: the bytes of a
    thread's memory.
    """
    next_one, memory = np.zeros(LINE // 8, np.int64), np.empty(num_threads * each + LINE, np.uint8)
    fields = (
        np.int64(0), address(next_one), address(words), address(x), x.shape[0],
        address(parameters), parameters.size, address(results), results.shape[1], address(found),
        aligned(memory), each,
    )  # fmt: skip
    on_threads(code, fields, num_threads)
    keep_alive(next_one), keep_alive(memory), keep_alive(words), keep_alive(x)
    keep_alive(parameters), keep_alive(results), keep_alive(found)


predict = SharedKernel(_predict, run)  # predict[dtype](words, x, ..., each, num_threads)

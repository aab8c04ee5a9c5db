"""The machine's own limits, for benches: the rate of FMAs in registers, and that of memory.

Nothing but fma(x, y, total) on as many independent accumulators as hide its latency (4 or 5 cycles
on two units): no loads, no stores. What it reaches is the most that any product can. The streams do
nothing but read, or read and write, memory of any size: of a cache or of the main memory.
"""

from llvmlite import ir
from numba import prange
from numba.core import cgutils
from numba.extending import intrinsic

from fastmlp_kernels.compiling.emitter import VECTOR_BITS, emit_fma
from fastmlp_kernels.compiling.jit import integer, jit, kernel, packed, result, share
from fastmlp_kernels.update import sgd_array

ACCUMULATORS = 12


@intrinsic
def _fma_chains(typing_context, real, steps):
    """Run ACCUMULATORS vector chains of `steps` FMAs; return one lane of their sum."""

    def codegen(context, builder, signature, values):
        start, count = values
        lanes = max(1, VECTOR_BITS // real.bitwidth)
        vector = ir.VectorType(start.type, lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(undefined, start, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        factor = builder.shuffle_vector(first, undefined, zeros)
        slots = [cgutils.alloca_once_value(builder, factor) for _ in range(ACCUMULATORS)]
        with cgutils.for_range(builder, count):
            for slot in slots:
                builder.store(emit_fma(builder, factor, factor, builder.load(slot)), slot)
        total = builder.load(slots[0])
        for slot in slots[1:]:
            total = builder.fadd(total, builder.load(slot))
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return real(real, steps), codegen


def flops(itemsize, steps):
    """The floating-point operations of one thread's chains."""
    return 2 * ACCUMULATORS * max(1, VECTOR_BITS // 8 // itemsize) * steps


@kernel(lambda real: (result(real, 1), integer, integer), parallel=True)
def run_chains(totals, steps, num_threads):
    """`steps` FMAs in each chain of each thread; totals (num_threads,) keeps their results."""
    for thread in prange(num_threads):
        totals[thread] = _fma_chains(totals[thread], steps)


@jit
def _sum_of_words(words, passes):
    total = 0
    for _ in range(passes):
        for i in range(words.size):  # integers: LLVM may add them in any order, so in vectors
            total += words[i]
    return total


@kernel(lambda word: (packed(word, 1), result(word, 1), integer, integer), parallel=True)
def read_stream(words, totals, passes, num_threads):
    """Read int64 `words` `passes` times, each thread its share; totals keeps the threads' sums."""
    for thread in prange(num_threads):
        part = words[share(words.size, thread, num_threads)]
        totals[thread] = _sum_of_words(part, passes)


@jit
def _update_passes(p, g, passes):
    for _ in range(passes):
        sgd_array(p, g, p.dtype.type(1e-9))


@kernel(lambda real: (result(real, 1), packed(real, 1), integer, integer), parallel=True)
def update_stream(p, g, passes, num_threads):
    """p = p - 1e-9 * g, `passes` times: two read, one written, each thread its share."""
    for thread in prange(num_threads):
        part = share(p.size, thread, num_threads)
        _update_passes(p[part], g[part], passes)

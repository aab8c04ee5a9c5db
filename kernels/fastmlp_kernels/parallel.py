"""Compiled C functions by address, and the one parallel loop they share.

A parallel function takes Numba a second to compile; here it is one, whatever it calls.
"""

from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastmlp_kernels.jit import integer, jit, parallel_jit


@intrinsic
def call(typing_context, function, *arguments):
    """Call the C function at the address `function`, which returns nothing."""

    def codegen(context, builder, signature, values):
        passed = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), passed)
        return context.get_dummy_value()

    return types.void(function, types.StarArgTuple(arguments)), codegen


@parallel_jit(integer, integer, integer, integer)
def _call_on_threads(function, data, stage, num_threads):
    for thread in prange(num_threads):
        call(function, data, stage, thread)


@jit
def call_on_threads(function, data, stage, num_threads):
    """Call function(data, stage, thread) for each thread below `num_threads`; serial if it is 1."""
    if num_threads == 1:
        call(function, data, stage, 0)
    else:
        _call_on_threads(function, data, stage, num_threads)

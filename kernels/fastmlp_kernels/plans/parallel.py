"""Compiled C functions by address, and the one parallel loop they share.

A parallel function takes Numba a second to compile; here it is one, whatever it calls.
"""

from functools import partial

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.ufunc.parallel import _launch_threads

from fastmlp_kernels.arithmetic.float_mode import in_ieee_mode
from fastmlp_kernels.compiling.jit import address_of, jit, parallel_jit
from fastmlp_kernels.plans.memory import load, on_stack

# Of the C functions that threads call: the address of data, the stage, the thread's number.
STAGE = (types.CPointer(types.int64), types.int64, types.int64)


@intrinsic
def call(typing_context, function, *arguments):
    """Call the C function at the address `function`, which returns nothing."""

    def codegen(context, builder, signature, values):
        passed = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in passed])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), passed)
        return context.get_dummy_value()

    return types.void(function, types.StarArgTuple(arguments)), codegen


@in_ieee_mode
def call_stage(function, data, stage, thread):
    """Call function(address of data, stage, thread) on this thread."""
    call(function, data, stage, thread)


@parallel_jit
def _call_on_threads(function, data, stage, num_threads):
    for thread in prange(num_threads):
        call_stage(function, data, stage, np.int64(thread))


def _start(function, data, stage, num_threads):
    _call_on_threads(function, data, stage, num_threads)


def starter():
    """The address of what calls a C function on threads, as `run_team` needs it."""
    _launch_threads()  # whose symbols the code calls
    return address_of(_start, (types.int64,) * 4)


@jit
def run_team(function, data, num_threads, start):
    """Call function(data, 0, number) on each thread; serial if there is one. start: `starter`."""
    if num_threads == 1:
        call_stage(function, data, np.int64(0), np.int64(0))
    else:
        call(start, function, data, np.int64(0), num_threads)


@jit
def on_threads(function, fields, num_threads):
    """Call function(address of the fields, 0, thread) on each thread; serial if there is one.

    fields: a tuple of int64, of which the first is 0. Each thread adds 1 to that when it has
    finished; where one finds no memory, this raises MemoryError.
    """
    data = on_stack(fields)
    if num_threads == 1:
        call_stage(function, data, np.int64(0), np.int64(0))
    else:
        _call_on_threads(function, data, np.int64(0), num_threads)
    check_room(data, num_threads)


@jit
def check_room(data, num_threads):
    """Raise MemoryError unless all threads have finished."""
    if load(np.int64(0), data, 0) != num_threads:
        raise MemoryError(
            "expected room for the threads' scratch, got none; use smaller batches"
        )


class SharedKernel(dict):
    """kernel[dtype](...) is run[dtype](address of function(zero), ...), a kernel on all threads."""

    def __init__(self, function, run):
        super().__init__()
        self.function, self.run = function, run

    def __missing__(self, dtype):
        code = address_of(self.function(dtype.type(0)), STAGE)
        self[dtype] = partial(self.run[dtype], code)
        return self[dtype]

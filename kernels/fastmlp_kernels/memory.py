"""Memory by address, for kernels that read any strides or share work between threads."""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastmlp_kernels.jit import jit


@intrinsic
def load(typing_context, zero, address, index):
    """The element number `index` from `address` on, of the dtype of `zero`."""

    def codegen(context, builder, signature, values):
        kind = context.get_value_type(signature.return_type)
        base = builder.inttoptr(values[1], kind.as_pointer())
        element = builder.load(builder.gep(base, [values[2]]))
        element.align = 1
        return element

    return zero(zero, address, index), codegen


@intrinsic
def store(typing_context, value, address, index):
    """Write `value` as element number `index` from `address` on."""

    def codegen(context, builder, signature, values):
        base = builder.inttoptr(values[1], values[0].type.as_pointer())
        builder.store(values[0], builder.gep(base, [values[2]])).align = 1
        return context.get_dummy_value()

    return types.void(value, address, index), codegen


@intrinsic
def _fetch_add(typing_context, address):
    def codegen(context, builder, signature, values):
        place = builder.inttoptr(values[0], values[0].type.as_pointer())
        one = ir.Constant(values[0].type, 1)
        return builder.atomic_rmw("add", place, one, "monotonic")

    return address(address), codegen


@jit
def next_task(counter):
    """Take the next number from the int64 at the address `counter`; no two threads get the same."""
    return _fetch_add(counter)


@jit
def address(array):
    """Where the array's memory starts."""
    return np.int64(array.ctypes.data)


@intrinsic
def keep_alive(typing_context, array):
    """A last use of `array`: without one, Numba frees it while only its address is in use."""

    def codegen(context, builder, signature, values):
        return context.get_dummy_value()

    return types.void(array), codegen


@jit
def aligned(buffer):
    """The first address in `buffer` that starts a cache line (it must have 64 bytes to spare)."""
    return (address(buffer) + 63) // 64 * 64

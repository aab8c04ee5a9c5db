"""How kernels read a plan: its records by the names of their fields, its operands as addresses."""

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastmlp_kernels.compiling.jit import jit
from fastmlp_kernels.compiling.passed import PASSED_WORDS
from fastmlp_kernels.plans import record
from fastmlp_kernels.plans.record import OFFSET_BITS, OWN

KERNEL = (types.int64, types.int64, types.int64)  # addresses: a row, what is shared, what is own

_INT = ir.IntType(64)


def record_at(names):
    """Make f(address): the record there, which has these fields."""

    @intrinsic
    def at(typing_context, address):
        # Made here, as a kernel that is loaded needs none: all took some 20 ms of each start.
        kind = numba.from_dtype(np.dtype([(name, np.int64) for name in names]))

        def codegen(context, builder, signature, values):
            return builder.inttoptr(values[0], context.get_value_type(kind))

        return kind(address), codegen

    return at


argument_at = record_at(record.ARGUMENT_FIELDS)
task_at = record_at(record.TASK_FIELDS)
own_at = record_at(record.OWN_FIELDS)
panel_at = record_at(record.PANEL_FIELDS)
tile_at = record_at(record.TILE_FIELDS)
operation_at = {name: record_at(fields) for name, fields in record.FIELDS.items()}


def _emit_place(builder, operand, by, shared, own):
    """The address of an operand, `by` bytes further unless it is the thread's own."""
    base = builder.lshr(operand, _INT(OFFSET_BITS))
    offset = builder.and_(operand, _INT((1 << OFFSET_BITS) - 1))
    at = builder.inttoptr(builder.add(shared, builder.shl(base, _INT(3))), _INT.as_pointer())
    elsewhere = builder.add(builder.load(at), by)
    is_own = builder.icmp_signed("==", base, _INT(OWN))
    place = builder.add(builder.select(is_own, own, elsewhere), offset)
    is_none = builder.icmp_signed("==", operand, _INT(0))
    return builder.select(is_none, _INT(0), place)


@intrinsic
def place(typing_context, operand, shared, own):
    """The address of an operand; 0 for none."""

    def codegen(context, builder, signature, values):
        return _emit_place(builder, values[0], _INT(0), *values[1:])

    return types.int64(types.int64, types.int64, types.int64), codegen


@intrinsic
def moved(typing_context, operand, by, shared, own):
    """The same for a task's rows, so many bytes behind the first; own memory has no others."""

    def codegen(context, builder, signature, values):
        return _emit_place(builder, *values)

    return types.int64(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def word(typing_context, base, number):
    """The int64 number `number` from an address on."""

    def codegen(context, builder, signature, values):
        pointer = builder.inttoptr(values[0], _INT.as_pointer())
        return builder.load(builder.gep(pointer, [values[1]]))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def set_word(typing_context, base, number, value):
    """Write the int64 number `number` from an address on."""

    def codegen(context, builder, signature, values):
        pointer = builder.inttoptr(values[0], _INT.as_pointer())
        builder.store(values[2], builder.gep(pointer, [values[1]]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@jit
def passed(call, number, which):
    """A word of the argument `number`, from 1 on, that was passed to a C function: see call.py."""
    return word(call, 1 + number * PASSED_WORDS + which)

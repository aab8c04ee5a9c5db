"""NumPy's interface in C: what is written down of an array, as LLVM reads it. No Numba here."""

import struct

from llvmlite import ir

BYTE, NUMBER, SIZE = ir.IntType(8), ir.IntType(32), ir.IntType(8 * struct.calcsize("P"))
POINTER, SIZES = BYTE.as_pointer(), SIZE.as_pointer()


def _struct(*fields: ir.Type) -> ir.Type:
    """A struct: what all Python objects begin with, then these fields."""
    return ir.LiteralStructType([ir.ArrayType(BYTE, object.__basicsize__), *fields])


# PyArrayObject_fields: data, nd, dimensions, strides, base, descr, flags.
ARRAY = _struct(POINTER, NUMBER, SIZES, SIZES, POINTER, POINTER, NUMBER)
DATA, AXES, DIMENSIONS, STRIDES, DTYPE, FLAGS = 1, 2, 3, 4, 6, 7
# PyArray_Descr: typeobj, kind, type, byteorder, flags, type_num.
DESCRIPTION = _struct(POINTER, BYTE, BYTE, BYTE, BYTE, NUMBER)
ORDER, KIND = 4, 6


def field(builder: ir.IRBuilder, kind: ir.Type, place: ir.Value, number: int) -> ir.Value:
    """A field of a struct of this kind at a place."""
    place = builder.bitcast(place, kind.as_pointer())
    return builder.load(builder.gep(place, [NUMBER(0), NUMBER(number)]))

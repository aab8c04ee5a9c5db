"""Vectors of 16 lanes for jitted code: a row's elements go through them 16 at a time.

A loop over a row of 10 is too short for LLVM to make vector code of it; these operations are
vector code whatever the length. Each works lane by lane, so the CPU's vector width changes nothing.
"""

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import models
from numba.core.extending import intrinsic, register_model

from fastmlp_kernels.compiling.emitter import emit_fma
from fastmlp_kernels.compiling.jit import jit

LANES = 16

_INDEX = ir.IntType(64)


class LanesType(types.Type):
    """16 values of one float dtype."""

    def __init__(self, real):
        self.real = real
        super().__init__(name=f"Lanes({real})")


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes_type):
        real = manager.lookup(lanes_type.real).get_value_type()
        super().__init__(manager, lanes_type, ir.VectorType(real, LANES))


def _splat(builder, value):
    vector = ir.VectorType(value.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, _places([0] * LANES))


def _places(numbers):
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)


def _pointer(context, builder, array_type, array, start, vector):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), vector.as_pointer())


def _first_lanes(builder, count):
    """Return a mask of the first `count` lanes."""
    numbers = ir.Constant(ir.VectorType(_INDEX, LANES), list(range(LANES)))
    return builder.icmp_signed("<", numbers, _splat(builder, count))


def _masked(builder, action, vector, result, arguments):
    suffix = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}.get(vector.element, "i64")
    name = f"llvm.masked.{action}.v{LANES}{suffix}.p0"
    function_type = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
    return builder.call(function, arguments)


def _align(vector):
    return 4 if vector.element == ir.FloatType() else 8


@intrinsic
def load(typing_context, array, start):
    """Return array[start : start + 16] of a contiguous 1-D array."""
    lanes = LanesType(array.dtype)

    def codegen(context, builder, signature, arguments):
        vector = context.get_value_type(lanes)
        pointer = _pointer(context, builder, array, *arguments, vector)
        return builder.load(pointer, align=_align(vector))

    return lanes(array, types.int64), codegen


@intrinsic
def load_part(typing_context, array, start, count, rest):
    """Return array[start : start + count], count <= 16, the other lanes filled with `rest`."""
    lanes = LanesType(array.dtype)

    def codegen(context, builder, signature, arguments):
        values, start, count, rest = arguments
        vector = context.get_value_type(lanes)
        pointer = _pointer(context, builder, array, values, start, vector)
        masked = [
            pointer,
            ir.IntType(32)(_align(vector)),
            _first_lanes(builder, count),
            _splat(builder, rest),
        ]
        return _masked(builder, "load", vector, vector, masked)

    return lanes(array, types.int64, types.int64, array.dtype), codegen


@intrinsic
def first_of(typing_context, values, count, rest):
    """Return the first `count` <= 16 of values, the other lanes filled with `rest`."""

    def codegen(context, builder, signature, arguments):
        values, count, rest = arguments
        return builder.select(_first_lanes(builder, count), values, _splat(builder, rest))

    return values(values, types.int64, values.real), codegen


@intrinsic
def store(typing_context, array, start, values):
    """array[start : start + 16] = values."""

    def codegen(context, builder, signature, arguments):
        data, start, values = arguments
        pointer = _pointer(context, builder, array, data, start, values.type)
        builder.store(values, pointer, align=_align(values.type))

    return types.void(array, types.int64, values), codegen


@intrinsic
def store_part(typing_context, array, start, count, values):
    """array[start : start + count] = the first `count` of values; count <= 16."""

    def codegen(context, builder, signature, arguments):
        data, start, count, values = arguments
        pointer = _pointer(context, builder, array, data, start, values.type)
        alignment = ir.IntType(32)(_align(values.type))
        masked = [values, pointer, alignment, _first_lanes(builder, count)]
        _masked(builder, "store", values.type, ir.VoidType(), masked)

    return types.void(array, types.int64, types.int64, values), codegen


@jit
def store_end(array, start, count, values, free):
    """The same for the end of a row; array[start + count : free] may be overwritten.

    Rows that are written one after the other may overwrite what follows them: where 16 elements
    fit, this is a plain store. Masked ones take AMD's CPUs without AVX-512 12 cycles for 8 lanes:
    with them, log-softmax of (60000, 10) took 1.9 times as long.
    """
    if start + LANES <= free:
        store(array, start, values)
    else:
        store_part(array, start, count, values)


@intrinsic
def splat(typing_context, value):
    """Return `value` in every lane."""

    def codegen(context, builder, signature, arguments):
        return _splat(builder, *arguments)

    return LanesType(value)(value), codegen


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


def _of_two(operation, doc):
    @intrinsic
    def of_two(typing_context, a, b):
        def codegen(context, builder, signature, arguments):
            return operation(builder, *arguments)

        return a(a, b), codegen

    of_two.__doc__ = doc
    return of_two


add = _of_two(ir.IRBuilder.fadd, "Return a + b.")
subtract = _of_two(ir.IRBuilder.fsub, "Return a - b.")
multiply = _of_two(ir.IRBuilder.fmul, "Return a * b.")
divide = _of_two(ir.IRBuilder.fdiv, "Return a / b.")
larger = _of_two(_larger, "Return a > b ? a : b.")


@intrinsic
def fma(typing_context, a, b, c):
    """Return a * b + c, rounded once, by the CPU's instruction."""

    def codegen(context, builder, signature, arguments):
        return emit_fma(builder, *arguments)

    return a(a, b, c), codegen


@intrinsic
def where_equal(typing_context, a, b, x, y):
    """Return a == b ? x : y."""

    def codegen(context, builder, signature, arguments):
        a, b, x, y = arguments
        return builder.select(builder.fcmp_ordered("==", a, b), x, y)

    return x(a, b, x, y), codegen


@intrinsic
def load_integers(typing_context, array, start, count, zero):
    """Return array[start : start + count] of int64, count <= 16, as reals; the others are 0."""
    lanes = LanesType(zero)

    def codegen(context, builder, signature, arguments):
        values, start, count, _ = arguments
        vector = ir.VectorType(_INDEX, LANES)
        pointer = _pointer(context, builder, array, values, start, vector)
        mask = _first_lanes(builder, count)
        rest = ir.Constant(vector, [0] * LANES)
        masked = [pointer, ir.IntType(32)(8), mask, rest]
        loaded = _masked(builder, "load", vector, vector, masked)
        return builder.sitofp(loaded, context.get_value_type(lanes))

    return lanes(array, types.int64, types.int64, zero), codegen


@intrinsic
def transpose(typing_context, tile):
    """Write the transpose of a tile (16 * 16,), contiguous, in its place."""

    def codegen(context, builder, signature, arguments):
        vector = context.get_value_type(LanesType(tile.dtype))
        starts = [_INDEX(LANES * row) for row in range(LANES)]
        pointers = [_pointer(context, builder, tile, *arguments, at, vector) for at in starts]
        rows = [builder.load(pointer, align=_align(vector)) for pointer in pointers]
        for width in (8, 4, 2, 1):  # squares of so many lanes change places across the diagonal
            odd = [lane & width for lane in range(LANES)]
            upper = [LANES + lane - width if odd[lane] else lane for lane in range(LANES)]
            lower = [LANES + lane if odd[lane] else lane + width for lane in range(LANES)]
            for row in range(LANES):
                if not row & width:
                    pair = rows[row], rows[row + width]
                    rows[row] = builder.shuffle_vector(*pair, _places(upper))
                    rows[row + width] = builder.shuffle_vector(*pair, _places(lower))
        for pointer, row in zip(pointers, rows, strict=True):
            builder.store(row, pointer, align=_align(vector))
        return context.get_dummy_value()

    return types.void(tile), codegen


def _folded(operation, doc):
    @intrinsic
    def folded(typing_context, values):
        def codegen(context, builder, signature, arguments):
            (total,) = arguments
            width = LANES // 2
            while width:
                low = builder.shuffle_vector(total, total, _places(list(range(width))))
                high = builder.shuffle_vector(total, total, _places(list(range(width, 2 * width))))
                total = operation(builder, low, high)
                width //= 2
            return builder.extract_element(total, ir.IntType(32)(0))

        return values.real(values), codegen

    folded.__doc__ = doc
    return folded


sum_of_lanes = _folded(ir.IRBuilder.fadd, "lane[i] += lane[i + 8], then + 4, + 2, + 1; lane[0].")
largest_of_lanes = _folded(_larger, "Return the largest lane; any lane's value if one is NaN.")

"""Memory by address, for kernels that read any strides or share work between threads."""

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, errors, types
from numba.extending import intrinsic

from fastmlp_kernels.compiling.cpu import vector_bits
from fastmlp_kernels.compiling.jit import jit

VECTOR_BITS = vector_bits()


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
def _pointer(typing_context, zero, address):
    def codegen(context, builder, signature, values):
        return builder.inttoptr(values[1], context.get_value_type(signature.return_type))

    return types.CPointer(zero)(zero, address), codegen


@jit
def array_at(zero, address, size):
    """The `size` elements from `address` on, of the dtype of `zero`, as an array."""
    return numba.carray(_pointer(zero, address), (size,))


@jit
def matrix_at(zero, address, rows, width):
    """The matrix from `address` on, of the dtype of `zero`, as an array."""
    return numba.carray(_pointer(zero, address), (rows, width))


@intrinsic
def fields_at(typing_context, place, count):
    """The `count` int64 at `place`, an address or a pointer, as a tuple.

    Numba's to_fixed_tuple writes and reads the whole tuple for each of them: the 46 of an epoch's
    task took 1 us, a sixth of an epoch of 784-100-10 with 32 samples.
    """
    if not isinstance(count, types.IntegerLiteral):
        raise errors.RequireLiteralValue("expected a constant count")
    kind = types.UniTuple(types.int64, count.literal_value)

    def codegen(context, builder, signature, values):
        number = ir.IntType(64)
        pointer = values[0]
        if signature.args[0] == types.int64:
            pointer = builder.inttoptr(pointer, number.as_pointer())
        read = [builder.load(builder.gep(pointer, [number(i)])) for i in range(kind.count)]
        return context.make_tuple(builder, kind, read)

    return kind(place, count), codegen


@intrinsic
def copy(typing_context, target, source, size):
    """Copy `size` bytes from the address `source` to `target`; they don't overlap."""

    def codegen(context, builder, signature, values):
        byte = ir.IntType(8).as_pointer()
        target, source = (builder.inttoptr(value, byte) for value in values[:2])
        cgutils.raw_memcpy(builder, target, source, values[2], 1)
        return context.get_dummy_value()

    return types.void(target, source, size), codegen


def emit_fetch(builder, address, level, write=0):
    """Emit the fetch of a cache line, if there is memory, to the cache of level 1 or 2."""
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    how = [ir.Constant(number, value) for value in (write, 4 - level, 1)]
    builder.call(function, [builder.inttoptr(address, byte), *how])


def _fetch(write):
    def codegen(context, builder, signature, values):
        emit_fetch(builder, values[0], 2, write)
        return context.get_dummy_value()

    return codegen


@intrinsic
def fetch(typing_context, address):
    """Bring the cache line at an address, if there is memory, near: it will be read."""
    return types.void(address), _fetch(0)


@intrinsic
def fetch_to_write(typing_context, address):
    """Bring the cache line at an address, if there is memory, near: it will be written."""
    return types.void(address), _fetch(1)


@intrinsic
def transpose_block(typing_context, zero, source, source_row, target, target_row):
    """Write the transpose of a square of `lanes` x `lanes` elements, in vector registers.

    Addresses, and row strides in elements. Each of log2(lanes) steps swaps the off-diagonal
    squares of 1, 2, 4, ... elements: 64 shuffles for 256 elements of float32 at 512 bits.
    """

    def codegen(context, builder, signature, values):
        _, source, source_row, target, target_row = values
        kind = context.get_value_type(signature.args[0])
        lanes = max(1, VECTOR_BITS // signature.args[0].bitwidth)
        vector, numbers = ir.VectorType(kind, lanes), ir.VectorType(ir.IntType(32), lanes)

        def place(base, row_stride, i):
            start = builder.inttoptr(base, kind.as_pointer())
            row = builder.gep(start, [builder.mul(row_stride, ir.Constant(row_stride.type, i))])
            return builder.bitcast(row, vector.as_pointer())

        rows = []
        for i in range(lanes):
            rows.append(builder.load(place(source, source_row, i)))
            rows[-1].align = 1
        size = 1
        while size < lanes:
            for i in range(lanes):
                if i & size:
                    continue
                upper, lower = rows[i], rows[i + size]
                low = [lane if not lane & size else lane - size + lanes for lane in range(lanes)]
                high = [lane + size if not lane & size else lane + lanes for lane in range(lanes)]
                rows[i] = builder.shuffle_vector(upper, lower, ir.Constant(numbers, low))
                rows[i + size] = builder.shuffle_vector(upper, lower, ir.Constant(numbers, high))
            size *= 2
        for i, row in enumerate(rows):
            builder.store(row, place(target, target_row, i)).align = 1
        return context.get_dummy_value()

    return types.void(zero, source, source_row, target, target_row), codegen


@intrinsic
def on_stack(typing_context, fields):
    """The address of a copy of `fields`, a tuple of int64, that lasts as long as the caller."""

    def codegen(context, builder, signature, values):
        number = ir.IntType(64)
        words = cgutils.unpack_tuple(builder, values[0])
        place = cgutils.alloca_once(builder, number, size=len(words))
        for i, word in enumerate(words):
            builder.store(word, builder.gep(place, [number(i)]))
        return builder.ptrtoint(place, number)

    return types.int64(fields), codegen


@intrinsic
def words_on_stack(typing_context, count):
    """The address of `count` int64, a constant, that last as long as the caller."""
    if not isinstance(count, types.IntegerLiteral):
        raise errors.RequireLiteralValue("expected a constant count")
    size = count.literal_value

    def codegen(context, builder, signature, values):
        number = ir.IntType(64)
        place = cgutils.alloca_once(builder, number, size=size)
        return builder.ptrtoint(place, number)

    return types.int64(count), codegen


@intrinsic
def float64_of(typing_context, bits):
    """The float64 that has these bits, an int64."""

    def codegen(context, builder, signature, values):
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def bits_of(typing_context, value):
    """The bits of a float64, as int64."""

    def codegen(context, builder, signature, values):
        return builder.bitcast(values[0], ir.IntType(64))

    return types.int64(types.float64), codegen


@intrinsic
def add_one(typing_context, place):
    """Add 1 to an int64 that other threads change, too; return what it was.

    place: an address or a pointer.
    """

    def codegen(context, builder, signature, values):
        number = ir.IntType(64)
        pointer = values[0]
        if signature.args[0] == types.int64:
            pointer = builder.inttoptr(pointer, number.as_pointer())
        return builder.atomic_rmw("add", pointer, number(1), "acq_rel")

    return types.int64(place), codegen


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
    return aligned_place(address(buffer))


@jit
def aligned_place(place):
    """The first address from `place` on that starts a cache line."""
    return (place + 63) // 64 * 64

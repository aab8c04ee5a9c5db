"""Which elements of x are not zero: a bit each, in words along the rows and along the columns.

Bit b of a row's word w is set where x[row, 64 * w + b] != 0, which holds for NaN and not for -0;
bit b of a column's word w where x[64 * w + b, column] != 0. The first are read from x, the second
are made of them, square by square of 64 x 64 bits, so that x is read once.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastmlp_kernels.compiling.emitter import INT, VECTOR_BITS, Emitter, constant
from fastmlp_kernels.compiling.jit import jit
from fastmlp_kernels.plans.memory import load

WORD = 64  # bits
WORD_BYTES = 8


@jit
def count_words(count):
    """The words of so many bits."""
    return (count + WORD - 1) // WORD


def emit_word(emitter, address):
    """Emit the word of 64 elements from `address` on."""
    builder, word = emitter.builder, constant(0)
    for first in range(0, WORD, emitter.lanes):
        value = emitter._load(emitter._address(address, constant(first)))
        mask = builder.fcmp_unordered("!=", value, emitter.zero)
        bits = builder.zext(builder.bitcast(mask, ir.IntType(emitter.lanes)), INT)
        word = builder.or_(word, builder.shl(bits, constant(first)))
    return word


@intrinsic
def _vector_word(typing_context, zero, address):
    """The word of 64 elements from `address` on."""

    def codegen(context, builder, signature, values):
        return emit_word(Emitter(builder, signature.args[0]), values[1])

    return types.int64(zero, address), codegen


@jit
def find_word(zero, address, count):
    """The word of `count` <= 64 elements from `address` on."""
    if VECTOR_BITS and count == WORD:
        return np.uint64(_vector_word(zero, address))
    word = np.uint64(0)
    for bit in range(count):
        word |= np.uint64(load(zero, address, bit) != zero) << np.uint64(bit)
    return word


@intrinsic
def transpose_bits(typing_context, square):
    """Turn the 64 words of 64 bits at an address: bit c of word r becomes bit r of word c.

    Six exchanges of off-diagonal squares of 32, 16, ... 1 bits (Warren, Hacker's Delight, 7-3), of
    all words at once.
    """

    def codegen(context, builder, signature, values):
        kind = ir.VectorType(INT, WORD)
        place = builder.inttoptr(values[0], kind.as_pointer())
        words = builder.load(place)
        words.align = WORD_BYTES
        half, low = WORD // 2, 2 ** (WORD // 2) - 1
        while half:
            high = low << half
            up = [low if row & half == 0 else 0 for row in range(WORD)]
            down = [0 if row & half == 0 else high for row in range(WORD)]
            stay = [low if row & half == 0 else high for row in range(WORD)]
            partners = [row ^ half for row in range(WORD)]
            order = ir.Constant(ir.VectorType(ir.IntType(32), WORD), partners)
            others = builder.shuffle_vector(words, words, order)
            by = ir.Constant(kind, [half] * WORD)
            others = builder.or_(
                builder.shl(builder.and_(others, ir.Constant(kind, up)), by),
                builder.lshr(builder.and_(others, ir.Constant(kind, down)), by),
            )
            words = builder.or_(builder.and_(words, ir.Constant(kind, stay)), others)
            half //= 2
            low ^= low << half if half else 0
            low &= 2**WORD - 1
        builder.store(words, place).align = WORD_BYTES
        return context.get_dummy_value()

    return types.void(square), codegen

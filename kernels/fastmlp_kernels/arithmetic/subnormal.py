"""Decaying numbers without the operations that a CPU takes a hundred cycles for.

A running mean whose gradients have become zero halves every few steps, until it is subnormal, and
stays so: 0.9 times the smallest number is, rounded, the smallest number. Intel's CPUs multiply
subnormal numbers in microcode, which made momentum 14 and Adam 6 times slower where all means are
such, and later epochs of Adam over MNIST, whose outer pixels are rarely set, 2.3 times. The same
bits come of operations on normal numbers, without branches, so that loops become vector code.
Elsewhere the plain operations stay: on Zen 3 these made Adam 1.5 times as slow.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, overload

from fastmlp_kernels.compiling.cpu import has_fma, stalls_on_subnormals
from fastmlp_kernels.compiling.jit import jit

MANTISSA_BITS = {types.float32: 23, types.float64: 52}
# A number under the first is tiny. Beside a p of at least the second it changes nothing, with any
# factor up to 1: it is under an eighth of the distance from p to the next number. (A quarter would
# do, but for products that are subnormal: rounding can double them.)
TINY = {types.float32: (2.0**-100, 2.0**-73), types.float64: (2.0**-900, 2.0**-844)}


@intrinsic
def _decayed_by_fma(typing_context, decay, value):
    """decay * value, fast where 0 <= decay <= 1."""

    def codegen(context, builder, signature, values):
        decay, value = values
        bits, places = ir.IntType(signature.return_type.bitwidth), MANTISSA_BITS[signature.args[0]]
        one, base = ir.Constant(value.type, 1), ir.Constant(value.type, 2.0**places)
        base_pattern = builder.bitcast(base, bits)
        in_range = builder.icmp_unsigned(
            "<=", builder.bitcast(decay, bits), builder.bitcast(one, bits)
        )
        limit = builder.select(in_range, ir.Constant(bits, 1 << places), ir.Constant(bits, 0))
        pattern = builder.bitcast(value, bits)
        sign = builder.and_(pattern, ir.Constant(bits, 1 << (bits.width - 1)))
        # A subnormal number is a whole number of the smallest one. Added to 2^places, whose last
        # place is 1, decay times that is rounded to a whole number, ties to even, and only once.
        count = builder.xor(pattern, sign)
        is_subnormal = builder.icmp_signed("<", count, limit)
        whole = builder.fsub(builder.bitcast(builder.or_(base_pattern, count), value.type), base)
        rounded = builder.bitcast(builder.fma(decay, whole, base), bits)
        small = builder.or_(builder.sub(rounded, base_pattern), sign)
        # Joined by an or: LLVM would see through a second select, and multiply the subnormal value.
        nothing = ir.Constant(bits, 0)
        normal = builder.select(is_subnormal, nothing, pattern)
        product = builder.bitcast(builder.fmul(decay, builder.bitcast(normal, value.type)), bits)
        small = builder.select(is_subnormal, small, nothing)
        return builder.bitcast(builder.or_(product, small), value.type)

    return value(decay, value), codegen


@jit
def _decayed_by_product(decay, value):
    return decay * value


decayed = _decayed_by_fma if has_fma() and stalls_on_subnormals() else _decayed_by_product


def _limits(like):
    """What is tiny, and beside what it is nothing."""
    raise NotImplementedError("_limits can only be called in jitted code")


@overload(_limits)
def _limits_of_dtype(like):
    real = np.float32 if like == types.float32 else np.float64
    tiny, beside = (real(limit) for limit in TINY[like])
    return lambda like: (tiny, beside)


@jit
def negligible_beside(factor):
    """The size of a p over which p - factor * x is p for every tiny x."""
    beside = _limits(factor)[1]
    return abs(factor) * beside + beside


@jit
def _without_tiny(x, p, least):
    """x, or 0 where it is tiny and |p| is over `least`, from negligible_beside."""
    tiny = _limits(x)[0]
    zero = tiny - tiny
    return zero if (abs(x) < tiny) & (abs(p) > least) else x


@jit
def _unchanged(x, p, least):
    return x


without_tiny = _without_tiny if stalls_on_subnormals() else _unchanged

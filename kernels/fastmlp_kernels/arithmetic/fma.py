"""fma(a, b, c) = a * b + c with one rounding, for three scalars of one float dtype in jitted code.

`fma` is `fma_hardware` where the CPU has the instruction and `fma_software` elsewhere; both give
the same bits for every float32 and float64. They are to be called in jitted code only.
"""

import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from fastmlp_kernels.compiling.cpu import has_fma
from fastmlp_kernels.compiling.jit import jit

# Numba makes a float of uint64 with int64, so every constant beside a significand is a uint64.
ZERO, ONE, SIXTY_FOUR = np.uint64(0), np.uint64(1), np.uint64(64)
HALF_WORD, LOW_HALF = np.uint64(32), np.uint64(2**32 - 1)
HIDDEN_BIT = np.uint64(2**52)
BIT_61, BIT_62 = np.uint64(2**61), np.uint64(2**62)
TO_BIT_61, TO_BIT_62 = np.uint64(9), np.uint64(10)  # shifts from bit 52
ROUND_BITS, ROUND_HALF = np.uint64(2**10 - 1), np.uint64(2**9)


def _check(a, b, c):
    if not (a == b == c and a in (types.float32, types.float64)):
        raise TypingError(
            f"fma takes three scalars of one dtype, float32 or float64, got {a}, {b} and {c}: "
            "cast them to one of the two first"
        )


@intrinsic
def fma_hardware(typing_context, a, b, c):
    """Return a * b + c by the CPU's instruction; without one, LLVM would call the C library."""
    _check(a, b, c)

    def codegen(context, builder, signature, args):
        return builder.fma(*args)

    return a(a, a, a), codegen


def fma_software(a, b, c):
    """Return a * b + c with one rounding, by operations that every CPU has."""
    raise NotImplementedError("fma_software can only be called in jitted code")


@overload(fma_software)
def _fma_software(a, b, c):
    _check(a, b, c)
    if a == types.float32:
        return lambda a, b, c: _fma_float32(a, b, c)
    return lambda a, b, c: _fma_float64(a, b, c)


@jit
def _fma_float32(a, b, c):
    # A product of two float32 is exact in float64. The sum is rounded to odd (cut toward zero,
    # the last bit set if anything was cut off): float32's rounding then is the only one.
    product, addend = np.float64(a) * np.float64(b), np.float64(c)
    total = product + addend
    addend_part = total - product
    error = (product - (total - addend_part)) + (addend - addend_part)
    if abs(error) > 0.0:  # false for the NaN beside an infinite total
        bits, error_bits = np.float64(total).view(np.int64), np.float64(error).view(np.int64)
        total = np.int64((bits + ((bits ^ error_bits) >> 63)) | 1).view(np.float64)
    return np.float32(total)


@jit
def _fma_float64(a, b, c):
    # As Berkeley SoftFloat's f64_mulAdd: a significand is 128 bits in two words, high and low,
    # whose value is (high + low / 2^64) / 2^61 * 2^exponent.
    if not (np.isfinite(a) and np.isfinite(b)) or a == 0.0 or b == 0.0:
        return a * b + c
    if not np.isfinite(c):
        return c
    if c == 0.0:
        return a * b
    sign = (a < 0.0) != (b < 0.0)
    c_sign = c < 0.0
    a_significand, a_exponent = _unpack(a)
    b_significand, b_exponent = _unpack(b)
    c_significand, c_exponent = _unpack(c)
    exponent = a_exponent + b_exponent + 1
    high, low = _multiply(a_significand << TO_BIT_62, b_significand << TO_BIT_62)
    if high < BIT_61:
        high, low = _shift_left(high, low, ONE)
        exponent -= 1
    c_high, c_low = c_significand << TO_BIT_61, ZERO
    if exponent >= c_exponent:
        c_high, c_low = _shift_right_sticky(c_high, c_low, exponent - c_exponent)
    else:
        high, low = _shift_right_sticky(high, low, c_exponent - exponent)
        exponent = c_exponent
    if sign == c_sign:
        high, low = _add(high, low, c_high, c_low)
    elif high > c_high or (high == c_high and low >= c_low):
        high, low = _subtract(high, low, c_high, c_low)
    else:
        high, low = _subtract(c_high, c_low, high, low)
        sign = c_sign
    return _round(sign, exponent, high, low)


@jit
def _unpack(x):
    """Return the significand of a finite x != 0, first bit at 52, and that bit's exponent."""
    bits = np.float64(x).view(np.uint64)
    exponent = np.int64(bits >> np.uint64(52)) & 0x7FF
    significand = bits & (HIDDEN_BIT - ONE)
    if exponent != 0:
        return significand | HIDDEN_BIT, exponent - 1023
    exponent = np.int64(-1022)
    while significand < HIDDEN_BIT:
        significand <<= ONE
        exponent -= 1
    return significand, exponent


@jit
def _round(sign, exponent, high, low):
    """Return the float64 nearest to a 128-bit significand below 2^127, ties to even; +0 for 0."""
    if high == ZERO:
        if low == ZERO:
            return 0.0
        high, low = low >> ONE, low << np.uint64(63)
        exponent -= 63
    exponent += 1
    while high < BIT_62:
        high, low = _shift_left(high, low, ONE)
        exponent -= 1
    if exponent > 1023:
        return -np.inf if sign else np.inf
    if exponent < -1022:
        high, low = _shift_right_sticky(high, low, -1022 - exponent)
        exponent = np.int64(-1022)
    significand = high | np.uint64(low != ZERO)
    rest = significand & ROUND_BITS
    significand = (significand + ROUND_HALF) >> TO_BIT_62
    if rest == ROUND_HALF:
        significand &= ~ONE
    # Added, not or-ed: the hidden bit counts one up, and so does a carry, even to infinity.
    bits = (np.uint64(exponent + 1022) << np.uint64(52)) + significand
    magnitude = np.uint64(bits).view(np.float64)
    return -magnitude if sign else magnitude


@jit
def _multiply(x, y):
    """Return the 128 bits of x * y."""
    x_high, x_low = x >> HALF_WORD, x & LOW_HALF
    y_high, y_low = y >> HALF_WORD, y & LOW_HALF
    middle = x_high * y_low + (x_low * y_low >> HALF_WORD)
    other = x_low * y_high + (middle & LOW_HALF)
    return x_high * y_high + (middle >> HALF_WORD) + (other >> HALF_WORD), x * y


@jit
def _add(high, low, other_high, other_low):
    total = low + other_low
    return high + other_high + np.uint64(total < low), total


@jit
def _subtract(high, low, other_high, other_low):
    return high - other_high - np.uint64(low < other_low), low - other_low


@jit
def _shift_left(high, low, count):
    """Shift by 1 to 63 bits."""
    return high << count | low >> (SIXTY_FOUR - count), low << count


@jit
def _shift_right_sticky(high, low, count):
    """Shift by any count >= 0; the last bit is set if a bit that was cut off was."""
    if count >= 128:
        return ZERO, np.uint64((high | low) != ZERO)
    if count >= 64:
        high, low = ZERO, high | np.uint64(low != ZERO)
        count -= 64
    if count == 0:
        return high, low
    right, left = np.uint64(count), np.uint64(64 - count)
    cut_off = np.uint64((low << left) != ZERO)
    return high >> right, high << left | low >> right | cut_off


fma = fma_hardware if has_fma() else fma_software

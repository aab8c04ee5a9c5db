"""e^x of 16 float32 at once, correctly rounded but for one in 2000, of which it tells.

The float64 way has half as many numbers in a vector, and ten coefficients. Here
x = n log(2) / 32 + r, 2^(n / 32) comes of a table of 32 numbers in two registers, and e^r of three
coefficients. All is float32, with what the roundings lose kept beside it. The exact result is this
one, plus or minus ERROR; where both ends are rounded to the same number, that is it. On Zen 4 an
element takes 1.2 cycles, by float64 2.3.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic

from fastmlp_kernels.arithmetic import lanes
from fastmlp_kernels.arithmetic.lanes import LANES
from fastmlp_kernels.compiling.cpu import architecture, vector_bits
from fastmlp_kernels.compiling.jit import jit

# An instruction looks up a table there.
IS_QUICK = architecture() == "x86_64" and vector_bits() == 512


def _numbers(*values):
    return tuple(np.float32(float.fromhex(value)) for value in values)


# 32 / log(2), and log(2) / 32 in three parts: n times each of the first two is exact.
STEPS, HIGH, MIDDLE, LOW = _numbers("0x1.715476p+5", "0x1.62ep-6", "0x1.0cp-20", "-0x1.05c61p-34")
INTEGER = np.float32(1.5 * 2**23)  # x + INTEGER is x rounded to an integer, in the low bits
# e^r = 1 + r + r^2 (SQUARE + CUBE r + FOURTH r^2) to 2e-13, |r| <= log(2) / 64
SQUARE, CUBE, FOURTH = _numbers("0x1p-1", "0x1.5555c8p-3", "0x1.555556p-5")
ERROR = np.float32(2e-11)  # relative; 1.4e-11 is enough for every x: tests/prove_elementary.py
ZERO_FROM = -104.0  # e^x is less than half of the smallest number
MOST = 78.0  # below e^-MOST, what is kept of the roundings may be subnormal

# 2^(i / 32), rounded, and the relative rest.
POWERS = _numbers(
    "0x1p+0",
    "0x1.059b0ep+0",
    "0x1.0b5586p+0",
    "0x1.11301ep+0",
    "0x1.172b84p+0",
    "0x1.1d4874p+0",
    "0x1.2387a6p+0",
    "0x1.29e9ep+0",
    "0x1.306fep+0",
    "0x1.371a74p+0",
    "0x1.3dea64p+0",
    "0x1.44e086p+0",
    "0x1.4bfdaep+0",
    "0x1.5342b6p+0",
    "0x1.5ab07ep+0",
    "0x1.6247ecp+0",
    "0x1.6a09e6p+0",
    "0x1.71f75ep+0",
    "0x1.7a1148p+0",
    "0x1.82589ap+0",
    "0x1.8ace54p+0",
    "0x1.93737cp+0",
    "0x1.9c4918p+0",
    "0x1.a5503cp+0",
    "0x1.ae89fap+0",
    "0x1.b7f77p+0",
    "0x1.c199bep+0",
    "0x1.cb720ep+0",
    "0x1.d5818ep+0",
    "0x1.dfc974p+0",
    "0x1.ea4afap+0",
    "0x1.f50766p+0",
)
RESTS = _numbers(
    "0x0p+0",
    "-0x1.947414p-25",
    "0x1.8d96d4p-25",
    "-0x1.dda2fcp-25",
    "-0x1.9c0c22p-27",
    "-0x1.a2fbb2p-25",
    "0x1.964904p-25",
    "-0x1.2b0dbcp-25",
    "0x1.125002p-25",
    "-0x1.cde8cep-26",
    "0x1.370be4p-25",
    "0x1.336de2p-30",
    "-0x1.0a355p-25",
    "-0x1.c541b4p-26",
    "-0x1.00d8acp-27",
    "-0x1.6cb284p-25",
    "0x1.26055cp-26",
    "0x1.8b2bb8p-26",
    "-0x1.05cb44p-25",
    "-0x1.1c2142p-26",
    "0x1.67a1cap-28",
    "-0x1.348e56p-25",
    "0x1.a3b5e4p-28",
    "-0x1.0b7ec8p-25",
    "-0x1.f9c304p-27",
    "-0x1.e4c886p-26",
    "-0x1.6961b4p-28",
    "-0x1.b5151ep-28",
    "-0x1.a5217cp-28",
    "-0x1.ab7132p-26",
    "0x1.61428ep-28",
    "-0x1.2ad5f8p-27",
)
EXPONENT_PLACE = 23 - 5  # where n = 32 k + i goes, for k to be added to the exponent

# Less i there, so that all of n can be added.
_PLACES = np.arange(len(POWERS), dtype=np.int32) << EXPONENT_PLACE
SHIFTED_POWERS = (np.array(POWERS).view(np.int32) - _PLACES).view(np.float32)

ALL = 2**LANES - 1

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)


def _function(builder, name, result, *arguments):
    kind = ir.FunctionType(result, arguments)
    return cgutils.get_or_insert_function(builder.module, kind, name)


def _look_up(builder, table, places):
    """The numbers of a table of 32 at 16 places, of which the last five bits count."""
    name = "llvm.x86.avx512.vpermi2var.ps.512"
    function = _function(builder, name, _FLOATS, _FLOATS, _INTEGERS, _FLOATS)
    halves = [
        builder.bitcast(ir.Constant(_INTEGERS, half.tolist()), _FLOATS)
        for half in np.split(np.array(table).view(np.int32), 2)
    ]
    return builder.call(function, [halves[0], places, halves[1]])


def _bits(builder, lanes_mask):
    return builder.zext(builder.bitcast(lanes_mask, ir.IntType(LANES)), ir.IntType(64))


@intrinsic
def _power(typing_context, shifted):
    """2^(n / 32), rounded, and its relative rest, for the n in the low bits of `shifted`."""

    def codegen(context, builder, signature, arguments):
        n = builder.bitcast(arguments[0], _INTEGERS)
        place = ir.Constant(_INTEGERS, [EXPONENT_PLACE] * LANES)
        power = builder.bitcast(_look_up(builder, SHIFTED_POWERS, n), _INTEGERS)
        power = builder.bitcast(builder.add(power, builder.shl(n, place)), _FLOATS)
        return context.make_tuple(
            builder, signature.return_type, [power, _look_up(builder, RESTS, n)]
        )

    return types.UniTuple(shifted, 2)(shifted), codegen


@intrinsic
def _certain(typing_context, x, low, high):
    """A bit for each lane: whether |x| <= MOST and low == high."""

    def codegen(context, builder, signature, arguments):
        x, low, high = arguments
        size = builder.call(_function(builder, "llvm.fabs.v16f32", _FLOATS, _FLOATS), [x])
        inside = builder.fcmp_ordered("<=", size, ir.Constant(_FLOATS, [MOST] * LANES))
        return _bits(builder, builder.and_(inside, builder.fcmp_ordered("==", low, high)))

    return types.int64(x, low, high), codegen


@intrinsic
def _with_zeros(typing_context, x, y):
    """y, but +0 where x <= ZERO_FROM, and a bit for each lane that is so."""

    def codegen(context, builder, signature, arguments):
        x, y = arguments
        small = builder.fcmp_ordered("<=", x, ir.Constant(_FLOATS, [ZERO_FROM] * LANES))
        y = builder.select(small, ir.Constant(_FLOATS, [0.0] * LANES), y)
        return context.make_tuple(builder, signature.return_type, [y, _bits(builder, small)])

    return types.Tuple((y, types.int64))(x, y), codegen


@jit
def quick_exp(x):
    """Return e^x of 16 lanes of float32, and whether all of them are certain."""
    shifted = lanes.fma(x, lanes.splat(STEPS), lanes.splat(INTEGER))
    n = lanes.subtract(shifted, lanes.splat(INTEGER))
    power, rest = _power(shifted)
    r = lanes.fma(n, lanes.splat(-HIGH), x)
    r = lanes.fma(n, lanes.splat(-MIDDLE), r)
    # e^x = power (1 + r + more): r is exact, and `more` small enough for float32.
    lost = lanes.fma(n, lanes.splat(-LOW), rest)
    whole = lanes.add(r, lost)
    curve = lanes.fma(lanes.splat(FOURTH), whole, lanes.splat(CUBE))
    curve = lanes.fma(curve, whole, lanes.splat(SQUARE))
    more = lanes.fma(lanes.multiply(whole, whole), curve, lost)
    large = lanes.fma(power, r, power)
    small = lanes.fma(power, r, lanes.subtract(power, large))
    error = lanes.splat(ERROR)
    high = lanes.add(large, lanes.fma(power, lanes.add(more, error), small))
    low = lanes.add(large, lanes.fma(power, lanes.subtract(more, error), small))
    certain = _certain(x, low, high)
    if certain == ALL:
        return high, True
    high, zeros = _with_zeros(x, high)  # of what is masked, and of lanes beyond a row's end
    return high, certain | zeros == ALL

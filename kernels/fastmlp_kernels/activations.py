"""Activations y = f(x) and their slopes f'(x); grad_x = grad_y * f'(x).

    tanh        slope = 1 - y * y
    logistic    slope = y * (1 - y)
    silu        s = logistic(x); y = x * s; slope = s * (1 + x * (1 - s))
    gelu        t = tanh(a * (x + b * ((x * x) * x))); y = (0.5 * x) * (1 + t);
                slope = 0.5 * (1 + t) + ((0.5 * x) * (1 - t * t)) * (a * (1 + c * (x * x)))
    leaky_relu  y = x > 0 ? x : 0.01 * x; slope = x > 0 ? 1 : 0.01

a = sqrt(2 / pi), b = 0.044715, c = 3 b. Of silu and gelu, x is clamped where f and f' have reached
their limits, so that no 0 * inf comes (y takes an x above the upper clamp as it is). `backward` is
given y of tanh and logistic, x of the others. Its arrays are (n, 1); a plan has rows of `columns`.
"""

from functools import cache, partial

from fastmlp_kernels.arithmetic import lanes
from fastmlp_kernels.arithmetic.elementwise import pairs_on_lanes
from fastmlp_kernels.arithmetic.lanes import LANES
from fastmlp_kernels.arithmetic.sigmoids import logistic, tanh
from fastmlp_kernels.compiling.jit import address_of, jit
from fastmlp_kernels.plans.memory import array_at
from fastmlp_kernels.plans.operands import KERNEL, moved, operation_at, own_at
from fastmlp_kernels.row_shares import RowsKernel, finish, my_rows

_activate_at = operation_at["tanh"]  # of every activation

SILU_CLAMP = 800.0  # logistic is 0 at -800 and 1 at 800, in either dtype
GELU_CLAMP = 10.0  # t is -1 at -10 and 1 at 10
A, B, C = 0.7978845608028654, 0.044715, 0.134145
LEAK = 0.01


@jit
def _tanh_slope(y):
    return y, type(y)(1) - y * y


@jit
def _logistic_slope(y):
    return y, y * (type(y)(1) - y)


@jit
def _tanh(x):
    return _tanh_slope(tanh(x))


@jit
def _logistic(x):
    return _logistic_slope(logistic(x))


@jit
def _clamped(x, limit):
    """x but at least -limit, and this but at most limit; a NaN stays one."""
    above = -limit if x < -limit else x
    return above, (limit if above > limit else above)


@jit
def _silu(x):
    real = type(x)
    above, x = _clamped(x, real(SILU_CLAMP))
    one, s = real(1), logistic(x)
    return above * s, s * (one + x * (one - s))


@jit
def _gelu(x):
    real = type(x)
    half, one, a, b, c = real(0.5), real(1), real(A), real(B), real(C)
    above, x = _clamped(x, real(GELU_CLAMP))
    square = x * x
    t = tanh(a * (x + b * (square * x)))
    curved = ((half * x) * (one - t * t)) * (a * (one + c * square))
    return (half * above) * (one + t), half * (one + t) + curved


@jit
def _leaky_relu(x):
    real = type(x)
    slope = real(1) if x > real(0) else real(LEAK)
    return x * slope, slope


_PAIRS = {
    "tanh": _tanh,
    "logistic": _logistic,
    "silu": _silu,
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
}
_y_and_slope = pairs_on_lanes(_PAIRS)
_kept_and_slope = pairs_on_lanes(_PAIRS | {"tanh": _tanh_slope, "logistic": _logistic_slope})


@jit
def _read(x, start):
    if start + LANES <= x.size:
        return lanes.load(x, start)
    return lanes.load_part(x, start, x.size - start, x.dtype.type(0))


@jit
def _write(y, start, values):
    if start + LANES <= y.size:
        lanes.store(y, start, values)
    else:
        lanes.store_part(y, start, y.size - start, values)


def _forward(name, zero):
    def activation_forward(data, _, thread):
        x, y, _, _ = my_rows(zero, data, thread)
        x, y = x.reshape(-1), y.reshape(-1)
        for j in range(0, x.size, LANES):
            _write(y, j, _y_and_slope(name, _read(x, j))[0])
        finish(data)

    return activation_forward


def _backward(name, zero):
    def activation_backward(data, _, thread):
        kept, grad_y, grad_x, _ = my_rows(zero, data, thread)
        kept, grad_y, grad_x = kept.reshape(-1), grad_y.reshape(-1), grad_x.reshape(-1)
        for j in range(0, kept.size, LANES):
            slope = _kept_and_slope(name, _read(kept, j))[1]
            _write(grad_x, j, lanes.multiply(_read(grad_y, j), slope))
        finish(data)

    return activation_backward


def _activate(name, zero):
    itemsize = zero.itemsize

    def activate(row, shared, own):
        """z = f(z), `columns` of each row, and f'(z) to the same places of `slope`, unless 0."""
        it, me = _activate_at(row), own_at(own)
        stride = it.row_size * itemsize
        z = moved(it.z, me.row * stride, shared, own)
        slope = moved(it.slope, me.row * stride, shared, own)
        for i in range(me.rows):
            values = array_at(zero, z + i * stride, it.columns)
            slopes = array_at(zero, slope + i * stride, it.columns if slope else 0)
            for j in range(0, values.size, LANES):
                y, y_slope = _y_and_slope(name, _read(values, j))
                _write(values, j, y)
                if slope:
                    _write(slopes, j, y_slope)

    return activate


forward = {name: RowsKernel(partial(_forward, name)) for name in _PAIRS}  # x, y
backward = {name: RowsKernel(partial(_backward, name)) for name in _PAIRS}  # x or y, grad_y, grad_x


@cache
def activate_kernel(dtype, name):
    return address_of(_activate(name, dtype.type(0)), KERNEL)

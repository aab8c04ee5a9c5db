"""Tanh, Logistic, Silu, Gelu, LeakyRelu, Identity: classes, and the operations of a plan."""

import mpmath
import numpy as np
import pytest
from fastmlp_kernels import activations as kernels
from fastmlp_kernels.plans.record import ACTIVATIONS
from helpers import DTYPES, assert_same_bits, floats, layouts, run_operation, specials

import fastmlp
from fastmlp import notebook, reference
from fastmlp.reference.activations import slope_at, y_and_slope

CLASSES = ["Tanh", "Logistic", "Silu", "Gelu", "LeakyRelu", "Identity"]
PLAIN = {  # the formulas in real numbers
    "tanh": mpmath.tanh,
    "logistic": lambda x: 1 / (1 + mpmath.exp(-x)),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: (
        x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)))
    ),
    "leaky_relu": lambda x: x if x > 0 else x / 100,
}

each_class = pytest.mark.parametrize("kind", CLASSES)
each_name = pytest.mark.parametrize("name", ACTIVATIONS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def both(kind):
    return getattr(fastmlp, kind)(), getattr(reference, kind)()


@each_dtype
@each_class
def test_forward_and_backward_equal_the_reference(kind, dtype):
    ours, theirs = both(kind)
    for shape in [(), (0, 5), (1, 1), (7,), (3, 4, 5), (17, 63)]:
        x, grad_y = floats(1, shape, dtype, -20, 7), floats(2, shape, dtype)
        assert_same_bits(ours.forward(x), theirs.forward(x))
        assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))
        assert list(ours.mem) == list(theirs.mem)
    x, grad_y = (a.ravel() for a in np.meshgrid(specials(dtype), specials(dtype)))
    assert_same_bits(ours.forward(x), theirs.forward(x))
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))


@each_name
def test_values_and_slopes_are_those_of_the_formula(name):
    x = np.concatenate([floats(3, 200, np.float64, -8, 3), [-30.0, -9.0, 9.0, 30.0, 600.0]])
    y, slope = y_and_slope(name, x)
    with mpmath.workdps(40):
        exact = [PLAIN[name](mpmath.mpf(v)) for v in x]
        derivative = [mpmath.diff(PLAIN[name], mpmath.mpf(v)) for v in x]
    np.testing.assert_allclose(y, np.array(exact, float), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(slope, np.array(derivative, float), rtol=1e-13, atol=1e-14)


@each_dtype
@each_name
def test_limits(name, dtype):
    huge, inf = np.finfo(dtype).max, np.inf
    x = np.array([-inf, -huge, huge, inf, np.nan], dtype)
    y, slope = y_and_slope(name, x)
    expected = {
        "tanh": ([-1, -1, 1, 1], [0, 0, 0, 0]),
        "logistic": ([0, 0, 1, 1], [0, 0, 0, 0]),
        "silu": ([-0.0, -0.0, huge, inf], [-0.0, -0.0, 1, 1]),
        "gelu": ([-0.0, -0.0, huge, inf], [0, 0, 1, 1]),
        "leaky_relu": ([-inf, dtype(0.01) * -huge, huge, inf], [dtype(0.01)] * 2 + [1, 1]),
    }[name]
    last = dtype(0.01) if name == "leaky_relu" else np.nan
    assert_same_bits(y, np.array([*expected[0], np.nan], dtype))
    assert_same_bits(slope, np.array([*expected[1], last], dtype))


@each_dtype
@each_name
def test_clamps_change_only_what_would_be_nan(name, dtype):
    limit = dtype({"silu": 800, "gelu": 10}.get(name, 1))
    x = np.concatenate([limit * (1 + floats(5, 300, dtype, -4, 0)), floats(6, 300, dtype, 3, 60)])
    x, one, half = np.concatenate([x, -x]), dtype(1), dtype(0.5)
    y, slope = y_and_slope(name, x)
    with np.errstate(all="ignore"):
        if name == "silu":
            s = y_and_slope("logistic", x)[0]
            plain = x * s, s * (one + x * (one - s))
        elif name == "gelu":
            a, b, c = dtype(np.sqrt(2 / np.pi)), dtype(0.044715), dtype(3 * 0.044715)
            t = y_and_slope("tanh", a * (x + b * ((x * x) * x)))[0]
            curved = ((half * x) * (one - t * t)) * (a * (one + c * (x * x)))
            plain = (half * x) * (one + t), half * (one + t) + curved
        else:
            return
    for ours, theirs in zip((y, slope), plain, strict=True):
        assert np.isfinite(ours).all()
        assert_same_bits(ours[~np.isnan(theirs)], theirs[~np.isnan(theirs)])


@each_dtype
@each_name
def test_rows_of_a_plan(name, dtype):
    """Columns around a vector's size, in rows that lie apart; nothing beside them is written."""
    kernel = kernels.activate_kernel(np.dtype(dtype), name)
    for columns in (1, 3, 15, 16, 17, 32, 70):
        rows, row_size = 4, columns + 5
        x = floats(columns, (rows, row_size), dtype, -20, 7)
        x.flat[::3] = np.resize(specials(dtype), x.flat[::3].size)
        expected_z, expected_slope = x.copy(), np.full_like(x, 7)
        y, slope = y_and_slope(name, x[:, :columns])
        expected_z[:, :columns], expected_slope[:, :columns] = y, slope
        z, slope = x.copy(), np.full_like(x, 7)
        run_operation(kernel, name, rows, z=z, slope=slope, row_size=row_size, columns=columns)
        assert_same_bits(z, expected_z)
        assert_same_bits(slope, expected_slope)
        z = x.copy()
        run_operation(kernel, name, rows, z=z, row_size=row_size, columns=columns)
        assert_same_bits(z, expected_z)


@each_class
def test_any_layout(kind):
    values, grad_y = floats(3, (6, 9), np.float32), floats(4, (6, 9), np.float32)
    ours, theirs = both(kind)
    y, grad_x = theirs.forward(values), theirs.backward(grad_y)
    for name, x in layouts(values):
        found = ours.forward(x)
        assert_same_bits(found, y)
        assert ours.mem["x"] is x, name
        assert not np.shares_memory(found, x)
        for _, grad in layouts(grad_y):
            found = ours.backward(grad)
            assert_same_bits(found, grad_x)
            assert not np.shares_memory(found, grad)
        assert_same_bits(x, values)


@each_class
def test_mixed_dtypes_promote_as_numpy_does(kind):
    ours, theirs = both(kind)
    x, grad_y = floats(7, (2, 3), np.float32), floats(8, (2, 3), np.float64)
    assert_same_bits(ours.forward(x), theirs.forward(x))
    assert ours.backward(grad_y).dtype == np.float64
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))


@each_name
def test_numpy_arithmetic_is_that_of_numpys_functions(name):
    kind = CLASSES[ACTIVATIONS.index(name)]
    x, grad_y = floats(5, (50, 100), np.float64, -6, 12), floats(6, (50, 100), np.float64)
    operation = getattr(fastmlp, kind)()
    with fastmlp.arithmetic("numpy"):
        y, grad_x = operation.forward(x), operation.backward(grad_y)
    assert_same_bits(y, y_and_slope(name, x, np.tanh, notebook.logistic)[0])
    kept = operation.mem.get("out", x)
    assert_same_bits(grad_x, grad_y * slope_at(name, kept, np.tanh, notebook.logistic))
    if name == "tanh":
        assert_same_bits(y, np.tanh(x))
        assert_same_bits(grad_x, grad_y * (1 - y * y))


@each_class
def test_errors_say_expected_got_and_mend(kind):
    operation = getattr(fastmlp, kind)()
    with pytest.raises(RuntimeError, match=rf"{kind}\.backward: expected a forward"):
        operation.backward(np.ones(3))
    with pytest.raises(TypeError, match=r"x: expected float32 or float64, got int64; pass "):
        operation.forward(np.arange(3))
    operation.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"grad_y: expected shape \(2, 3\).*got shape \(3, 2\)"):
        operation.backward(np.ones((3, 2)))

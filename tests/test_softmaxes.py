"""Softmax and LogSoftmax: what both promise of the rows they take."""

import numpy as np
import pytest
from helpers import DTYPES, ROW_SHAPES, assert_same_bits, floats, layouts, specials

import fastmlp
from fastmlp import notebook, reference

# The operation, and what its `mem` holds beside `out`.
NAMES = {"Softmax": "x_exp", "LogSoftmax": "p"}
LONG_ROWS = [(9, 1000), (3, 5000)]
each_name = pytest.mark.parametrize("name", NAMES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def assert_equals_reference(name, x, grad_y):
    ours, theirs = getattr(fastmlp, name)(), getattr(reference, name)()
    y = ours.forward(x)
    assert_same_bits(y, theirs.forward(x))
    assert ours.mem["out"] is y
    assert ours.mem.keys() == theirs.mem.keys() == {"out", NAMES[name]}
    assert_same_bits(ours.mem[NAMES[name]], theirs.mem[NAMES[name]])
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))


@each_dtype
@pytest.mark.parametrize(
    ("name", "shape"),
    [(name, shape) for name in NAMES for shape in ROW_SHAPES]
    + [("LogSoftmax", shape) for shape in LONG_ROWS],
    ids=str,
)
def test_forward_and_backward_equal_the_reference(dtype, name, shape):
    assert_equals_reference(name, floats(1, shape, dtype), floats(2, shape, dtype))


@each_dtype
@pytest.mark.parametrize("shape", [(0, 10), (1, 10), (2001, 10), (41, 300)], ids=str)
@each_name
def test_any_number_of_threads(name, dtype, shape, threads):
    assert_equals_reference(name, floats(3, shape, dtype), floats(4, shape, dtype))


@each_dtype
@pytest.mark.parametrize("classes", [1, 2, 3, 10, 16, 19])
@each_name
def test_special_values(name, dtype, classes):
    values = specials(dtype)
    raw = np.random.PCG64(classes).random_raw(2 * 500 * classes).reshape(2, 500, classes)
    x, grad_y = values[raw % len(values)]
    x[::2] = np.where(np.isfinite(x[::2]), x[::2], 0)
    assert_equals_reference(name, x, grad_y)


@each_dtype
@pytest.mark.parametrize("classes", [10, 33])
@each_name
def test_a_row_alone_equals_the_row_in_a_batch(name, dtype, classes):
    x, grad_y = floats(5, (70, classes), dtype), floats(6, (70, classes), dtype)
    batch, alone = getattr(fastmlp, name)(), getattr(fastmlp, name)()
    y, grad_x = batch.forward(x), batch.backward(grad_y)
    for row in range(len(x)):
        mine = slice(row, row + 1)
        assert_same_bits(alone.forward(x[mine]), y[mine])
        assert_same_bits(alone.backward(grad_y[mine]), grad_x[mine])


@each_dtype
@each_name
def test_any_layout(name, dtype):
    values, gradients = floats(7, (6, 19), dtype), floats(8, (6, 19), dtype)
    for _, x in layouts(values):
        for _, grad_y in layouts(gradients):
            assert_equals_reference(name, x, grad_y)
        assert_same_bits(x, values)


@each_name
def test_mixed_dtypes_promote_as_numpy_does(name):
    softmax = getattr(fastmlp, name)()
    assert softmax.forward(np.ones((2, 3), np.float32)).dtype == np.float32
    assert softmax.backward(np.ones((2, 3), np.float64)).dtype == np.float64


@each_dtype
def test_numpy_arithmetic_gives_the_notebooks_bits(dtype):
    x, grad_y = floats(9, (50, 10), dtype), floats(10, (50, 10), dtype)
    x_exp, s = notebook.exp_and_softmax(x, 1e-12)
    log_prob, p = notebook.log_softmax(x)
    with fastmlp.arithmetic("numpy"):
        softmax, log_softmax = fastmlp.Softmax(), fastmlp.LogSoftmax()
        assert_same_bits(softmax.forward(x), s)
        assert_same_bits(softmax.mem["x_exp"], x_exp)
        assert_same_bits(softmax.backward(grad_y), notebook.softmax_backward(s, grad_y))
        assert_same_bits(log_softmax.forward(x), log_prob)
        assert_same_bits(log_softmax.mem["p"], p)
        expected = notebook.log_softmax_backward(p, grad_y)
        assert_same_bits(log_softmax.backward(grad_y), expected)


@pytest.mark.parametrize("module", [fastmlp, reference])
@each_name
def test_errors_say_expected_got_and_mend(name, module):
    softmax = getattr(module, name)()
    with pytest.raises(RuntimeError, match=rf"^{name}\.backward: expected a forward"):
        softmax.backward(np.ones((2, 3)))
    with pytest.raises(TypeError, match=r"x: expected float32 or float64, got int64; pass "):
        softmax.forward(np.ones((2, 3), np.int64))
    with pytest.raises(ValueError, match=r"x: expected a matrix.*got shape \(3,\); pass "):
        softmax.forward(np.ones(3))
    with pytest.raises(ValueError, match=r"x: expected at least one class, got shape \(2, 0\); "):
        softmax.forward(np.ones((2, 0)))
    assert softmax.mem == {}
    softmax.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"grad_y: expected shape \(2, 3\).*got shape \(3, 2\)"):
        softmax.backward(np.ones((3, 2)))


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize("shape", [(), (0,), (12,), (1, 3, 4)], ids=str)
@pytest.mark.parametrize(("name", "key"), [("Softmax", "out"), ("LogSoftmax", "p")])
def test_backward_looks_at_the_axes_of_what_mem_holds(name, key, shape, module):
    """A kernel would read behind the end of an array of one axis."""
    operation = getattr(module, name)()
    operation.forward(floats(1, (3, 4), np.float32))
    operation.mem[key] = floats(1, shape, np.float32)
    with pytest.raises(ValueError, match=rf"mem\['{key}'\]: expected a matrix \(2 axes\), got"):
        operation.backward(floats(2, shape, np.float32))
    operation.forward(floats(1, (3, 4), np.float32))
    operation.backward(floats(2, (3, 4), np.float32))

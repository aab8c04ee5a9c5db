"""Usual arrays go straight to the kernels, which look at them: what that changes, and what not."""

import sys
from contextlib import nullcontext
from itertools import count

import numpy as np
import pytest
from fastmlp_kernels import product as kernels
from fastmlp_kernels import relu
from fastmlp_kernels.plans.record import usual_place
from helpers import DTYPES, all_checked, assert_same_bits, floats
from odd_inputs import KINDS, small_numbers

import fastmlp
from fastmlp.model.addresses import product_plan
from fastmlp.operations import matmul, matmul_relu, product
from fastmlp.plan.matmul import plan_forward

# Each operation with good arguments of forward and of backward.
OPERATIONS = {
    "Matmul": ([small_numbers(5, 3), small_numbers(3, 4)], small_numbers(5, 4)),
    "MatmulRelu": ([small_numbers(5, 3), small_numbers(3, 4)], small_numbers(5, 4)),
    "biased": ([small_numbers(5, 3), small_numbers(3, 4), small_numbers(4)], small_numbers(5, 4)),
    "into": ([small_numbers(5, 3), small_numbers(3, 4), small_numbers(5, 4)], small_numbers(5, 4)),
    **{
        name: ([small_numbers(5, 3)], small_numbers(5, 3) - 1)
        for name in ("Relu", "Log", "Softmax", "LogSoftmax", "Tanh", "Logistic", "Silu", "Gelu")
    },
}
each_operation = pytest.mark.parametrize("name", OPERATIONS)


def make(name):
    return fastmlp.MatmulRelu() if name == "biased" else getattr(fastmlp, name, fastmlp.Matmul)()


def forward(name, operation, given):
    if name == "into":
        return operation.forward(*given[:2], out=given[2])
    return operation.forward(*given)


def results_of(name, given, grad_y):
    """What forward and backward return, and hold, or the error: in one list."""
    operation = make(name)
    try:
        found = [forward(name, operation, given)]
        found += [operation.mem[key] for key in sorted(operation.mem)]
        gradients = operation.backward(grad_y)
    except (TypeError, ValueError, RuntimeError) as error:
        return [type(error), str(error)]
    return [*found, *(gradients if isinstance(gradients, tuple) else [gradients])]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, np.ndarray):
            assert_same_bits(one, other)
            assert (one.flags.owndata, one.base is None) == (other.flags.owndata, True)
        else:
            assert one is other or one == other


def cast(name, dtype):
    given, grad_y = OPERATIONS[name]
    return [array.astype(dtype) for array in given], grad_y.astype(dtype)


@pytest.fixture
def no_checks(monkeypatch):
    """Every check of arrays fails: what works has had none."""

    def refuse(*_, **__):
        raise AssertionError("checked")

    names = "real_arrays", "own_arrays", "product_shapes", "output", "like"
    for module in "matmul", "matmul_relu", "relu", "log", "softmax", "log_softmax", "activations":
        for name in names:
            place = f"fastmlp.operations.{module}.{name}"
            monkeypatch.setattr(place, refuse, raising=False)


@pytest.mark.parametrize("dtype", DTYPES)
@each_operation
def test_usual_arrays_have_the_same_bits_without_checks(name, dtype, request):
    given, grad_y = cast(name, dtype)
    with all_checked():
        expected = results_of(name, [array.copy() for array in given], grad_y)
    results_of(name, given, grad_y)
    request.getfixturevalue("no_checks")
    found = results_of(name, given, grad_y)
    assert_same(found[:1], expected[:1])
    assert all(array.flags.carray for array in found if array is not None)
    for one, other in zip(found, expected, strict=True):
        if one is not None:
            assert_same_bits(one, other)


@each_operation
@pytest.mark.parametrize("kind", KINDS)
def test_any_other_array_is_checked_as_ever(name, kind):
    """After the usual ones, and with each argument in turn: the same results or errors."""
    given, grad_y = OPERATIONS[name]
    results_of(name, [array.copy() for array in given], grad_y)
    for number in range(len(given) + 1):

        def arguments(number=number):
            odd = [array.copy() for array in (*given, grad_y)]
            odd[number] = KINDS[kind](odd[number])
            return odd[:-1], odd[-1]

        with all_checked():
            expected = results_of(name, *arguments())
        found = results_of(name, *arguments())
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            if isinstance(one, np.ndarray):
                assert_same_bits(one, other)
            elif not isinstance(one, str) or "0x" not in one:
                assert one is other or one == other


@pytest.mark.parametrize("shift", [0, 3, 4, -4, 20])
def test_an_out_that_overlaps_is_refused(shift):
    memory = np.zeros(200, np.float32)
    x, W = memory[50:65].reshape(5, 3), small_numbers(3, 4)
    operation = fastmlp.Matmul()
    operation.forward(x.copy(), W)
    for out in (
        memory[50 + shift : 70 + shift].reshape(5, 4),
        np.ndarray((5, 4), np.float32, memory, 4 * (50 + shift)),
    ):
        apart = not np.shares_memory(out, x)
        if apart:
            assert operation.forward(x, W, out=out) is out
        else:
            with pytest.raises(ValueError, match="out: expected memory of its own, got an array t"):
                operation.forward(x, W, out=out)
    square, b = small_numbers(4, 4), memory[:4]
    layer, row = fastmlp.MatmulRelu(), small_numbers(1, 4)
    layer.forward(square, square.copy())
    with pytest.raises(ValueError, match=r"out: expected memory of its own, .* overlaps W"):
        layer.forward(square.copy(), square, out=square)
    layer.forward(row, square, b)
    with pytest.raises(ValueError, match=r"out: expected memory of its own, .* overlaps b"):
        layer.forward(row, square, b, out=b.reshape(1, 4))


# Each update with what follows its lists, and how many states it keeps.
UPDATES = {
    "sgd": (0, (0.5,)),
    "momentum": (1, (0.5, 0.5)),
    "nesterov": (1, (0.5, 0.5)),
    "adam": (2, (3, 0.5)),
    "adamw": (2, (3, 0.5)),
}
each_update = pytest.mark.parametrize("name", UPDATES)


def lists_of(name, dtype=np.float32):
    """Lists of a matrix and a row."""
    shapes = (3, 4), (4,)
    count = 2 + UPDATES[name][0]
    return [[small_numbers(*shape, dtype=dtype) + k for shape in shapes] for k in range(count)]


def updated(name, lists):
    """What an update makes of lists, or the error."""
    try:
        getattr(fastmlp, name)(*lists, *UPDATES[name][1])
    except (TypeError, ValueError, RuntimeError) as error:
        return [str(error)]
    return [np.array(array) for arrays in lists for array in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@each_update
def test_updates_of_usual_arrays_have_the_same_bits_without_checks(name, dtype, monkeypatch):
    with all_checked():
        expected = updated(name, lists_of(name, dtype))
    monkeypatch.setattr("fastmlp.operations.update.updatable", None)
    for one, other in zip(updated(name, lists_of(name, dtype)), expected, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("kind", KINDS)
@each_update
def test_any_other_array_of_an_update_is_checked_as_ever(name, kind):
    for number in range(2 + UPDATES[name][0]):
        outcomes = []
        for closed in (True, False):
            lists = lists_of(name)
            lists[number][0] = KINDS[kind](lists[number][0])
            with all_checked() if closed else nullcontext():
                outcomes.append(updated(name, lists))
        for one, other in zip(*outcomes, strict=True):
            if isinstance(one, str):
                assert one == other
            else:
                assert_same_bits(one, other)


@pytest.mark.parametrize(
    "odd",
    [
        lambda lists: [tuple(lists[0]), iter(lists[1])],
        lambda lists: [lists[0], lists[1][:1]],
        lambda lists: [lists[0][:1], lists[1]],
        lambda lists: [[], []],
        lambda lists: [[lists[0][0], lists[0][0]], [lists[1][0], lists[1][0]]],
        lambda lists: [[lists[0][0]], [lists[0][0]]],
        lambda lists: [[lists[0][0], lists[0][0][1]], lists[1]],
        lambda lists: [[lists[0][0][:0]], [lists[1][0][:0]]],
        lambda lists: [[lists[0][0][np.newaxis]], [lists[1][0][np.newaxis]]],
        lambda lists: [[lists[0][0].astype("f8"), lists[0][1]], lists[1]],
        lambda lists: [[np.array(3, "f4")], [np.array(2, "f4")]],
    ],
)
def test_any_other_list_of_an_update_is_checked_as_ever(odd):
    outcomes = []
    for closed in (True, False):
        with all_checked() if closed else nullcontext():
            outcomes.append(updated("sgd", odd(lists_of("sgd"))))
    for one, other in zip(*outcomes, strict=True):
        if isinstance(one, str):
            assert one == other
        else:
            assert_same_bits(one, other)


@pytest.mark.parametrize("number", [0, 1])
def test_a_list_that_another_thread_shortens_is_an_error_or_whole(number):
    """At each line of the way to the kernel; a tracing function stands for the other thread."""
    outcomes, line = set(), 0
    while True:
        line, lists, lines = line + 1, lists_of("sgd"), count(1)

        def other_thread(frame, event, argument, lists=lists, lines=lines, line=line):
            if not frame.f_code.co_filename.endswith("update.py"):
                return None
            if event == "line" and next(lines) == line:
                lists[number].pop()
            return other_thread

        before = sys.gettrace()
        sys.settrace(other_thread)
        try:
            result = updated("sgd", lists)
        finally:
            sys.settrace(before)
        if len(lists[number]) == 2:
            break
        outcomes.add(isinstance(result[0], str))
    assert outcomes == {True, False}


def test_plans_of_one_place_take_turns():
    """Shapes whose plans have one place: each is found again, and none runs the other's."""
    shapes = (5, 64, 64), (5, 65, 57), (5, 63, 71)
    assert len({usual_place(*shape) for shape in shapes}) == 1
    for _ in range(3):
        for M, K, N in shapes:
            x, W = floats(1, (M, K), "f4"), floats(2, (K, N), "f4")
            with all_checked():
                expected = fastmlp.Matmul().forward(x, W)
            for _ in range(2):
                assert_same_bits(fastmlp.Matmul().forward(x, W), expected)


def test_a_plan_that_ran_is_held_no_longer():
    x, W = floats(1, (5, 19), "f4"), floats(2, (19, 23), "f4")
    operation = fastmlp.Matmul()
    grad_y = operation.forward(x, W)
    operation.backward(grad_y)
    plans = [
        each.plans[usual_place(5, 19, 23)] for each in (matmul._FORWARD, matmul._BACKWARD)
    ]
    arrays = [*plans, x, W, grad_y]
    before = [sys.getrefcount(array) for array in arrays]
    for _ in range(10):
        y = operation.forward(x, W, out=grad_y)
        gradients = operation.backward(grad_y)
    assert y is grad_y
    del y
    assert [sys.getrefcount(array) for array in arrays] == before
    plain = np.empty(1), np.empty(1)
    counts = [[sys.getrefcount(array) for array in pair] for pair in (gradients, plain)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("name", "kind"), [("Matmul", matmul._FORWARD), ("MatmulRelu", matmul_relu._RELU)]
)
def test_large_products_have_as_many_threads_as_are_set(name, kind, monkeypatch):
    """And those whose plans need much memory have it."""
    x, W, grad_y = floats(1, (70, 100), "f4"), floats(2, (100, 90), "f4"), floats(3, (70, 90), "f4")
    with all_checked():
        expected = results_of(name, [x, W], grad_y)
    asked = []
    before = fastmlp.get_num_threads()
    call = product.Product._needs_of
    monkeypatch.setattr(
        product.Product, "_needs_of", lambda *given: (asked.append(call(*given)), asked[-1])[1]
    )
    try:
        for num_threads in (2, 1, 2, 2, 1, 1):
            fastmlp.set_num_threads(num_threads)
            asked.clear()
            assert_same_bits(results_of(name, [x, W], grad_y)[0], expected[0])
            for one, other in zip(results_of(name, [x, W], grad_y), expected, strict=True):
                if one is not None:
                    assert_same_bits(one, other)
            assert {given[0] for given in asked} <= {num_threads}
            assert kind.plans[usual_place(70, 100, 90)][1] == num_threads
            # Backward packs W: more memory than a call takes by itself.
            assert asked[-1][1].size >= 1 << 13
    finally:
        fastmlp.set_num_threads(before)


def test_numpys_arithmetic_has_no_usual_arrays():
    x, W = floats(1, (12, 300), "f4"), floats(2, (300, 31), "f4")
    for _ in range(2):
        y = fastmlp.Matmul().forward(x, W)
    fastmlp.Log().forward(abs(x))
    assert (y != np.matmul(x, W)).any()
    with fastmlp.arithmetic("numpy"):
        assert_same_bits(fastmlp.Matmul().forward(x, W), np.matmul(x, W))
        assert_same_bits(fastmlp.Log().forward(abs(x)), np.log(abs(x) + np.float32(1e-12)))


def test_kernels_refuse_arrays_that_are_not_what_they_need():
    layout = (5, 3), (12, 4), (3, 4), (16, 4), (16, 4), 4, 1
    words = product_plan(plan_forward, *layout).words
    run, x, W = kernels.run[np.dtype("f4")], small_numbers(5, 3), small_numbers(3, 4)
    y = np.full((5, 4), 7, np.float32)
    frozen = y.copy()
    frozen.flags.writeable = False
    assert not run(words, None, x, W, frozen, None, None, None)
    for wrong in (
        x[:4], x[:, :2], x[0], x.ravel(), x[np.newaxis], x.astype("f8"), x.astype(">f4"),
        x.astype("i4"), np.asfortranarray(x), x.view(np.recarray), None, [x], 3,
    ):  # fmt: skip
        assert not run(words, None, wrong, W, y, None, None, None)
        assert not run(words, None, x, wrong, y, None, None, None)
        assert not run(words, None, x, W, wrong, None, None, None)
    assert (y == 7).all()
    assert run(words, None, x, W, y, None, None, None)
    assert (y == x @ W).all()
    apply, z = relu.forward[np.dtype("f4")], np.full((5, 3), 7, np.float32)
    for wrong in (
        x[:4], x.ravel(), x[np.newaxis], x.astype("f8"), x.astype(">f4"), x.T.copy().T, None, [x],
        x.reshape(3, 5),
    ):  # fmt: skip
        assert not apply(wrong, z, z, 0.0, 1)
        assert not apply(x, wrong, z, 0.0, 1)
        assert not apply(x, z, wrong, 0.0, 1)
    assert (z == 7).all()
    assert apply(x, z, z, 0.0, 1)
    assert (z == x).all()


def test_arrays_that_shrink_during_a_call_are_an_error(monkeypatch):
    """Another thread has resized one after its shape was read: the kernel refuses it."""
    x = np.ones(1000, np.float32)
    monkeypatch.setattr(np, "ascontiguousarray", lambda array: array[:10].copy())
    with all_checked(), pytest.raises(RuntimeError, match="arrays: expected them to stay as they"):
        fastmlp.Relu().forward(x)

import numpy as np
import pytest
from helpers import (
    DTYPES,
    assert_same_bits,
    floats,
    layouts,
    oracle,
    oracle_array,
    specials,
    with_threads,
)

import fastmlp
from fastmlp import reference
from fastmlp.reference.matmul import matmul

# Around the sizes of a vector, a tile, a block of rows and a leaf, and of several leaves.
SHAPES = [
    (1, 1, 1), (2, 3, 4), (5, 1, 17), (1, 300, 10), (7, 17, 33), (3, 0, 4), (0, 5, 3), (4, 5, 0),
    (13, 255, 16), (13, 256, 15), (13, 257, 12), (65, 30, 52), (70, 785, 20), (2, 1800, 100),
    (200, 20, 70), (3, 4700, 5), (12, 9, 130),
    (40, 5000, 9),  # many leaves, which threads share
    (20, 600, 520),  # rows of W that lie far apart
]  # fmt: skip


@pytest.mark.parametrize("name", oracle("matmul"))
def test_oracle(name):
    a, b, c = (oracle_array(f"{name}_{part}") for part in "ABC")
    assert_same_bits(matmul(a, b), c)
    assert_same_bits(fastmlp.Matmul().forward(a, b), c)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward_equal_the_reference(shape, dtype, num_threads):
    M, K, N = shape
    x, W, grad_y = floats(1, (M, K), dtype), floats(2, (K, N), dtype), floats(3, (M, N), dtype)
    ours, theirs = fastmlp.Matmul(), reference.Matmul()
    with with_threads(num_threads):
        assert_same_bits(ours.forward(x, W), theirs.forward(x, W))
        for actual, expected in zip(ours.backward(grad_y), theirs.backward(grad_y), strict=True):
            assert_same_bits(actual, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout_and_the_callers_arrays_stay(dtype):
    values, weights, grad = (
        floats(4, (9, 20), dtype),
        floats(5, (20, 7), dtype),
        floats(6, (9, 7), dtype),
    )
    expected = reference.Matmul()
    y = expected.forward(values, weights)
    grad_x, grad_W = expected.backward(grad)
    for _, x in layouts(values):
        for _, W in layouts(weights):
            ours = fastmlp.Matmul()
            assert_same_bits(ours.forward(x, W), y)
            assert ours.mem["x"] is x
            assert ours.mem["W"] is W
            for _, grad_y in layouts(grad):
                actual = ours.backward(grad_y)
                assert_same_bits(actual[0], grad_x)
                assert_same_bits(actual[1], grad_W)
            assert_same_bits(x, values)
            assert_same_bits(W, weights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_broadcast_inputs(dtype):
    x = np.broadcast_to(floats(7, (1, 30), dtype), (8, 30))
    W = np.broadcast_to(floats(8, (30, 1), dtype), (30, 5))
    assert_same_bits(fastmlp.Matmul().forward(x, W), matmul(x.copy(), W.copy()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(dtype):
    values = specials(dtype)
    x = np.array([np.roll(values, i) for i in range(40)])
    W = np.array([np.roll(values, 3 * i) for i in range(21)]).T.copy()
    assert_same_bits(fastmlp.Matmul().forward(x, W), matmul(x, W))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_alone_has_the_bits_it_has_in_a_batch(dtype):
    x, W = floats(9, (300, 600), dtype), floats(10, (600, 37), dtype)
    y = fastmlp.Matmul().forward(x, W)
    for i in (0, 1, 63, 64, 299):
        assert_same_bits(fastmlp.Matmul().forward(x[i : i + 1], W), y[i : i + 1])
    assert_same_bits(fastmlp.Matmul().forward(x[100:107], W), y[100:107])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_threads", [1, 2])
def test_many_samples_share_the_index(dtype, num_threads):
    """Leaves split over threads at nodes of the tree: integers, so that equality needs no tree."""
    x = np.round(floats(11, (20_000, 6), dtype, -1, 3))
    grad_y = np.round(floats(12, (20_000, 5), dtype, -1, 3))
    ours = fastmlp.Matmul()
    with with_threads(num_threads):
        ours.forward(x, np.ones((6, 5), dtype))
        assert_same_bits(ours.backward(grad_y)[1], (x.T @ grad_y).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_out(dtype):
    x, W = floats(13, (9, 20), dtype), floats(14, (20, 7), dtype)
    y = matmul(x, W)
    for name, out in layouts(np.full((9, 7), np.nan, dtype)):
        if name == "read-only":
            continue
        assert fastmlp.Matmul().forward(x, W, out=out) is out
        assert_same_bits(out, y)


def test_an_out_of_another_class(tmp_path):
    """As np.memmap, whose memory is a file's; also where the shapes are not new any more."""
    x, W, b = floats(13, (9, 20), np.float32), floats(14, (20, 7), np.float32), np.ones(7, "f4")
    for _ in range(2):
        out = np.memmap(tmp_path / "out", np.float32, "w+", shape=(9, 7))
        assert fastmlp.Matmul().forward(x, W, out=out) is out
        assert_same_bits(out, matmul(x, W))
        assert fastmlp.MatmulRelu().forward(x, W, b, out=out) is out
        assert_same_bits(out, reference.MatmulRelu().forward(x, W, b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_is_written_outside_the_result(dtype):
    for M, K, N in [(1, 3, 1), (7, 300, 9), (70, 9, 101), (3, 5, 33)]:
        x, W = floats(15, (M, K), dtype), floats(16, (K, N), dtype)
        guarded = np.full((M + 2, N + 40), 7, dtype)
        fastmlp.Matmul().forward(x, W, out=guarded[1:-1, 20:-20])
        assert_same_bits(guarded[1:-1, 20:-20], matmul(x, W))
        guarded[1:-1, 20:-20] = 7
        assert (guarded == 7).all()


def test_an_empty_out_is_no_broadcast_array():
    """NumPy gives some empty arrays strides of 0."""
    out = np.lib.stride_tricks.as_strided(np.empty(0), (0, 2), (8, 0))
    assert fastmlp.Matmul().forward(np.ones((0, 3)), np.ones((3, 2)), out=out) is out


def test_mixed_dtypes_promote_as_numpy_does():
    x, W = np.ones((2, 3), np.float32), np.ones((3, 2))
    assert fastmlp.Matmul().forward(x, W).dtype == np.float64
    assert fastmlp.Matmul().forward(x, np.ones((3, 2), np.int8)).dtype == np.float32
    assert fastmlp.Matmul().forward(x.astype(">f4"), x.T.tolist()).dtype == np.float64


def test_numpy_arithmetic_gives_numpys_bits():
    x, W, grad_y = (floats(seed, shape, np.float64) for seed, shape in
                    ((17, (128, 785)), (18, (785, 100)), (19, (128, 100))))  # fmt: skip
    with fastmlp.arithmetic("numpy"):
        ours = fastmlp.Matmul()
        assert_same_bits(ours.forward(x, W), np.matmul(x, W))
        grad_x, grad_W = ours.backward(grad_y)
    assert_same_bits(grad_x, np.matmul(grad_y, W.T))
    assert_same_bits(grad_W, np.matmul(x.T, grad_y))


@pytest.mark.parametrize(
    ("x", "W", "kind", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), ValueError, r"x @ W: expected as many columns in x as"),
        (
            np.ones(3),
            np.ones((3, 2)),
            ValueError,
            r"x: expected a matrix .* got shape \(3,\); pass np.atl",
        ),
        (np.ones((2, 3)), np.ones((3, 2, 1)), ValueError, r"W: expected a matrix"),
        (
            np.ones((2, 3), int),
            np.ones((3, 2), int),
            TypeError,
            r"x, W: expected float32 or float64",
        ),
        (
            np.ones((2, 3), complex),
            np.ones((3, 2)),
            TypeError,
            r"x: .* got complex128; pass np.real",
        ),
        ([["a"]], np.ones((1, 2)), TypeError, r"x: expected an array of float32 or float64"),
    ],
)
def test_errors_say_expected_got_and_mend(x, W, kind, message):
    with pytest.raises(kind, match=message):
        fastmlp.Matmul().forward(x, W)


def test_a_bad_out_is_refused_before_anything_is_written():
    x, W = np.ones((4, 4)), np.ones((4, 4))
    read_only = np.zeros((4, 4))
    read_only.flags.writeable = False
    for out, kind, message in [
        (np.zeros((4, 3)), ValueError, r"out: expected shape \(4, 4\), got shape \(4, 3\)"),
        (np.zeros((4, 4), np.float32), TypeError, "out: expected float64, got float32"),
        (read_only, ValueError, "out: expected a writable array"),
        (x, ValueError, "out: expected memory of its own, got an array that overlaps x"),
        ([[0.0] * 4] * 4, TypeError, "out: expected a NumPy array, got list"),
    ]:
        with pytest.raises(kind, match=message):
            fastmlp.Matmul().forward(x, W, out=out)
    assert (x == 1).all()


def test_backward_checks_its_input():
    ours = fastmlp.Matmul()
    with pytest.raises(RuntimeError, match=r"Matmul\.backward: expected a forward"):
        ours.backward(np.ones((2, 2)))
    ours.forward(np.ones((2, 3)), np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"grad_y: expected shape \(2, 4\), that of x @ W, got"):
        ours.backward(np.ones((4, 2)))

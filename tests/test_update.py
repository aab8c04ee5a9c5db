from math import sqrt

import numba
import numpy as np
import pytest
from fastmlp_kernels.arithmetic import subnormal
from fastmlp_kernels.compiling.cpu import has_fma
from fastmlp_kernels.update import quotient, reciprocal
from helpers import DTYPES, assert_same_bits, floats, layouts, specials

import fastmlp
from fastmlp import reference

SHAPES = [(0, 5), (), (1, 1), (7,), (3, 4, 5), (30, 41), (130, 401)]
KINDS = ["sgd", "momentum", "nesterov", "adam", "adamw"]
STATES = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "adamw": 2}
DECAYS = [0.9, 0.5, 0.0, -0.0, 0.999999, 1e-30, -0.5, 1.0, 1.5, np.nan]


def lists_of(kind, dtypes, shapes, seed=1):
    """The lists params, grads and states; a second state is positive."""
    lists = [
        [
            np.asarray(floats(seed + 100 * j + i, s, np.dtype(t)))
            for i, (s, t) in enumerate(zip(shapes, dtypes, strict=True))
        ]
        for j in range(2 + STATES[kind])
    ]
    if STATES[kind] == 2:
        lists[3] = [np.asarray(np.abs(v)) for v in lists[3]]
    return lists


def update(module, kind, lists, step=1):
    constants = {
        "sgd": {"learning_rate": 0.1},
        "momentum": {"learning_rate": 0.1, "momentum": 0.9},
        "nesterov": {"learning_rate": 0.1, "momentum": 0.9},
        "adam": {"step": step, "learning_rate": 1e-3},
        "adamw": {"step": step, "learning_rate": 1e-3, "weight_decay": 0.3},
    }
    assert getattr(module, kind)(*lists, **constants[kind]) is None


def copy_of(lists):
    return [[array.copy() for array in arrays] for arrays in lists]


def assert_same_lists(actual, expected):
    for arrays, others in zip(actual, expected, strict=True):
        for array, other in zip(arrays, others, strict=True):
            assert_same_bits(array, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtypes", [["f4"], ["f8"], ["f4", "f8"]], ids=["f4", "f8", "mixed"])
def test_several_steps_equal_the_reference(kind, dtypes, threads):
    dtypes = [np.dtype(dtypes[i % len(dtypes)]) for i in range(len(SHAPES))]
    ours = lists_of(kind, dtypes, SHAPES)
    theirs, before = copy_of(ours), copy_of(ours)
    for step in range(1, 5):
        update(fastmlp, kind, ours, step)
        update(reference, kind, theirs, step)
        assert_same_lists(ours, theirs)
    assert_same_lists(ours[1:2], before[1:2])
    assert not np.array_equal(ours[0][-1], before[0][-1])


def by_hand(kind, p, g, states, step):
    """One float64 element by Python's own arithmetic, as the contract writes it."""
    if kind == "sgd":
        return p - 0.1 * g, []
    if kind in ("momentum", "nesterov"):
        v = 0.9 * states[0] + g
        return p - 0.1 * (v if kind == "momentum" else g + 0.9 * v), [v]
    m = 0.9 * states[0] + (1 - 0.9) * g
    v = 0.999 * states[1] + (1 - 0.999) * (g * g)
    power1 = power2 = 1.0
    for _ in range(step):
        power1, power2 = power1 * 0.9, power2 * 0.999
    s, c = 1e-3 / (1 - power1), sqrt(1 - power2)
    if kind == "adamw":
        p = (1 - 1e-3 * 0.3) * p
    return p - (s * m) / (sqrt(v) / c + 1e-8), [m, v]


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize("kind", KINDS)
def test_float64_equals_python_floats(module, kind):
    lists = lists_of(kind, ["f8"], [(50,)])
    for step in range(1, 12):
        update_by_hand = [
            by_hand(kind, row[0], row[1], row[2:], step)
            for row in zip(*[arrays[0].tolist() for arrays in lists], strict=True)
        ]
        update(module, kind, lists, step)
        assert lists[0][0].tolist() == [p for p, _ in update_by_hand]
        for i, arrays in enumerate(lists[2:]):
            assert arrays[0].tolist() == [states[i] for _, states in update_by_hand]


@pytest.mark.parametrize("step", [3, 2, 50, 1, 100_000])
def test_adam_counts_the_step_wherever_it_starts(step):
    ours = lists_of("adam", ["f8"], [(9,)])
    theirs = copy_of(ours)
    update(fastmlp, "adam", ours, step)
    update(reference, "adam", theirs, step)
    assert_same_lists(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_special_values(kind, dtype):
    values = specials(dtype)
    p, g = (a.ravel() for a in np.meshgrid(values, values))
    ours = [[p.copy()], [g.copy()], *[[np.roll(g, 3 * i + 3)] for i in range(STATES[kind])]]
    theirs = copy_of(ours)
    update(fastmlp, kind, ours)
    update(reference, kind, theirs)
    assert_same_lists(ours, theirs)


def tiny_numbers(dtype):
    """Numbers from 0 to above those that the kernels take for tiny, most of them subnormal."""
    limits = np.finfo(dtype)
    unit, normal = limits.smallest_subnormal, limits.smallest_normal
    at_random = np.random.default_rng(0).integers(1, 2**limits.nmant, 40) * unit
    tiny = np.dtype(dtype).type(2.0**-100 if dtype == np.float32 else 2.0**-900)
    edges = [np.nextafter(limit, dtype(to)) for limit in (normal, tiny) for to in (0, 1)]
    positive = np.concatenate([np.arange(20) * unit, at_random, [normal, 3 * normal, tiny], edges])
    return np.concatenate([positive, -positive, [1e-20, np.inf, np.nan]]).astype(dtype)


# epsilon, v before the step, beta2, step; the last divisor is 0.
DIVISORS = [
    (1e-8, 0, 0.999, 2),
    (0, 0, 0.9, 9),
    (1e-30, 1e-6, 0.9, 1),
    (-(2**-10), 2**-19, 0.5, 99),
]


@pytest.mark.parametrize("rate", [0.1, 0.0, -3.0, 1e30, 1e-30])
@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_tiny_states(dtype, decay, rate):
    states, small = tiny_numbers(dtype), 2.0 ** (-73 if dtype == np.float32 else -844)
    params = [
        0.0,
        -0.0,
        0.03,
        -7.0,
        np.inf,
        np.nan,
        *(np.arange(1, 9) * small * 0.25),
        1e30 * small,
    ]
    params += [states[1], states[30]]
    p, velocity = (a.ravel() for a in np.meshgrid(np.array(params, dtype), states))
    for g in (dtype(0), -dtype(0), states[1], states[30], dtype(1e-3)):
        for kind in ("momentum", "nesterov"):
            ours = [[p.copy()], [np.full_like(p, g)], [velocity.copy()]]
            theirs = copy_of(ours)
            for _ in range(3):
                getattr(fastmlp, kind)(*ours, rate, decay)
                getattr(reference, kind)(*theirs, rate, decay)
                assert_same_lists(ours, theirs)
        if not 0 <= decay < 1:
            continue
        for epsilon, square, beta2, step in DIVISORS:
            ours = [[p.copy()], [np.full_like(p, g)], [velocity.copy()], [np.full_like(p, square)]]
            for kind, more in (("adam", ()), ("adamw", (0.25,)), ("adamw", (1e30,))):
                mine, theirs = copy_of(ours), copy_of(ours)
                getattr(fastmlp, kind)(*mine, step, rate, decay, beta2, epsilon, *more)
                getattr(reference, kind)(*theirs, step, rate, decay, beta2, epsilon, *more)
                assert_same_lists(mine, theirs)


@pytest.mark.skipif(not has_fma(), reason="the functions are made of the CPU's FMA")
@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_chosen_for_cpus_that_stall(dtype, decay):
    values, decay = tiny_numbers(dtype), dtype(decay)
    products, kept = np.empty_like(values), np.empty_like(values)

    @numba.njit(error_model="numpy")
    def run(decay, values, p, products, kept):
        least = subnormal.negligible_beside(decay)
        for i in range(values.size):
            products[i] = subnormal._decayed_by_fma(decay, values[i])
            kept[i] = p - decay * subnormal._without_tiny(values[i], p, least)

    with np.errstate(all="ignore"):
        for p in (
            0.0,
            -0.0,
            1.0,
            np.nan,
            *(2.0 ** np.arange(-76, -70)),
            *(2.0 ** np.arange(-847, -840)),
        ):
            run(decay, values, dtype(p), products, kept)
            assert_same_bits(products, decay * values)
            assert_same_bits(kept, dtype(p) - decay * values)


def hardest_quotients(dtype, count=2000):
    """Pairs a, c < 1 whose quotient is as near as can be to the middle between two numbers.

    Of p bits, a / c = (A / 2^(p + 1)) / (C / 2^p), and A 2^(p + 1) = Q C + 1 or Q C - 1 for an
    odd Q of p + 1 bits, the middle.
    """
    p = np.finfo(dtype).nmant + 1
    draws = np.random.PCG64(5).random_raw(count) >> np.uint64(64 - p)
    pairs = []
    for C in [2**p - 1, *(int(draw) | 2 ** (p - 1) | 1 for draw in draws)]:
        for error in (1, -1):
            Q = pow(C, -1, 2 ** (p + 1)) * -error % 2 ** (p + 1)
            if Q >> p:
                A = (Q * C + error) >> (p + 1)
                pairs.append((float(A) / 2.0 ** (p + 1), float(C) / 2.0**p))
    return pairs


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_quotient_by_a_constant_is_rounded_once(dtype):
    @numba.njit(error_model="numpy")
    def run(roots, c, quotients):
        inverse = reciprocal(c)
        for i in range(roots.size):
            quotients[i] = quotient(roots[i], c, inverse)

    limits = np.finfo(dtype)
    ends = np.sqrt([0, limits.smallest_subnormal, limits.smallest_normal, limits.max, np.inf])
    for a, c in hardest_quotients(dtype):
        for scale in (1.0, 2.0**-12, 2.0**-26):
            c_scaled = dtype(c * scale)
            roots = np.array([a, a / 32, 1.0, c, *ends, np.nan], dtype)
            quotients = np.empty_like(roots)
            run(roots, c_scaled, quotients)
            assert_same_bits(quotients, roots / c_scaled)


@pytest.mark.parametrize("kind", KINDS)
def test_constants_are_rounded_once_to_the_dtype(kind):
    p, g = np.float32(1), np.float32(3)
    lists = [[np.array([p])], [np.array([g])], *[[np.zeros(1, "f4")] for _ in range(STATES[kind])]]
    update(fastmlp, kind, lists)
    if STATES[kind] == 2:
        assert lists[2][0][0] == np.float32(1 - 0.9) * g
        assert lists[3][0][0] == np.float32(1 - 0.999) * (g * g)
    else:
        ahead = g + np.float32(0.9) * g if kind == "nesterov" else g
        assert lists[0][0][0] == p - np.float32(0.1) * ahead
    fastmlp.sgd(lists[0], lists[1], 1e300)
    assert lists[0][0][0] == -np.inf


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_any_layout_is_updated_in_place(kind, dtype):
    lists = lists_of(kind, [dtype], [(6, 9)])
    expected = copy_of(lists)
    update(reference, kind, expected)
    for which in range(len(lists)):
        for name, array in layouts(lists[which][0]):
            if name == "read-only" and which != 1:
                continue
            given = copy_of(lists)
            given[which] = [array]
            update(fastmlp, kind, given)
            assert_same_lists(given, expected)


def test_the_rest_of_a_sliced_array_is_untouched():
    wide = np.zeros((6, 8), np.float32)
    fastmlp.sgd([wide[1::2, ::4], wide[::2, 1]], [np.ones((3, 2), "f4"), np.ones(3, "f4")], -2.0)
    expected = np.zeros((6, 8), np.float32)
    expected[1::2, ::4] = expected[::2, 1] = 2
    assert_same_bits(wide, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_views_of_one_buffer_and_their_buffer_agree(kind, threads):
    flat = lists_of(kind, ["f4"], [(50_001,)])
    whole = copy_of(flat)
    views = [np.split(arrays[0], [7, 7, 30_000, 50_000]) for arrays in flat]
    update(fastmlp, kind, views)
    update(fastmlp, kind, whole)
    assert_same_lists(flat, whole)


def test_a_float32_gradient_beside_a_float64_parameter_is_promoted():
    p, g = floats(1, (20,), np.float64), floats(2, (20,), np.float32)
    expected = [p - 0.3 * g.astype(np.float64)]
    for module in (fastmlp, reference):
        ours = p.copy()
        module.sgd([ours], [g], 0.3)
        assert_same_bits(ours, expected[0])


@pytest.mark.parametrize("kind", KINDS)
def test_numpy_arithmetic_has_the_same_bits(kind):
    ours = lists_of(kind, ["f4", "f8"], [(30, 40), (7,)])
    theirs = copy_of(ours)
    with fastmlp.arithmetic("numpy"):
        update(fastmlp, kind, ours)
    update(reference, kind, theirs)
    assert_same_lists(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_hundreds_of_arrays_and_none(kind):
    shapes = [(i % 5, 3) for i in range(300)]
    ours = lists_of(kind, ["f4"] * 300, shapes)
    theirs = copy_of(ours)
    update(fastmlp, kind, ours)
    update(reference, kind, theirs)
    assert_same_lists(ours, theirs)
    update(fastmlp, kind, [[] for _ in ours])


def test_read_only_and_shared_gradients_are_fine():
    g = np.broadcast_to(np.float32(1), (3,))
    params = [np.zeros(3, "f4"), np.zeros(3, "f4")]
    fastmlp.sgd(params, [g, g], 1)
    assert_same_lists([params], [[-np.ones(3, "f4")] * 2])


def _read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


ONES = np.ones((2, 3), np.float32)
WRONG = {
    "single params": (
        TypeError,
        r"params: expected a list.*single array; pass \[params\]",
        0,
        ONES,
    ),
    "single grads": (TypeError, r"grads: expected a list", 1, ONES),
    "number": (TypeError, r"m: expected a list of arrays, got float", 2, 1.0),
    "not arrays": (TypeError, r"grads\[1\]: expected a NumPy array, got list", 1, [ONES, [[1.0]]]),
    "count": (ValueError, r"grads: expected 2 arrays.*got 1", 1, [ONES]),
    "states' count": (ValueError, r"v: expected 2 arrays.*got 3", 3, [ONES.copy() for _ in "abc"]),
    "shape": (
        ValueError,
        r"v\[1\]: expected shape \(2, 3\)",
        3,
        [ONES.copy(), np.ones((3, 2), "f4")],
    ),
    "integers": (
        TypeError,
        r"params\[1\]: expected float32 or",
        0,
        [ONES.copy(), np.ones((2, 3), int)],
    ),
    "wide grad": (TypeError, r"grads\[1\]: expected float32", 1, [ONES, np.ones((2, 3))]),
    "wide state": (TypeError, r"m\[1\]: expected float32", 2, [ONES.copy(), np.ones((2, 3))]),
    "swapped": (TypeError, r"params\[1\]: expected", 0, [ONES.copy(), ONES.astype(">f4")]),
    "read-only": (ValueError, r"params\[1\]: .*read-only", 0, [ONES.copy(), _read_only(ONES)]),
    "read-only state": (ValueError, r"v\[1\]: .*read-only", 3, [ONES.copy(), _read_only(ONES)]),
}


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize(("error", "match", "which", "wrong"), WRONG.values(), ids=WRONG)
def test_an_error_leaves_every_array_untouched(module, error, match, which, wrong):
    lists = [[ONES.copy(), ONES.copy()] for _ in range(4)]
    lists[which] = wrong
    before = [np.copy(a) for arrays in lists for a in (arrays if isinstance(arrays, list) else [])]
    with pytest.raises(error, match=match):
        update(module, "adam", lists)
    after = [a for arrays in lists for a in (arrays if isinstance(arrays, list) else [])]
    assert_same_lists([list(map(np.asarray, after))], [before])


def overlaps():
    """Parameters, gradients and velocities of which two share memory that would be written."""
    memory = np.ones(10, np.float32)
    matrix = np.ones((3, 3), np.float32)
    other = [np.ones(5, np.float32) for _ in range(4)]
    yield "twice", [other[0], other[0]], other[2:], [np.ones(5, "f4"), np.ones(5, "f4")]
    yield "shifted", [memory[:5], other[0]], other[1:3], [memory[4:9], np.ones(5, "f4")]
    yield "gradient", [memory[1:6]], [memory[:5]], [other[0]]
    yield "own gradient", [other[0]], [other[0]], [other[1]]
    yield "transposed", [matrix], [matrix.T], [np.ones((3, 3), "f4")]
    yield "strided", [memory[::2], memory[4:9]], other[:2], other[2:]
    wide = np.ones(5, np.float64)
    yield "two dtypes", [wide, wide.view("f4")[:5]], [np.ones(5), other[0]], [np.ones(5), other[1]]


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize("which", range(7))
def test_overlapping_arrays_are_refused_untouched(module, which):
    _, *lists = list(overlaps())[which]
    before = copy_of(lists)
    with pytest.raises(
        ValueError, match=r"memory of their own .* overlap; pass \w+\[\d\]\.copy\(\)"
    ):
        update(module, "momentum", lists)
    assert_same_lists(lists, before)


def test_neighbours_that_interleave_but_share_nothing_are_updated():
    memory = np.zeros(12, np.float32)
    ones = np.ones(6, np.float32)
    fastmlp.momentum([memory[::2]], [ones], [memory[1::2]], -1.0, 0.0)
    assert_same_bits(memory, np.ones(12, np.float32))


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize(
    ("error", "match", "changed"),
    [
        (TypeError, "step: expected an integer, got float", {"step": 1.0}),
        (TypeError, "step: expected an integer, got bool", {"step": True}),
        (ValueError, "step: expected 1 or more, got 0", {"step": 0}),
        (TypeError, "learning_rate: expected a real number, got str", {"learning_rate": "0.1"}),
        (TypeError, "learning_rate: expected a real number", {"learning_rate": 1j}),
        (TypeError, "epsilon: expected a real number", {"epsilon": None}),
        (ValueError, r"beta1: expected 0 <= value < 1, got 1\.0", {"beta1": 1}),
        (ValueError, r"beta2: expected 0 <= value < 1, got nan", {"beta2": float("nan")}),
    ],
)
def test_wrong_numbers(module, error, match, changed):
    lists = [[ONES.copy()] for _ in range(4)]
    with pytest.raises(error, match=match):
        module.adam(*lists, **{"step": 1, "learning_rate": 0.1, **changed})
    assert_same_lists(lists, [[ONES]] * 4)


@pytest.mark.parametrize("module", [fastmlp, reference])
@pytest.mark.parametrize("wrong", [-0.1, np.nan, np.inf])
def test_a_weight_decay_that_is_none(module, wrong):
    lists = [[ONES.copy()] for _ in range(4)]
    with pytest.raises(ValueError, match=r"weight_decay: expected 0 or more, got .*; pass weight"):
        module.adamw(*lists, 1, 0.1, weight_decay=wrong)
    assert_same_lists(lists, [[ONES]] * 4)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 7 * 256 + 3, 8 * 256, 21 * 256 + 60])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sum_of_squares_is_a_product_in_float64(dtype, size):
    g = floats(size, (size,), dtype, -60, 60)
    wide = g.astype(np.float64)
    expected = reference.Matmul().forward(wide.reshape(1, -1), wide.reshape(-1, 1))[0, 0]
    assert fastmlp.MLP._sum_of_squares(g) == expected
    assert reference.MLP._sum_of_squares(g) == expected


def test_numpy_and_other_real_numbers_count_as_numbers():
    p = [np.zeros(1, np.float32)]
    fastmlp.sgd(p, [np.ones(1, np.float32)], np.float32(0.5))
    fastmlp.sgd(p, [np.ones(1, np.float32)], np.int64(2))
    fastmlp.sgd(p, [np.ones(1, np.float32)], float("nan"))
    assert np.isnan(p[0][0])

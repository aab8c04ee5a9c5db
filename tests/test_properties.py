"""Every operation against fastmlp.reference, bit for bit, for inputs that hypothesis draws.

Shapes around the sizes of lanes, tiles and leaves, both dtypes, every layout, special values, and
scales from subnormal to near overflow. Derandomized: the same examples in every run.
"""

import numpy as np
from helpers import DTYPES, assert_same_bits, floats, layouts, specials, with_threads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import fastmlp
from fastmlp import reference
from fastmlp.plan.ways import STATES

CURVES = ["Tanh", "Logistic", "Silu", "Gelu"]
EVERY_TIME_THE_SAME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LAYOUTS = [name for name, _ in layouts(np.zeros((1, 1)))]
# The exact FMA of NumPy's reference takes 1 us for each element whose exponent is extreme.
MOST_MULTIPLY_ADDS = 20_000

dtypes = st.sampled_from(DTYPES)
threads = st.sampled_from([1, 2, 3])
rates = st.floats(0, 2, width=32)
few = st.integers(0, 20)
sample_counts = few | st.integers(21, 200) | st.sampled_from([255, 256, 257, 300, 520])
inner_sizes = few | st.sampled_from([255, 256, 257, 300, 511, 512, 513, 520, 769])
class_counts = st.integers(1, 40) | st.sampled_from([100, 127, 128, 129])
class_counts |= st.sampled_from([255, 256, 257, 300])


@st.composite
def networks(draw, most):
    """The sizes of a network of one to three layers, and of two classes or more."""
    sizes = draw(st.lists(st.integers(1, most), min_size=1, max_size=3))
    return [*sizes, draw(st.integers(2, most))]


@st.composite
def arrays(draw, dtype, shape):
    """Random values of a drawn range of exponents, some of them special, in a drawn layout."""
    lowest, highest = np.finfo(dtype).minexp - 1, np.finfo(dtype).maxexp
    ordinary = st.tuples(st.just(-6), st.just(3))
    ends = st.tuples(st.integers(lowest, highest - 1), st.integers(1, 40))
    start, width = draw(ordinary | ends)
    values = floats(draw(st.integers(0, 999)), shape, dtype, start, min(start + width, highest))
    if draw(st.booleans()):
        elements = st.sampled_from(list(specials(dtype))) | npst.from_dtype(np.dtype(dtype))
        count = draw(st.integers(1, 4))
        for value in draw(st.lists(elements, min_size=count, max_size=count)):
            if values.size:
                values.reshape(-1)[draw(st.integers(0, values.size - 1))] = value
    return dict(layouts(values))[draw(st.sampled_from(LAYOUTS))]


@st.composite
def products(draw, bias=False):
    """x (M, K), W (K, N), grad_y (M, N), threads, and b (N,) or none."""
    dtype, K = draw(dtypes), draw(inner_sizes)
    N = draw(few | st.integers(21, 70))
    N = min(N, MOST_MULTIPLY_ADDS // max(1, K))
    M = min(draw(sample_counts), MOST_MULTIPLY_ADDS // max(1, K * N))
    x, W, grad_y = (draw(arrays(dtype, shape)) for shape in ((M, K), (K, N), (M, N)))
    b = draw(arrays(dtype, (N,))) if bias and draw(st.booleans()) else None
    return (x, W) if b is None else (x, W, b), grad_y, draw(threads)


@st.composite
def rows(draw, most=2000):
    """Two matrices of one shape, with at least one column, and the threads."""
    dtype, classes = draw(dtypes), draw(class_counts)
    shape = min(draw(sample_counts), most // classes), classes
    return draw(arrays(dtype, shape)), draw(arrays(dtype, shape)), draw(threads)


@st.composite
def parameters(draw):
    """Lists of one to three arrays: params, grads and two states."""
    dtype = draw(dtypes)
    shapes = draw(st.lists(npst.array_shapes(min_dims=2, max_dims=2, min_side=0), max_size=3))
    return [[draw(arrays(dtype, shape)) for shape in shapes] for _ in range(4)], draw(threads)


def both(run, num_threads):
    """Fail unless `run` gives the same arrays for the two packages."""
    with with_threads(num_threads), np.errstate(all="ignore"):
        for actual, expected in zip(run(fastmlp), run(reference), strict=True):
            assert_same_bits(actual, expected)


def forward_and_backward(name, inputs, grad_y):
    def run(package):
        operation = getattr(package, name)()
        y, gradients = operation.forward(*inputs), operation.backward(grad_y)
        return (y, *gradients) if isinstance(gradients, tuple) else (y, gradients)

    return run


@EVERY_TIME_THE_SAME
@given(products())
def test_matmul(case):
    inputs, grad_y, num_threads = case
    both(forward_and_backward("Matmul", inputs, grad_y), num_threads)


@EVERY_TIME_THE_SAME
@given(products(bias=True))
def test_matmul_relu(case):
    inputs, grad_y, num_threads = case
    both(forward_and_backward("MatmulRelu", inputs, grad_y), num_threads)


@EVERY_TIME_THE_SAME
@given(rows(), st.sampled_from(["Relu", "Log", "LogSoftmax", *CURVES, "LeakyRelu"]))
def test_rows(case, name):
    x, grad_y, num_threads = case
    both(forward_and_backward(name, (x,), grad_y), num_threads)


@EVERY_TIME_THE_SAME
@given(rows(most=500))
def test_softmax(case):
    x, grad_y, num_threads = case
    both(forward_and_backward("Softmax", (x,), grad_y), num_threads)


@EVERY_TIME_THE_SAME
@given(rows(most=10_000))
def test_loss_and_accuracy(case):
    log_prob, labels, num_threads = case
    if len(log_prob):
        both(
            lambda package: (
                np.array(package.compute_loss(log_prob, labels)),
                np.array(package.compute_accuracy(log_prob, labels)),
            ),
            num_threads,
        )


@EVERY_TIME_THE_SAME
@given(parameters(), rates, rates, st.floats(0, 0.999), st.integers(1, 50))
def test_updates(case, rate, momentum, beta, step):
    lists, num_threads = case

    def run(package):
        p, g, m, v = ([array.copy() for array in arrays] for arrays in lists)
        package.sgd(p, g, rate)
        package.momentum(p, g, m, rate, momentum)
        package.adam(p, g, m, [abs(array) for array in v], step, rate, beta, momentum / 4)
        package.nesterov(p, g, m, rate, momentum)
        package.adamw(p, g, m, v, step, rate, beta, momentum / 4, 1e-8, abs(momentum))
        return p + m + v

    both(run, num_threads)


@EVERY_TIME_THE_SAME
@given(st.data(), dtypes, networks(30), threads)
def test_a_training_step_and_a_prediction(data, dtype, sizes, num_threads):
    samples = data.draw(st.integers(1, 40) | st.just(257))
    bias = data.draw(st.lists(st.booleans(), min_size=len(sizes) - 1, max_size=len(sizes) - 1))
    seed = data.draw(st.integers(0, 99))
    x = data.draw(arrays(dtype, (samples, sizes[0])))
    labels = data.draw(arrays(dtype, (samples, sizes[-1])))

    def run(package):
        model = package.MLP(sizes, bias, dtype, seed)
        loss, accuracy = package.train_one_step(model, x, labels, 0.125)
        classes = model.predict(x, check_finite=False)
        return [np.array(loss), np.array(accuracy), model.log_prob, classes, *model.parameters]

    both(run, num_threads)


@settings(EVERY_TIME_THE_SAME, max_examples=30)
@given(st.data(), dtypes, networks(12), threads)
def test_training(data, dtype, sizes, num_threads):
    samples, optimizers = data.draw(st.integers(1, 40) | st.just(300)), [*STATES]
    x = data.draw(arrays(dtype, (samples, sizes[0])))
    labels = np.arange(samples) * 7 % sizes[-1]
    how = {
        "epochs": data.draw(st.integers(1, 2)),
        "batch_size": data.draw(st.integers(5, 50) | st.just(300)),
        "optimizer": data.draw(st.sampled_from(optimizers)),
        "weight_decay": data.draw(st.sampled_from([0.0, 0.01])),
        "max_norm": data.draw(st.sampled_from([None, 1e-3, 1.0])),
        "decay_bias": data.draw(st.booleans()),
        "learning_rate": data.draw(st.sampled_from([0.01, 0.5])),
        "rng": data.draw(st.integers(0, 99)),
    }

    def run(package):
        model = package.MLP(sizes, dtype=dtype, rng=1)
        history = model.fit(x, labels, **how, check_finite=False)
        return [np.array(history.loss), np.array(history.accuracy), *model.parameters]

    both(run, num_threads)

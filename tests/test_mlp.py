import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats, layouts, with_threads

import fastmlp
from fastmlp import reference
from fastmlp.model.draws import shuffled, stable_order, uniform

MODELS = [
    {"sizes": [5, 3], "bias": False},
    {"sizes": [300, 20, 10]},
    {"sizes": [20, 33, 17, 4], "bias": [True, False, True]},
    {"sizes": [7, 9, 2], "bias": [False, True]},
]


class NotebookModel:
    """The notebook's own code."""

    def __init__(self, W1, W2):
        self.W1, self.W2 = W1.copy(), W2.copy()

    def forward(self, x):
        x = x.reshape(-1, 28 * 28)
        self.x = np.concatenate([x, np.ones(shape=[x.shape[0], 1])], axis=1)
        self.h1 = np.matmul(self.x, self.W1)
        self.h1_relu = np.where(self.h1 > 0, self.h1, np.zeros_like(self.h1))
        self.h2 = np.matmul(self.h1_relu, self.W2)
        x_exp = np.exp(self.h2)
        partition = np.sum(x_exp, axis=1, keepdims=True)
        self.h2_soft = x_exp / (partition + 1e-12)
        self.h2_log = np.log(self.h2_soft + 1e-12)

    def backward(self, label):
        h2_log_grad = 1.0 / (self.h2_soft + 1e-12) * -label
        s = self.h2_soft
        sisj = np.matmul(np.expand_dims(s, axis=2), np.expand_dims(s, axis=1))
        tmp = np.squeeze(np.matmul(np.expand_dims(h2_log_grad, axis=1), sisj), axis=1)
        h2_soft_grad = -tmp + h2_log_grad * s
        h2_grad = np.matmul(h2_soft_grad, self.W2.T)
        self.W2_grad = np.matmul(self.h1_relu.T, h2_soft_grad)
        h1_relu_grad = (self.h1 > 0).astype(np.float32) * h2_grad
        self.W1_grad = np.matmul(self.x.T, h1_relu_grad)


def notebook_step(model, x, y):
    model.forward(x)
    model.backward(y)
    model.W1 -= 1e-5 * model.W1_grad
    model.W2 -= 1e-5 * model.W2_grad
    loss = np.mean(np.sum(-model.h2_log * y, axis=1))
    accuracy = np.mean(np.argmax(model.h2_log, axis=1) == np.argmax(y, axis=1))
    return loss, accuracy


@pytest.fixture(scope="module")
def mnist():
    (x, y), _ = fastmlp.mnist_dataset()
    return x[:300], y[:300]


def labels_for(samples, classes, dtype=np.float64):
    return fastmlp.one_hot(np.arange(samples) % classes, classes, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("arguments", MODELS, ids=str)
@pytest.mark.parametrize("samples", [0, 1, 70, 300])
def test_forward_and_backward_equal_the_reference(arguments, dtype, samples):
    ours = fastmlp.MLP(**arguments, dtype=dtype, rng=1)
    theirs = reference.MLP(**arguments, dtype=dtype, rng=1)
    assert_same_bits(ours.flat_parameters, theirs.flat_parameters)
    x = floats(2, (samples, ours.sizes[0]), dtype)
    label = labels_for(samples, ours.sizes[-1])
    assert_same_bits(ours.forward(x), theirs.forward(x))
    ours.backward(label)
    theirs.backward(label)
    for mine, other in zip(ours.gradients, theirs.gradients, strict=True):
        assert_same_bits(mine, other)
    assert ours.flat_gradients.any() == bool(samples)


def test_equals_the_composition_of_the_public_operations():
    model = fastmlp.MLP([20, 30, 10], rng=3)
    x, label = floats(4, (40, 20), np.float32), labels_for(40, 10, np.float32)
    layer, product, head = fastmlp.MatmulRelu(), fastmlp.Matmul(), fastmlp.LogSoftmax()
    h = layer.forward(x, model.W1[:-1], model.W1[-1])
    with_ones = np.concatenate([h, np.ones((40, 1), np.float32)], axis=1)
    log_prob = head.forward(product.forward(with_ones, model.W2))
    assert_same_bits(model.forward(x), log_prob)
    model.backward(label)
    grad_h, W2_grad = product.backward(head.backward(-label))
    _, W1_grad, b1_grad = layer.backward(grad_h[:, :-1])
    assert_same_bits(model.W2_grad, W2_grad)
    assert_same_bits(model.W1_grad, np.concatenate([W1_grad, b1_grad[np.newaxis]]))


def test_gradients_are_those_of_the_loss():
    model = fastmlp.MLP([6, 5, 4, 3], dtype=np.float64, rng=5)
    x, label = floats(6, (9, 6), np.float64), labels_for(9, 3)
    model.forward(x)
    model.backward(label)
    step = 1e-6
    for i, gradient in enumerate(model.flat_gradients.copy()):
        before = model.flat_parameters[i]
        losses = []
        for moved in (before + step, before - step):
            model.flat_parameters[i] = moved
            losses.append(np.sum(-model.forward(x) * label))
        model.flat_parameters[i] = before
        assert gradient == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-7)


def test_numpy_arithmetic_gives_the_notebooks_bits(mnist):
    x, y = mnist
    y = fastmlp.one_hot(y)
    ours = fastmlp.NotebookMLP(rng=7)
    theirs = NotebookModel(ours.W1, ours.W2)
    with fastmlp.arithmetic("numpy"):
        for _ in range(3):
            loss, accuracy = fastmlp.train_one_step(ours, x, y)
            their_loss, their_accuracy = notebook_step(theirs, x, y)
            assert_same_bits(loss, their_loss)
            assert_same_bits(accuracy, their_accuracy)
            for name in ("h2_log", "W1_grad", "W2_grad", "W1", "W2"):
                assert_same_bits(getattr(ours, name), getattr(theirs, name))


def test_the_notebooks_model_is_near_its_numpy_bits_and_equal_to_the_reference(mnist):
    x, y = mnist[0][:20], fastmlp.one_hot(mnist[1][:20])
    ours, theirs = fastmlp.NotebookMLP(rng=7), reference.NotebookMLP(rng=7)
    weights = np.random.default_rng(7)
    assert_same_bits(ours.W1, weights.normal(size=[785, 100]))
    assert_same_bits(ours.W2, weights.normal(size=[100, 10]))
    notebook = NotebookModel(ours.W1, ours.W2)
    assert fastmlp.train_one_step(ours, x, y) == reference.train_one_step(theirs, x, y)
    for name in ("h2_log", "W1_grad", "W2_grad", "W1", "W2"):
        assert_same_bits(getattr(ours, name), getattr(theirs, name))
    notebook_step(notebook, x, y)
    np.testing.assert_allclose(ours.h2_log, notebook.h2_log, rtol=1e-9)
    np.testing.assert_allclose(ours.W1_grad, notebook.W1_grad, rtol=1e-6, atol=1e-9)


def test_any_layout_and_more_axes():
    model = fastmlp.MLP([12, 5, 3], rng=8)
    values = floats(9, (6, 12), np.float32)
    expected = model.forward(values)
    for _, x in layouts(values):
        assert_same_bits(model.forward(x), expected)
    assert_same_bits(model.forward(values.reshape(6, 3, 2, 2)), expected)


def test_a_row_alone_equals_the_row_in_a_batch():
    model = fastmlp.MLP([300, 33, 10], rng=10)
    x = floats(11, (9, 300), np.float32)
    batch = model.forward(x)
    for i in range(len(x)):
        assert_same_bits(model.forward(x[i : i + 1]), batch[i : i + 1])


def test_all_arrays_are_views_into_one_buffer():
    model = fastmlp.MLP([4, 3, 2], bias=[True, False], rng=12)
    assert [W.shape for W in model.parameters] == [(5, 3), (3, 2)]
    assert_same_bits(model.W1[-1], np.zeros(3, np.float32))
    for lists, flat in (
        (model.parameters, model.flat_parameters),
        (model.gradients, model.flat_gradients),
    ):
        assert_same_bits(np.concatenate([array.ravel() for array in lists]), flat)
        assert all(np.shares_memory(array, flat) for array in lists)
    W1 = model.W1
    before = W1.copy()
    model.W1 -= 2
    assert_same_bits(model.flat_parameters[:15].reshape(5, 3), before - np.float32(2))
    model.W1 = before[:, ::-1]
    assert_same_bits(model.flat_parameters[:15].reshape(5, 3), before[:, ::-1])
    assert model.W1 is W1 is model.parameters[0]
    assert model.W2_grad is model.gradients[1]


# Weights are read in place below 192 rows and packed from there on; 193 ends in a block of one row.
@pytest.mark.parametrize("samples", [0, 1, 2, 3, 17, 49, 191, 193, 250])
@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_predict_is_the_first_largest_logit(dtype, num_threads, samples):
    model = fastmlp.MLP([300, 70, 33, 5], bias=[True, False, True], dtype=dtype, rng=1)
    same = reference.MLP([300, 70, 33, 5], bias=[True, False, True], dtype=dtype, rng=1)
    model.W2[:, 4] = model.W2[:, 3]
    same.W2[:, 4] = same.W2[:, 3]
    x = floats(2, (samples, 300), dtype)
    with with_threads(num_threads):
        assert_same_bits(model.predict(x), same.predict(x))


def test_predict_takes_what_forward_takes():
    model = fastmlp.MLP([12, 6, 4], dtype=np.float64, rng=2)
    model.W2[:, 2] = model.W2[:, 1]  # equal logits: the first is the answer
    values = floats(3, (7, 12), np.float64)
    expected = np.argmax(model.forward(values), axis=1)
    for _, x in layouts(values):
        assert_same_bits(model.predict(x), expected)
    assert_same_bits(model.predict(values.reshape(7, 3, 4)), expected)
    assert_same_bits(model.predict(values.tolist()), expected)
    narrow = values.astype(np.float32)
    assert_same_bits(model.predict(narrow), model.predict(narrow.astype(np.float64)))
    model.W2[:, 3] = np.nan
    assert_same_bits(model.predict(values), np.full(7, 3))
    with fastmlp.arithmetic("numpy"):
        assert_same_bits(model.predict(values), np.full(7, 3))
    with pytest.raises(ValueError, match="with 12 numbers for each sample"):
        model.predict(values[:, :11])
    with pytest.raises(TypeError, match="x: expected float32"):
        fastmlp.MLP([12, 4]).predict(values)


def test_predict_reads_byte_swapped_and_misaligned_arrays_as_their_values():
    values = floats(4, (20, 12), np.float32)
    expected = fastmlp.MLP([12, 6, 4], rng=2).predict(values)
    swapped = values.astype(values.dtype.newbyteorder())
    misaligned = dict(layouts(values))["misaligned"]
    for order in ([swapped, misaligned], [misaligned, swapped]):
        for x in order:
            assert_same_bits(fastmlp.MLP([12, 6, 4], rng=2).predict(x), expected)


def test_predict_takes_read_only_parameters():
    model = fastmlp.MLP([12, 6, 4], rng=2)
    values = floats(5, (3, 12), np.float32)
    expected = model.predict(values)
    model.flat_parameters.flags.writeable = False
    assert_same_bits(model.predict(values), expected)


def test_assigning_the_flat_buffers_writes_into_them():
    model, other = fastmlp.MLP([5, 3], rng=1), fastmlp.MLP([5, 3], rng=2)
    buffer = model.flat_parameters
    model.flat_parameters = other.flat_parameters
    assert model.flat_parameters is buffer
    assert_same_bits(model.W1, other.W1)
    with pytest.raises(ValueError, match=r"flat_parameters: expected shape \(18,\)"):
        model.flat_parameters = np.zeros(3, np.float32)


@pytest.mark.parametrize("name", ["W2", "W1_gard", "w1", "sizes", "bias", "dtype"])
def test_names_that_are_no_arrays_of_the_model_are_refused(name):
    with pytest.raises(AttributeError, match=f"MLP.{name}: expected one of W1, W1_grad"):
        setattr(fastmlp.MLP([5, 3]), name, 0)


def test_masked_arrays_are_refused():
    x = np.ma.masked_array(np.ones((2, 5), np.float32), mask=[[True] + [False] * 4] * 2)
    model = fastmlp.MLP([5, 3])
    for call in (model.forward, model.predict, fastmlp.Relu().forward):
        with pytest.raises(TypeError, match="x: expected an array without a mask"):
            call(x)


def test_the_result_has_the_notebooks_name_for_its_layers():
    model = fastmlp.MLP([4, 3, 3, 2], rng=15)
    with pytest.raises(AttributeError, match=r"log_prob: expected a forward before it"):
        _ = model.h3_log
    log_prob = model.forward(np.ones((1, 4), np.float32))
    assert model.h3_log is model.log_prob is log_prob
    with pytest.raises(AttributeError, match=r"expected one of the arrays W1, .* got 'h2_log'"):
        _ = model.h2_log


def test_dtypes():
    wide, narrow = fastmlp.MLP([4, 2], dtype=np.float64), fastmlp.MLP([4, 2])
    x = np.ones((3, 4), np.float32)
    assert wide.forward(x).dtype == np.float64
    assert narrow.forward(x).dtype == narrow.forward(x.astype(np.uint8)).dtype == np.float32
    for too_wide in (x.astype(np.float64), x.astype(np.int64)):
        with pytest.raises(TypeError, match=r"x: expected float32, .* x\.astype\(np\.float32\)"):
            narrow.forward(too_wide)
    with pytest.raises(TypeError, match="x: expected an array of float32, got complex64"):
        narrow.forward(x + 1j)
    narrow.backward(labels_for(3, 2, bool))
    with pytest.raises(TypeError, match=r"label: expected values that float32.* holds exactly"):
        narrow.backward(labels_for(3, 2) * 0.1)
    narrow.backward(labels_for(3, 2) * np.float64(np.float32(0.1)))


def test_seeds():
    def weights(rng):
        return fastmlp.MLP([4, 3, 2], rng=rng).flat_parameters

    expected = weights(3)
    assert_same_bits(weights(np.random.default_rng(3)), expected)
    assert_same_bits(weights(np.random.PCG64(3)), expected)
    assert_same_bits(weights(np.int32(3)), expected)
    assert (weights(4) != expected).any()
    assert (weights(None) != weights(None)).any()
    generator = np.random.default_rng(3)
    weights(generator)
    assert (weights(generator) != expected).any()


def test_initial_weights_are_the_specified_bits():
    generator = np.random.PCG64(0)
    raw = [int(generator.random_raw()) for _ in range(4 * 3 + 3 * 2)]
    u = [(r >> 11) * 2.0**-53 for r in raw]
    W1 = np.array([(2 * a - 1) * (6 / 4) ** 0.5 for a in u[:12]], np.float32).reshape(4, 3)
    W2 = np.array([(2 * a - 1) * (6 / 5) ** 0.5 for a in u[12:]], np.float32).reshape(3, 2)
    model = fastmlp.MLP([4, 3, 2], rng=0)
    assert_same_bits(model.W1[:-1], W1)
    assert_same_bits(model.W2[:-1], W2)
    assert_same_bits(model.W2[-1], np.zeros(2, np.float32))
    # The first draws of seed 0, as hexadecimal floats: they pin the stream itself.
    first = uniform(np.random.PCG64(0), (1, 2), 1.0)
    assert [float(value).hex() for value in first[0]] == [
        "0x1.187f5e7ece140p-2",
        "-0x1.d77a103be9318p-2",
    ]
    assert shuffled(np.random.PCG64(0), 10).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


@pytest.mark.parametrize("most", [2**64 - 1, 3000, 40, 1])
def test_a_shuffle_is_the_stable_order_of_its_draws(most):
    draws = np.random.PCG64(1).random_raw(3000) % np.uint64(most)
    assert_same_bits(stable_order(draws), np.argsort(draws, kind="stable"))


@pytest.mark.parametrize("module", [fastmlp, reference])
def test_errors_say_expected_got_and_mend(module):
    with pytest.raises(TypeError, match=r"sizes: expected a list of integers, got int; pass"):
        module.MLP(784)
    with pytest.raises(TypeError, match=r"sizes: expected an integer, got float; pass"):
        module.MLP([784, 10.0])
    with pytest.raises(ValueError, match=r"sizes: expected two or more sizes .* got \[784\]"):
        module.MLP([784])
    with pytest.raises(ValueError, match=r"sizes: .* got \[784, 0, 10\]"):
        module.MLP([784, 0, 10])
    with pytest.raises(ValueError, match=r"bias: expected one flag, or 2, one per layer, got 1"):
        module.MLP([4, 3, 2], bias=[True])
    with pytest.raises(TypeError, match=r"bias: expected True, False or one of them per layer"):
        module.MLP([4, 3, 2], bias=1)
    with pytest.raises(TypeError, match=r"dtype: expected float32 or float64, got int64; pass"):
        module.MLP([4, 3, 2], dtype=np.int64)
    with pytest.raises(TypeError, match=r"rng: expected None, .* got MT19937; pass"):
        module.MLP([4, 3, 2], rng=np.random.MT19937(0))
    with pytest.raises(ValueError, match=r"rng: expected a seed of 0 or more, got -1"):
        module.MLP([4, 3, 2], rng=-1)
    model = module.MLP([4, 3, 2], rng=0)
    with pytest.raises(RuntimeError, match=r"MLP\.backward: expected a forward before it"):
        model.backward(np.ones((1, 2)))
    for shape in [(5,), (5, 3), (5, 2, 3), (4,)]:
        with pytest.raises(ValueError, match=r"x: expected \(samples, \.\.\.\) with 4 numbers"):
            model.forward(np.ones(shape, np.float32))
    model.forward(np.ones((5, 4), np.float32))
    with pytest.raises(ValueError, match=r"label: expected shape \(5, 2\).*fastmlp\.one_hot"):
        model.backward(np.arange(5))
    with pytest.raises(ValueError, match=r"W1: expected shape \(5, 3\), got shape \(4, 3\)"):
        model.W1 = np.ones((4, 3), np.float32)
    with pytest.raises(TypeError, match=r"W1: expected float32, .* got float64; pass W1"):
        model.W1 = np.ones((5, 3))

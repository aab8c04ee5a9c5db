"""The tree of every compiled sum, read back from its results, is the one that the page fixes."""

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits
from trees import LEAF, borders, chain, join, masked, product_tree, row_sum_tree

import fastmlp
from fastmlp import reference

# Every pair of neighbours for these; the ends of leaves and some others for larger ones.
SMALL = [*range(2, 50), 63, 64, 65, 100, 128, 129]
MEDIUM = [255, 256, 257, 300, 511, 512, 513, 768, 769, 785, 1023, 1025, 1281, 2000]
LARGE = [4095, 4096, 4097, 5000, 16_384, 60_001]

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def sum_of_rows(package, summands, width):
    return package.Matmul().forward(summands, np.ones((summands.shape[1], width), summands.dtype))


def sum_of_columns(package, summands, width):
    x = np.ones((width, summands.shape[1]), summands.dtype)
    return package.Matmul().forward(x, summands.T).T


def sum_with_bias(package, summands, width):
    """The bias is the last summand."""
    W, b = np.ascontiguousarray(summands[:, :-1].T), np.ascontiguousarray(summands[:, -1])
    return package.MatmulRelu().forward(np.ones((width, len(W)), W.dtype), W, b).T


def gradient_of_x(package, summands, width):
    operation = package.Matmul()
    x = np.ones((len(summands), width), summands.dtype)
    operation.forward(x, np.ones((width, summands.shape[1]), summands.dtype))
    return operation.backward(summands)[0]


def gradient_of_weights(package, summands, width):
    """The summands are samples, first in x, then in grad_y."""
    x, grad_y = (
        np.ascontiguousarray(summands.T),
        np.ones((summands.shape[1], width), summands.dtype),
    )
    operation, turned = package.Matmul(), package.Matmul()
    operation.forward(x, np.ones((len(summands), width), x.dtype))
    turned.forward(grad_y, np.ones((width, len(summands)), x.dtype))
    return np.concatenate([operation.backward(grad_y)[1], turned.backward(x)[1].T], axis=1)


def gradient_of_weights_and_bias(package, summands, width):
    operation = package.MatmulRelu()
    x, W = (
        np.ones((summands.shape[1], width), summands.dtype),
        np.ones((width, len(summands)), summands.dtype),
    )
    operation.forward(x, W, W[0])
    _, grad_W, grad_b = operation.backward(np.ascontiguousarray(summands.T))
    return np.concatenate([grad_W, grad_b[np.newaxis]]).T


def of_softmax(package, summands, _):
    """grad_x = (-t) + g * s with s = 1: t where g is no mask."""
    operation = package.Softmax()
    operation.mem["out"] = np.ones_like(summands)
    return _where_no_mask(summands, 1 - operation.backward(summands))


def of_log_softmax(package, summands, _):
    """grad_x = g - p * rowsum(g) with p = 1: the sum where g is no mask."""
    operation = package.LogSoftmax()
    operation.mem["p"] = np.ones_like(summands)
    return _where_no_mask(summands, 1 - operation.backward(summands))


def _where_no_mask(summands, sums):
    return sums[summands == 1].reshape(len(summands), -1)


def of_the_loss(package, summands, _):
    """The row sum of one sample."""
    return np.array(
        [
            [package.compute_loss(-row[np.newaxis], np.ones_like(row[np.newaxis]))]
            for row in summands
        ]
    )


def of_the_mean_loss(package, summands, _):
    """The sum over samples of one class, each divided by their number."""
    columns = summands[:, :, np.newaxis]
    return np.array([[package.compute_loss(-one, np.ones_like(one))] for one in columns])


def of_an_epoch(package, summands, _):
    """The gradient of weights that start at 0, where every sample's is the same multiple of x."""
    x = np.ascontiguousarray(summands.T)
    model = package.MLP([x.shape[1], 2], bias=False, dtype=x.dtype, rng=0)
    model.flat_parameters[...] = 0
    labels, every = np.zeros(len(x), int), {"epochs": 1, "batch_size": len(x), "shuffle": False}
    model.fit(x, labels, optimizer="sgd", learning_rate=1.0, **every)
    signs = np.array([0.5, -0.5]).astype(x.dtype)
    return np.round(model.W1 / signs * x.dtype.type(len(x))) + x.dtype.type(0)  # no -0


PRODUCTS = [
    *(sum_of_rows, sum_of_columns, sum_with_bias),
    *(gradient_of_x, gradient_of_weights, gradient_of_weights_and_bias),
]
ROW_SUMS = [of_log_softmax, of_the_loss]


def assert_tree(operation, tree, dtype, places=None, package=fastmlp, divisor=1):
    """Fail unless the operation adds as the tree does; in batches of pairs of all sizes."""
    summands, expected = masked(tree, dtype, places)
    expected = (expected / dtype(divisor))[:, np.newaxis]
    first, batch = 0, 0
    while first < len(summands):
        rows = slice(first, first + (1, 2, 3, 7, 30, 100, 500)[batch % 7])
        sums = operation(package, summands[rows], 1 + (7 * batch + len(tree.order)) % 70)
        assert_same_bits(sums, np.broadcast_to(expected[rows], sums.shape))
        first, batch = rows.stop, batch + 1


@each_dtype
@pytest.mark.parametrize("operation", PRODUCTS)
def test_products_of_every_small_size(operation, dtype, threads):
    for count in SMALL:
        assert_tree(operation, product_tree(count), dtype)


@each_dtype
@pytest.mark.parametrize("operation", PRODUCTS)
def test_products_of_several_leaves(operation, dtype, threads):
    for count in MEDIUM:
        tree = product_tree(count)
        assert_tree(operation, tree, dtype, None if count < 600 else borders(tree, 7))


@each_dtype
@pytest.mark.parametrize("operation", PRODUCTS)
def test_products_of_many_leaves(operation, dtype, threads):
    for count in LARGE:
        tree = product_tree(count)
        places = borders(tree, 1 + count // 40)
        assert_tree(operation, tree, dtype, places[:: 1 + len(places) // 80])


@each_dtype
def test_the_ends_of_all_leaves_for_every_size_to_2000(dtype):
    for count in range(2, 2001):
        tree = product_tree(count)
        assert_tree(sum_of_rows, tree, dtype, borders(tree, LEAF))


@each_dtype
@pytest.mark.parametrize("operation", ROW_SUMS)
def test_row_sums(operation, dtype, threads):
    for count in [*range(3, 70), 100, 128, 129, 200, 1000, 2000]:
        tree = row_sum_tree(count)
        few = np.arange(0, count - 1, 1 if count < 70 else 1 + count // 40)
        assert_tree(operation, tree, dtype, few)


@each_dtype
def test_the_gradient_of_softmax(dtype, threads):
    for count in [*range(3, 36), 64, 65, 255, 256, 257, 300]:
        assert_tree(of_softmax, product_tree(count), dtype)
    for count in (513, 769, 2000):
        tree = product_tree(count)
        assert_tree(of_softmax, tree, dtype, borders(tree, 97))


@each_dtype
def test_the_mean_loss(dtype, threads):
    for count in [*range(2, 20), 255, 256, 257, 513, 2000, 5000]:
        tree = product_tree(count)
        places = borders(tree, 1 + count // 40)
        assert_tree(of_the_mean_loss, tree, dtype, places, divisor=count)


@each_dtype
def test_the_gradient_in_an_epoch_of_training(dtype, threads):
    for count in [*range(2, 40), *MEDIUM, *LARGE]:
        tree = product_tree(count)
        places = borders(tree, 1 + count // 40)
        assert_tree(of_an_epoch, tree, dtype, places[:: 1 + len(places) // 80])


@each_dtype
def test_the_first_layer_of_a_prediction(dtype, threads):
    for count in [2, 3, 17, 33, 100, 255, 256, 257, 300, 785, 1500]:
        model = fastmlp.MLP([count, 2], dtype=dtype, rng=0)
        tree = product_tree(count + 1)  # the bias is the last summand
        summands, expected = masked(tree, dtype, np.arange(0, count - 1, 1 + count // 40))
        for number, (row, total) in enumerate(zip(summands, expected, strict=True)):
            x = np.tile(row[:count], ((1, 2, 9, 60)[number % 4], 1))
            assert_first_logit(model, "W1", x, np.ones(count + 1), total)


@each_dtype
def test_the_second_layer_of_a_prediction(dtype, threads):
    for count in [2, 3, 17, 33, 100, 255, 256, 257, 300, 513]:
        model = fastmlp.MLP([3, count, 2], dtype=dtype, rng=0)
        model.W1 = np.array([[0], [0], [0], [1]], dtype) * np.ones(count, dtype)
        tree = product_tree(count + 1)
        summands, expected = masked(tree, dtype, np.arange(0, count, 1 + count // 40))
        for number, (row, total) in enumerate(zip(summands, expected, strict=True)):
            x = np.ones(((1, 2, 9, 60)[number % 4], 3), dtype)
            assert_first_logit(model, "W2", x, row, total)


def assert_first_logit(model, name, x, weights, total):
    """Fail unless it is `total`, an integer: the class tells on which side of a bound it lies."""
    W = getattr(model, name)
    W[:, 0], W[:, 1] = weights, 0
    W[-1, 1] = total
    assert not model.predict(x).any()
    W[-1, 1] = total + 0.5
    assert model.predict(x).all()


@each_dtype
@pytest.mark.parametrize("operation", [*PRODUCTS, *ROW_SUMS])
def test_the_reference_has_the_same_trees(operation, dtype):
    for count in (5, 40, 300):
        tree = row_sum_tree(count) if operation in ROW_SUMS else product_tree(count)
        assert_tree(operation, tree, dtype, np.arange(0, count - 1, 7), reference)


@each_dtype
def test_another_order_is_found(dtype):
    """NumPy's sum and a plain chain are no such tree: the test can fail."""

    def plain(_, summands, width):
        return np.cumsum(summands, axis=1, dtype=dtype)[:, -1:]

    assert_tree(plain, chain(range(300)), dtype)
    for tree in (product_tree(300), row_sum_tree(40), join(chain(range(3)), chain([4, 3]))):
        with pytest.raises(AssertionError, match="elements differ"):
            assert_tree(plain, tree, dtype)

"""A row has the same bits alone, in a batch of any size, and at any place of it."""

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits, floats

import fastmlp

MOST = 300


def product(kind, W, *bias):
    """Both results of a product that have a row for each sample: y and grad_x."""

    def rows(x, grad_y):
        operation = kind()
        y = operation.forward(x, W, *bias)
        return y, operation.backward(grad_y)[0]

    return rows


def of_classes(kind):
    def rows(x, grad_y):
        operation = kind()
        return operation.forward(x), operation.backward(grad_y)

    return rows


def model(dtype):
    network = fastmlp.MLP([300, 16, 20, 33], dtype=dtype, rng=1)
    return lambda x, _: (network.forward(x), network.predict(x))


def operations(dtype):
    W, b = floats(1, (300, 33), dtype), floats(2, (33,), dtype)
    x, grad_y = floats(3, (MOST, 300), dtype), floats(4, (MOST, 33), dtype)
    yield product(fastmlp.Matmul, W), x, grad_y
    yield product(fastmlp.MatmulRelu, W, b), x, grad_y
    yield model(dtype), x, grad_y
    kinds = fastmlp.Relu, fastmlp.Log, fastmlp.Softmax, fastmlp.LogSoftmax
    for kind in (*kinds, fastmlp.Tanh, fastmlp.Gelu):
        for classes in (10, 33):
            rows = np.ascontiguousarray(x[:, :classes])
            yield of_classes(kind), rows, np.ascontiguousarray(grad_y[:, :classes])


@pytest.mark.parametrize("dtype", DTYPES)
def test_batches_of_every_size(dtype, threads):
    sizes = range(1, MOST) if threads == 1 else [1, 2, 7, 8, 9, 47, 48, 49, 97, 192, 193, 299]
    for rows, x, grad_y in operations(dtype):
        together = rows(x, grad_y)
        for size in sizes:
            # The last batch of this size, and a first one that starts at another row.
            for start in (size % 5, MOST - size) if size < MOST - 5 else (0,):
                batch = slice(start, start + size)
                for part, whole in zip(rows(x[batch], grad_y[batch]), together, strict=True):
                    assert_same_bits(part, whole[batch])


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_order_of_the_rows(dtype, threads):
    order = np.argsort(np.random.PCG64(5).random_raw(MOST), kind="stable")
    for rows, x, grad_y in operations(dtype):
        together = rows(x, grad_y)
        for permuted, whole in zip(rows(x[order], grad_y[order]), together, strict=True):
            assert_same_bits(permuted, whole[order])

"""Which first layers go by leaves of their inputs, what a group is, and whose it is."""

import numpy as np
import pytest
from fastmlp_kernels import blocking, epoch, epoch_table, input_leaves, sparse_layer
from helpers import DTYPES, compiled

import fastmlp

BY_LEAVES = [530, 50, 4]  # three leaves of inputs, tasks of their own


def test_which_layers_go_by_leaves():
    for dtype in DTYPES:
        lanes = compiled(blocking.lanes_of)(np.dtype(dtype).itemsize)
        for sizes, expected in ((BY_LEAVES, True), ([256, 50, 4], False), ([530, 130, 4], False)):
            table = np.zeros((len(sizes) - 1, epoch_table.FIELDS), np.int64)
            table[:, : epoch.GIVEN] = fastmlp.MLP(sizes, dtype=dtype)._layers
            compiled(sparse_layer.set_sparse)(table, True, False, 1)
            assert compiled(input_leaves.pays_to_go_by_leaves)(table, 1, lanes) == expected


@pytest.mark.parametrize(
    ("inputs", "bias", "groups"),
    [
        (257, 1, 2),  # one for each of two threads
        (512, 1, 3),  # the third leaf's sibling would be the sum of the others
        (530, 1, 3),
        (768, 0, 3),
        (768, 1, 3),
        (784, 1, 3),
        (831, 1, 3),
        (832, 1, 4),
        (1300, 0, 5),
    ],
)
def test_leaves_that_are_a_group(inputs, bias, groups):
    assert compiled(input_leaves.count_groups)(inputs, bias) == groups


@pytest.mark.parametrize("num_threads", [1, 2, 3, 7])
def test_leaves_are_shared(num_threads):
    x = np.zeros((100, 1000), np.float32)
    for leaf, count in enumerate([20, 50, 30, 1]):  # of inputs that aren't zero
        x[:, 256 * leaf : 256 * leaf + count] = 1
    order, ends = np.empty(4, np.int64), np.empty(num_threads, np.int64)
    compiled(input_leaves.share_groups)(x, order, ends)
    shares = [list(share) for share in np.split(order, ends[:-1])]
    expected = {1: [[1, 2, 0, 3]], 2: [[1, 3], [2, 0]], 3: [[1], [2], [0, 3]]}
    assert shares == expected.get(num_threads, [[1], [2], [0], [3], [], [], []])

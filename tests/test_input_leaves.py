"""Which first layers go by leaves of their inputs, what a group is, and whose it is."""

import numpy as np
import pytest

from fastmlp.model import epochs
from fastmlp.plan.blocking import machine
from fastmlp.plan.ways import Training, choose, count_groups

BY_LEAVES = [530, 50, 4]  # three leaves of inputs, tasks of their own


@pytest.mark.parametrize("vector_bits", [512, 256])
@pytest.mark.parametrize("itemsize", [4, 8])
def test_which_layers_go_by_leaves(itemsize, vector_bits):
    for sizes, expected in ((BY_LEAVES, True), ([256, 50, 4], False), ([530, 130, 4], False)):
        training = Training(
            tuple(sizes), (True, True), itemsize, 40, 0, 2, "sgd", rides=True, ordered=False,
            is_long=False, skips=True, skips_x=True, groups=(),
        )  # fmt: skip
        layers = choose(training, machine(vector_bits, False))
        assert layers[0].by_groups == expected


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
    assert count_groups(inputs, bias) == groups


@pytest.mark.parametrize("num_threads", [1, 2, 3, 7])
def test_leaves_are_shared(num_threads):
    x = np.zeros((100, 1000), np.float32)
    for leaf, count in enumerate([20, 50, 30, 1]):  # of inputs that aren't zero
        x[:, 256 * leaf : 256 * leaf + count] = 1
    shares = epochs.share_groups(x, 4, num_threads)
    expected = {
        1: ((1, 2, 0, 3),),
        2: ((1, 3), (2, 0)),
        3: ((1,), (2,), (0, 3)),
    }
    assert shares == expected.get(num_threads, ((1,), (2,), (0,), (3,), (), (), ()))

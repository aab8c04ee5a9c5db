import pytest
from helpers import DTYPES, assert_same_bits, floats

import fastmlp
from fastmlp import notebook, reference


@pytest.mark.parametrize("dtype", DTYPES)
def test_epsilon_is_used_and_rounded_to_the_dtype(dtype):
    x, grad_y = floats(11, (20, 10), dtype), floats(12, (20, 10), dtype)
    ours, theirs = fastmlp.Softmax(), reference.Softmax()
    assert ours.epsilon == theirs.epsilon == 1e-12
    plain = ours.forward(x)
    ours.epsilon = theirs.epsilon = 0.1
    y = ours.forward(x)
    assert (y != plain).all()
    assert_same_bits(y, theirs.forward(x))
    assert_same_bits(ours.backward(grad_y), theirs.backward(grad_y))
    with fastmlp.arithmetic("numpy"):
        assert_same_bits(ours.forward(x), notebook.exp_and_softmax(x, 0.1)[1])

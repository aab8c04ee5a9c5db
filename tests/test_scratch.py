"""Memory that calls share: a thread's own, used again, and no part of any result."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastmlp
from fastmlp.scratch import MOST_KEPT, NONE, scratch


def test_a_thread_uses_its_memory_again():
    def work():
        assert scratch(100) is NONE
        mine = scratch(1 << 14)
        assert scratch(1 << 13) is mine
        assert scratch(1 << 14) is mine
        grown = scratch(1 << 15)
        assert grown.size == 1 << 15
        assert scratch(1 << 14) is grown
        assert scratch(MOST_KEPT + 1).size > MOST_KEPT
        assert scratch(1 << 14) is grown
        return grown

    with ThreadPoolExecutor(1) as pool:  # new threads: this one's memory may have grown before
        mine = pool.submit(work).result()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() is not mine


def test_calls_of_many_threads_and_what_the_memory_held_change_nothing():
    random = np.random.default_rng(0)
    x, W, grad_y = (random.random(s, np.float32) for s in ((32, 300), (300, 400), (32, 400)))
    model = fastmlp.MLP([300, 500, 10], rng=0)
    rows = random.random((200, 300), np.float32)

    def work(_):
        scratch(1 << 17).fill(-1)  # NaN
        operation = fastmlp.Matmul()
        y = operation.forward(x, W)
        return y, *operation.backward(grad_y), model.predict_proba(rows)

    expected = work(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(24)):
            for array, other in zip(found, expected, strict=True):
                assert array.tobytes() == other.tobytes()
    assert scratch(1 << 17)[0] != -1  # it was used

"""The threads' shares of a plan's work, by simulation: where they are even, else why not."""

import pytest
from fastmlp_kernels.plans.execute import _rows_by_columns, _rows_each

from fastmlp.plan import shares
from fastmlp.plan.blocking import machine
from fastmlp.plan.matmul import Layout, plan_forward
from fastmlp.plan.predict import (
    MANY,
    MANY_KEPT,
    WIDE,
    WIDE_ROWS,
    Prediction,
    keeps,
    plan_prediction,
)
from fastmlp.plan.step import plan_training
from fastmlp.plan.ways import Training, count_groups, goes_by_groups, run_of_leaves

AT = machine(256, False)
SMALL, LARGE, W1024 = (784, 100, 10), (784, 512, 256, 10), (784, 1024, 1024, 10)
W4096, SMOOTH = (784, 4096, 4096, 10), (16, 64, 64, 1)
EVEN = 1.10

# The time of the last thread to end over the mean of all, in percent, of a step, a prediction or a
# product, at most; where it is over 110, the reason. All by so many threads:
THREADS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Steps of tens of microseconds: a finer cut gains less than its reads and its stages cost.
SEVEN_PANELS = "100 columns are 7 panels, the last one half as wide; blocks of W end where these do"
GROUPS = "3 groups of inputs, by parts of 8 samples or 64 inputs, of which there are 13"
FEW_ROWS = "64 rows of W are 4 or 8 tasks; a step of 2 threads takes 60 us"
FEW_TASKS = "256 columns that pass over zeros are 16 panels; of 32 samples the loss is 8 tasks"
PARTS = "parts of a block have 8 rows or more: with fewer, reading B takes longer than it gains"
BY_TILES = "tasks have whole tiles, of 12, 6, 4 rows for 12, 24, 48 threads; packing W is 4 tasks"
TABLE = [
    ("train", (SMALL, 32, False), "106 114 112 125 117 122 122 127 125 152 139", SEVEN_PANELS),
    ("train", (SMALL, 32, True), "101 103 104 109 130 117 140 201 268 402 536", GROUPS),
    ("train", (SMALL, 128, False), "103 109 106 114 107 112 119 124 116 120 123", SEVEN_PANELS),
    ("train", (SMALL, 128, True), "101 104 105 106 117 112 119 142 180 221 294", GROUPS),
    ("train", (SMALL, 60000, False), "102 102 102 102 102 102 103 103 109 103 110", ""),
    ("train", (SMALL, 60000, True), "102 102 102 102 103 103 103 103 110 106 110", ""),
    ("train", (SMOOTH, 256, False), "106 109 122 111 122 158 178 239 279 418 449", FEW_ROWS),
    ("train", (LARGE, 32, False), "100 102 100 105 100 107 101 110 107 118 123", FEW_TASKS),
    ("train", (LARGE, 32, True), "100 102 100 103 100 107 102 111 113 137 161", FEW_TASKS),
    ("train", (LARGE, 128, False), "100 101 100 102 100 103 100 103 101 108 106", ""),
    ("train", (LARGE, 128, True), "101 102 102 102 100 105 101 108 101 113 115", FEW_TASKS),
    ("train", (LARGE, 60000, False), "102 102 102 102 102 102 102 102 109 103 110", ""),
    ("train", (LARGE, 60000, True), "102 102 102 102 102 102 102 103 109 103 110", ""),
    ("train", (W1024, 32, False), "100 101 100 103 100 105 101 111 104 112 109", FEW_TASKS),
    ("train", (W1024, 128, False), "100 101 100 102 101 101 100 103 100 106 102", ""),
    ("train", (W4096, 32, False), "100 100 100 101 100 101 101 103 102 105 104", ""),
    ("train", (W4096, 128, False), "100 100 100 100 100 100 101 102 101 102 101", ""),
    ("predict", (SMALL, 128), "101 103 101 105 104 119 110 126 118 178 129", BY_TILES),
    ("predict", (SMALL, 10000), "100 101 101 101 101 104 103 104 108 106 103", ""),
    ("predict", (W1024, 128), "100 103 100 103 101 103 101 103 102 105 105", ""),
    ("predict", (W1024, 10000), "100 101 101 101 101 104 103 104 108 106 102", ""),
    ("product", ((32, 784, 512), False), "100 101 100 103 100 103 100 112 100 112 100", PARTS),
    ("product", ((128, 784, 100), False), "101 107 102 110 105 104 107 117 122 138 126", PARTS),
    ("product", ((60000, 784, 100), False), "100 100 100 100 101 101 102 101 102 101 102", ""),
    ("product", ((60000, 784, 100), True), "104 102 109 102 109 102 109 102 109 102 109", ""),
    ("product", ((1024, 1024, 1024), False), "100 101 100 101 100 101 100 101 100 101 102", ""),
]
NEARLY_BEST = 1.25  # times what no sharing of the same tasks is below


def planned(threads, sizes, batch, has_zeros):
    training = Training(
        sizes, (True,) * (len(sizes) - 1), 4, batch, 0, threads, "adam", rides=False, ordered=True,
        is_long=batch < 7500, skips=True, skips_x=has_zeros, groups=(),
    )  # fmt: skip
    if not run_of_leaves(batch, threads) and goes_by_groups(training, AT):
        count = count_groups(sizes[0], 1)
        groups = tuple(tuple(range(thread, count, threads)) for thread in range(threads))
        training = training._replace(groups=groups)
    return plan_training(training, AT)


def test_costs_are_the_fmas_and_bytes_of_the_operations():
    """A step of whole vectors: x @ W, h^T @ grad with its row of ones, grad @ W^T of the second."""
    plan = planned(1, (32, 64, 16), 40, False)
    first, stop = plan.programs[1].tolist()
    tasks = plan.tasks[plan.stages[first, 0] : plan.stages[stop - 1, -1]].tolist()
    costs = shares.task_costs(plan, tasks, 4)
    forward, backward = 32 * 64 + 64 * 16, 64 * 16
    gradients = 33 * 64 + 65 * 16
    assert sum(cost.fmas for cost in costs) == 40 * (forward + backward + gradients)
    layout = Layout((48, 256), (1024, 4), (256, 16), (64, 4), (64, 4), 4, 1)
    plan = plan_forward(layout, AT)
    (cost,) = shares.task_costs(plan, plan.tasks.tolist(), 4)
    assert cost == (48 * 256 * 16, 4 * (48 * 256 + 256 * 16 + 48 * 16))
    assert cost.cycles(8) == cost.fmas / 16 + cost.bytes / 32


def product(threads, M, K, N, is_transposed):
    """A layer of the benchmark, or x^T @ grad_y of x (M, K)."""
    plain = (M, K), (4 * K, 4), (K, N), (4 * N, 4), (4 * N, 4)
    across = (K, M), (4, 4 * K), (M, N), (4 * N, 4), (4 * N, 4)
    return plan_forward(Layout(*(across if is_transposed else plain), 4, threads), AT)


def of_step(threads, sizes, batch, has_zeros):
    plan = planned(threads, sizes, batch, has_zeros)
    first, stop = plan.programs[1].tolist()
    return [shares.stage_times(plan, stage, 4, 8) for stage in plan.stages[first:stop].tolist()]


def of_prediction(threads, sizes, rows):
    """The tasks of many rows are made when they come: see `_set_tables` in execute.py."""
    kind = (WIDE if rows <= WIDE_ROWS else MANY_KEPT) if keeps(sizes) else MANY
    prediction = Prediction(sizes, (True,) * (len(sizes) - 1), 4, kind, "classes")
    plan, found = plan_prediction(prediction, AT), []
    for number, (start, stop) in enumerate(plan.stages.tolist()):
        tasks = plan.tasks[start:stop].tolist()
        if number == 0:
            tasks = [] if keeps(sizes) else tasks  # kept copies are made once
        else:
            each = _rows_by_columns.py_func(rows, len(tasks), threads)
            if number == len(plan.stages) - 1:
                each = _rows_each.py_func(rows, threads)
            tasks = [
                (*task[:2], row, min(each, rows - row), rows, 0)
                for task in tasks
                for row in range(0, rows, each)
            ]
        times = [cost.cycles(8) for cost in shares.task_costs(plan, tasks, 4)]
        found.append((times, [len(times) * (thread + 1) // threads for thread in range(threads)]))
    return [stage for stage in found if stage[0]]


def of_product(threads, shape, is_transposed):
    plan = product(threads, *shape, is_transposed)
    return [shares.stage_times(plan, stage, 4, 8) for stage in plan.stages.tolist()]


def least(times, threads):
    """What no way to share these tasks is below: of k * threads + 1, one thread has k + 1."""
    largest = sorted(times, reverse=True)
    starts = range(0, len(times), threads)
    alike = (sum(largest[k - k // threads : k + 1]) for k in starts)
    return max(sum(times) / threads, *alike)


OF = {"train": of_step, "predict": of_prediction, "product": of_product}


@pytest.mark.parametrize(
    ("kind", "case", "most", "reason"), TABLE, ids=[f"{kind} {case}" for kind, case, *_ in TABLE]
)
def test_threads_share_the_work_evenly_or_for_a_reason_not(kind, case, most, reason):
    found = []
    for threads in THREADS:
        longest = mean = best = 0
        for times, ends in OF[kind](threads, *case):
            mean += sum(times) / threads
            longest += shares.slowest(times, ends) * sum(times) / threads
            best += least(times, threads)
        found.append(longest / mean)
        assert longest < NEARLY_BEST * best, threads
    listed = [int(number) / 100 for number in most.split()]
    shown = " ".join(f"{100 * share:.0f}" for share in found)
    assert all(share < most + 0.01 for share, most in zip(found, listed, strict=True)), shown
    assert reason or max(listed) <= EVEN


def test_a_thread_takes_its_own_tasks_first_and_then_those_that_others_have_left():
    assert shares.take([1, 1, 1, 1], [2, 4]) == [[0, 1], [2, 3]]
    assert shares.take([5, 1, 1, 1, 1, 1], [3, 6]) == [[0], [3, 4, 5, 1, 2]]
    assert shares.take([2, 1, 1], [0, 0, 3]) == [[0], [1], [2]]
    assert shares.slowest([2, 1, 1], [0, 0, 3]) == 1.5
    assert shares.slowest([0, 0], [1, 2]) == 1

"""Plans, without running them: no operand leaves its memory, no two tasks of a stage race."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from fastmlp_kernels.compiling import emitter
from fastmlp_kernels.plans import record
from fastmlp_kernels.products import tile
from plans import accesses, race, sizes_of_bases

from fastmlp import plan as plans
from fastmlp.model.addresses import product_plan, this_machine
from fastmlp.plan.blocking import machine, share
from fastmlp.plan.blocks import cut
from fastmlp.plan.matmul import Layout, plan_backward, plan_forward
from fastmlp.plan.step import plan_training
from fastmlp.plan.table import show
from fastmlp.plan.ways import Training, choose, count_groups, goes_by_groups, run_of_leaves

HERE = Path(__file__).parent

# sizes, batch, samples of the last one (0: all are equal)
SHAPES = [
    ((5, 3), 30, 0),
    ((10, 16, 3), 32, 8),
    ((300, 33, 70, 12), 30, 17),
    ((7, 300, 5), 30, 0),
    ((9, 40, 30), 230, 17),
    ((60, 280, 300, 4), 3, 1),
    ((40, 700, 50, 6), 32, 5),
    ((3, 5, 2), 3200, 17),
    ((20, 9, 3), 2100, 1300),
    ((530, 50, 4), 70, 1),
    ((256, 70, 3), 90, 10),
    ((784, 40, 3), 70, 9),
    ((90, 200, 3), 1200, 300),
    ((130, 128, 130, 4), 20, 0),
    ((9, 260, 510, 5), 20, 3),
]


def trainings(shape):
    """Trainings of a shape: numbers of threads, optimizers, zeros, orders, dtypes, in turn."""
    sizes, batch, last = shape
    for number in range(6 if len(sizes) > 2 else 3):
        optimizer = ("sgd", "momentum", "adam")[(number + batch) % 3]
        names = ("relu", "tanh", "relu", "gelu", "identity")
        activation = tuple(names[(layer + number) % 5] for layer in range(len(sizes) - 2))
        bias = tuple((layer + number) % 3 > 0 for layer in range(len(sizes) - 1))
        yield Training(
            sizes, bias, 4 + 4 * (number == 4), batch, last, 1 + number % 3, optimizer,
            rides=optimizer == "sgd", ordered=number % 2 == 0, is_long=number % 3 > 0, skips=True,
            skips_x=number >= 3, groups=(), activation=activation, weighted=number % 2 == 1,
            loss=("cross_entropy", *record.TARGET_LOSSES)[(number + batch) % 6],
        )  # fmt: skip
    for number, optimizer in enumerate(("nesterov", "adamw", "sgd", "adamw")):
        yield Training(
            sizes, (True,) * (len(sizes) - 1), 4 + 4 * (number == 3), batch, last,
            1 + (number + batch) % 3, optimizer, rides=False, ordered=number % 2 == 0,
            is_long=number > 0, skips=True, skips_x=number > 1 and len(sizes) > 2, groups=(),
            clips=True, decay_bias=number % 2 == 0,
        )  # fmt: skip


def planned(training, at):
    if not run_of_leaves(training.batch, training.threads) and goes_by_groups(training, at):
        count = count_groups(training.sizes[0], int(training.bias[0]))
        groups = tuple(
            tuple(range(thread, count, training.threads)) for thread in range(training.threads)
        )
        training = training._replace(groups=groups)
    return plan_training(training, at)


@pytest.mark.parametrize("vector_bits", [512, 256])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_operand_leaves_its_memory_and_no_tasks_race(shape, vector_bits):
    at = machine(vector_bits, False)
    for training in trainings(shape):
        plan = planned(training, at)
        sizes = sizes_of_bases(plan, training)
        for stage in plan.stages.tolist():
            tasks = [accesses(plan, training, task) for task in plan.tasks[stage[0] : stage[-1]]]
            for runs in tasks:
                for base, start, stop, _ in runs:
                    assert 0 <= start <= stop <= sizes[base], (training, record.BASE_NAMES[base])
            assert race(tasks, sizes) is None, training


def test_a_race_and_an_operand_outside_are_found():
    sizes = {record.BUFFERS: 64}
    left, right = [(record.BUFFERS, 0, 32, True)], [(record.BUFFERS, 28, 64, False)]
    assert race([left, right], sizes) == record.BUFFERS
    assert race([left, [(record.BUFFERS, 32, 64, True)]], sizes) is None
    assert race([right, right], sizes) is None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_stage_has_each_task_once(shape):
    at = machine(256, False)
    for training in trainings(shape):
        plan = planned(training, at)
        tasks = plan.tasks
        assert plan.stages[0, 0] == 0
        assert plan.stages[-1, -1] == len(tasks)
        assert (plan.stages[1:, 0] == plan.stages[:-1, -1]).all()
        assert (np.diff(plan.stages, axis=1) >= 0).all()
        assert (tasks[:, 0] <= tasks[:, 1]).all()
        assert (tasks[:, 1] <= len(plan.operations)).all()


# M, K, N: rows of a block, leaves, panels; tall ones, with an own leaf for the bias; empty ones.
PRODUCTS = [
    (1, 3, 2), (2, 300, 130), (47, 256, 100), (49, 257, 65), (200, 30, 300), (500, 2300, 7),
    (3, 4096, 5), (60, 9000, 40), (1000, 4100, 3), (30000, 5, 20), (0, 7, 3), (5, 0, 3), (4, 3, 0),
]  # fmt: skip


def products(shape):
    """Layouts of a product: threads, dtypes, biases, gates, transposed x, W and y, in turn."""
    M, K, N = shape
    for number in range(8):
        itemsize, threads = 4 + 4 * (number % 2), 1 + number % 3
        strides = [
            (itemsize, rows * itemsize) if number >> axis & 1 else (columns * itemsize, itemsize)
            for axis, (rows, columns) in enumerate([(M, K), (K, N)])
        ]
        yield Layout(
            (M, K), strides[0], (K, N), strides[1], (N * itemsize, itemsize), itemsize, threads,
            number % 3 > 0, number % 5 > 2, number % 4 == 1,
        )  # fmt: skip


@pytest.mark.parametrize("machine", [machine(512, False), machine(256, False), machine(128, True)])
@pytest.mark.parametrize("shape", PRODUCTS, ids=str)
def test_no_operand_of_a_product_leaves_its_array_and_no_tasks_race(shape, machine):
    M, K, N = shape
    for layout in products(shape):
        for plan_product in (plan_forward, plan_backward):
            plan = plan_product(layout, machine)
            elements = [M * K, K * N, M * N, N, M * N]
            if plan_product is plan_backward:
                elements[3:] = M * K, (K + layout.with_bias) * N, M * N
            sizes = {
                record.ARRAYS + number: size * layout.itemsize
                for number, size in enumerate(elements)
            }
            sizes[record.BUFFERS], sizes[record.OWN] = plan.buffers, plan.own
            sizes[record.PLAN] = (plan.words.size - plan.starts[4]) * 8
            written = dict.fromkeys(range(3 if plan_product is plan_forward else 4, 6), 0)
            for stage in plan.stages.tolist():
                tasks = [accesses(plan, layout, task) for task in plan.tasks[stage[0] : stage[-1]]]
                for runs in tasks:
                    for base, start, stop, writes in runs:
                        assert 0 <= start <= stop <= sizes[base], (layout, base)
                        if writes and base in written:
                            written[base] = max(written[base], stop)
                assert race(tasks, sizes) is None, layout
            results = [3] if plan_product is plan_forward else [4, 5]
            assert [written[base] for base in results] == [sizes[base] for base in results]


def test_a_product_names_only_what_its_shape_needs():
    layout = Layout((6, 10), (40, 4), (10, 10), (40, 4), (40, 4), 4, 1)
    at = machine(256, False)
    forward, backward = plan_forward(layout, at), plan_backward(layout, at)
    assert (forward.kinds, backward.kinds) == ({"product"}, {"product", "pack"})
    assert [at.shapes[number] for number in forward.shapes] == [(6, 2, 1)]
    assert {at.shapes[number][:2] for number in backward.shapes} == {(6, 2), (4, 2)}
    tall = plan_backward(layout._replace(x_shape=(9000, 10), threads=2), at)
    assert tall.kinds == {"product", "pack", "add", "move"}


def test_a_plan_of_a_product_is_kept():
    layout = Layout((6, 10), (40, 4), (10, 10), (40, 4), (40, 4), 4, 1)
    assert product_plan(plan_forward, *layout) is product_plan(plan_forward, *layout)
    other = layout._replace(x_strides=(4, 24))
    assert product_plan(plan_forward, *layout) is not product_plan(plan_forward, *other)


def test_kernels_have_the_planners_registers():
    assert this_machine().registers == emitter.REGISTERS
    assert this_machine().has_masked_loads == tile.HAS_MASKED_LOADS


@pytest.mark.parametrize("vector_bits", [512, 256, 128])
def test_tiles_cover_the_rows_of_a_block(vector_bits):
    at = machine(vector_bits, False)
    kinds = {(vectors, group) for _, vectors, group in at.shapes}
    for vectors, group in kinds:
        for rows in range(1, 49):
            left = rows
            while left:
                tile = at.tile(left, vectors, group)
                assert tile[:3] in at.numbers
                assert tile.times > 0
                left -= tile.rows * tile.times
            assert left == 0
    assert machine(256, False).tile(8, 2, 1) == (4, 2, 1, 2)  # not one of 6 rows and one of 2
    assert machine(256, False).tile(20, 2, 1) == (6, 2, 1, 2)
    assert machine(512, False).tile(20, 2, 4) == (12, 2, 4, 1)
    assert machine(512, False).tile(8, 2, 4) == (8, 3, 1, 1)  # too few for a tail


def test_decisions_stay_as_they_are():
    """Ways, panels and threads' shares at 256 bits: a decision that changes shall be seen.

    "layers": the panels of W and of W^T, and whether products pass over zeros (2: by groups).
    """
    at = machine(256, False)
    for cell in json.loads((HERE / "plan_decisions.json").read_text()):
        sizes, threads = tuple(cell["sizes"]), cell["threads"]
        count = count_groups(sizes[0], 1)
        groups = [tuple(share(count, thread, threads)) for thread in range(threads)]
        training = Training(
            sizes, (True,) * (len(sizes) - 1), cell["itemsize"], cell["batch"], 0, threads, "adam",
            rides=False, ordered=True, is_long=cell["is_long"], skips=True,
            skips_x=cell["skips_x"], groups=tuple(groups),
        )  # fmt: skip
        layers = choose(training, at)
        ways = [[it.panels, it.row_panels, it.skips + it.by_groups] for it in layers]
        assert run_of_leaves(training.batch, threads) == cell["run"]
        assert sum(layer.by_columns for layer in layers) == cell["by_columns"]
        assert (ways, cut(layers, training, at)[1]) == (cell["layers"], cell["ends"]), cell


def test_a_plan_shows_its_operations():
    training = next(iter(trainings(SHAPES[1])))
    lines = show(planned(training, machine(256, False))).splitlines()
    assert any("gather" in line and " x=x+0 " in line for line in lines)


FILES = sorted(Path(plans.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_planner_imports_no_numba(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level < 2 or node.module == "checks"
            names = [node.module or ""] if node.level == 0 else []
        for name in names:
            assert name.split(".")[0] not in ("numba", "llvmlite")
            assert not name.startswith("fastmlp_kernels") or name == "fastmlp_kernels.plans.record"
    assert "numba" not in (Path(record.__file__).read_text()).replace("No Numba", "")

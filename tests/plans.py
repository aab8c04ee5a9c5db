"""What the operations of a plan read and write: runs of bytes behind a base, row for row."""

import numpy as np
from fastmlp_kernels.plans import record
from fastmlp_kernels.plans.record import LEAF, WORD

from fastmlp.plan.table import base_and_offset
from fastmlp.plan.ways import STATES

NAMES = list(record.FIELDS)


class Access:
    """Collects the runs of bytes of one task: (base, start, stop, whether written)."""

    def __init__(self, plan, training, task):
        self.plan, self.training = plan, training
        self.task = dict(zip(record.TASK_FIELDS, task.tolist(), strict=False))
        self.runs = []

    def add(self, operand, by, count, each, apart, written=False):
        """`count` runs of `each` bytes, `apart` bytes from one to the next; by: a task's rows."""
        if not operand or not count or not each:
            return
        base, offset = base_and_offset(operand)
        if base != record.OWN:
            offset += by
        assert apart >= 0
        if apart == each:
            count, each = 1, count * each
        for number in range(count):
            start = offset + number * apart
            self.runs.append((base, start, start + each, written))


def constants(plan, operand, count):
    """int64 of the plan at an operand."""
    base, offset = base_and_offset(operand)
    assert base == record.PLAN
    start = plan.starts[4] + offset // 8
    assert start + count <= plan.words.size
    return plan.words[start : start + count]


def accesses(plan, training, task):
    """The runs of bytes that a task reads and writes, of all its leaves."""
    found = Access(plan, training, task)
    for leaf in range(max(1, found.task["leaves"])):
        row, rows = found.task["row"] + leaf * LEAF, found.task["rows"]
        if found.task["leaves"]:
            rows = min(LEAF, rows - leaf * LEAF)
        for operation in plan.operations[found.task["first"] : found.task["stop"]]:
            kind = NAMES[operation[0]]
            it = dict(zip(record.FIELDS[kind], operation.tolist(), strict=False))
            mine = min(it["most"], rows - it["chunk"])
            if mine > 0:
                OF[kind](found, it, row, mine)
    return found.runs


def of_product(found, it, row, own_rows):
    size, rows = it["itemsize"], own_rows if it["rows"] < 0 else it["rows"]
    inner, i, k = it["inner"], row * size, 0
    if it["by_leaf"]:
        is_last = row + own_rows == found.task["row"] + found.task["rows"]
        bias = it["bias"] if is_last else 0
        inner, i, k = own_rows - (bias != 0), 0, i
    else:
        bias = it["bias"]
    panels = constants(found.plan, it["panels"], 4 * it["panel_count"]).reshape(-1, 4)
    columns, behind = int(panels[:, 1].sum()), int(panels[0, 0]) * size
    by = i * it["a_row"] + k * it["a_step"]
    if it["a_row"] == 1:
        found.add(it["a"], by, inner, rows * size, it["a_step"] * size)
    else:
        found.add(it["a"], by, rows, inner * size, it["a_row"] * size)
    found.add(it["ones"], 0, 1, size, size)
    for first, count, width, _ in panels.tolist():
        if it["b_leaf"]:
            for leaf in range(0, max(1, inner), LEAF):
                place = leaf // LEAF * it["b_leaf"] + first * LEAF
                steps = min(LEAF, inner - leaf)
                found.add(it["b"] + place * size, 0, steps, width * size, width * size)
        else:
            by = k * it["b_row"]
            found.add(it["b"] + first * size, by, inner, count * size, it["b_row"] * size)
    found.add(bias, behind, 1, columns * size, 0)
    by = behind + i * it["gate_row"]
    found.add(it["gate"], by, rows, columns * size, it["gate_row"] * size)
    found.add(it["rate"], 0, 1, size, size)
    by = behind + i * it["c_row"] + found.task["part"] * it["part"]
    count = rows + (it["ones"] != 0)
    found.add(it["c"], by, count, columns * size, it["c_row"] * size, written=True)
    leaves = max(1, -(-(inner + (it["bias"] != 0)) // LEAF))
    if it["by_leaf"]:
        leaves = found.task["leaves"]
    if rows > it["at_once"]:
        height = rows + 1 if it["by_leaf"] else min(rows, record.BLOCK_ROWS) + 1
        room = height * it["width"]
    else:
        room = 0
    found.add(it["scratch"], 0, (leaves - 1).bit_length(), room * size, room * size, written=True)


def of_sparse(found, it, row, own_rows):
    size, rows, width = it["itemsize"], it["rows"] or own_rows, it["width"]
    inner = own_rows if it["by_leaf"] else it["inner"]
    by = row * size * (it["a_step"] if it["by_leaf"] else it["a_row"])
    finds = it["distance"] == 0 and found.training.ordered
    if it["a_row"] == 1:
        found.add(it["a"], by, inner, rows * size, it["a_step"] * size)
    else:
        found.add(it["a"], by, rows, inner * size, it["a_row"] * size, written=finds)
    found.add(it["ones"], 0, 1, size, size)
    words = -(-inner // WORD)
    count = rows + (it["ones"] != 0)
    written = it["finds"] != 0
    by = row * it["words_row"] * 8
    found.add(it["words"], by, count, words * 8, it["words_row"] * 8, written=written)
    found.add(it["b"], 0, inner, width * size, it["b_step"] * size)
    found.add(it["bias"], 0, 1, width * size, 0)
    total = row * width * size
    if it["by_leaf"]:
        total = found.task["part"] * it["part"]
    found.add(it["total"], total, count, width * size, width * size, written=True)
    leaves = max(1, -(-(inner + (it["bias"] != 0)) // LEAF))
    if it["by_leaf"]:
        leaves = found.task["leaves"]
    levels, slot = (leaves - 1).bit_length(), it["slot_size"] * size
    assert levels == 0 or slot >= count * width * size
    found.add(it["slots"], 0, levels, count * width * size, slot, written=True)
    if it["rate"]:
        found.add(it["rate"], 0, 1, size, size)
        found.add(it["target"], 0, count, width * size, width * size, written=True)
    if it["distance"] >= 0:
        numbers = rows + (8 if it["distance"] == 0 else 0)
        found.add(it["offsets"], 0, numbers, 8, 8, written=True)
    by, each = row * it["c_row"] * size, it["columns"] if it["gate"] else width
    found.add(it["gate"], by, rows, it["columns"] * size, it["c_row"] * size)
    found.add(it["c"], by, rows, each * size, it["c_row"] * size, written=True)


def of_find(found, it, row, rows):
    size, words = found.training.itemsize, it["stop"] - it["first"]
    first, last = it["first"] * WORD, min(it["stop"] * WORD, it["inputs"])
    by, place = row * it["x_row"] * size, it["x"] + first * size
    found.add(place if it["x"] else 0, by, rows, (last - first) * size, it["x_row"] * size)
    by, place = row * it["words_row"] * 8, it["words"] + it["first"] * 8
    found.add(place, by, rows, words * 8, it["words_row"] * 8, written=it["x"] != 0)
    if it["column_words"]:
        count = last - first + (last == it["inputs"])
        place = it["column_words"] + (first - it["skipped"]) * it["stride"] * 8
        each = -(-rows // WORD) * 8
        found.add(place, row // WORD * 8, count, each, it["stride"] * 8, written=True)
        found.add(it["square"], 0, 1, WORD * 8, 0, written=True)


def of_gather(found, it, row, rows):
    found.add(it["order"], row * 8, rows, 8, 8)
    found.add(it["target"], row * it["target_row"], rows, it["size"], it["target_row"], True)


def of_move(found, it, row, rows):
    for name in ("source", "target"):
        each = it[f"{name}_row"]
        found.add(it[name], row * each, it["count"], it["size"], each, written=name == "target")


def of_pack(found, it, row, rows):
    size, steps = found.training.itemsize, max(0, min(it["depth"], it["steps"] - row))
    by, by_target = row * it["row_step"] * size, row * it["width"] * size
    panels = constants(found.plan, it["panels"], 4 * it["panel_count"]).reshape(-1, 4)
    for first, columns, width, _ in panels.tolist():
        source = it["source"] + first * it["column_step"] * size
        if it["column_step"] == 1:
            found.add(source, by, steps, columns * size, it["row_step"] * size)
        else:
            found.add(source, by, columns, steps * size, it["column_step"] * size)
        place = it["target"] + (first * it["depth"] + it["first_k"] * width) * size
        found.add(place, by_target, steps, width * size, width * size, written=True)


def of_loss(found, it, row, rows):
    size, row_size = found.training.itemsize, it["row_size"]
    for name in ("logits", "grad"):
        each = row_size * size
        found.add(it[name], row * each, rows, each, each, written=True)
    found.add(it["labels"], row * 8, rows, 8, 8)
    found.add(it["scales"], row * size, rows, size, size)
    found.add(it["losses"], row * size, rows, size, size, written=True)
    count = record.LOSS_SCRATCH * (rows + record.LOSS_MORE)
    found.add(it["scratch"], 0, count, size, size, written=True)


def of_target_loss(found, it, row, rows):
    size, outputs = found.training.itemsize, it["outputs"]
    for name in ("z", "grad"):
        each = it["row_size"] * size
        found.add(it[name], row * each, rows, outputs * size, each, written=name == "grad")
    found.add(it["targets"], row * outputs * size, rows, outputs * size, outputs * size)
    found.add(it["scales"], row * size, rows, size, size)
    found.add(it["losses"], row * size, rows, size, size, written=True)
    found.add(it["constants"], 0, 1, 2 * size, 0)
    each = min(it["at_once"], rows) * outputs * size
    found.add(it["scratch"], 0, 3, each, it["at_once"] * outputs * size, written=True)


def of_update(found, it, row, rows):
    found.add(record.CONSTANTS << record.OFFSET_BITS, 0, 1, 64, 64)
    for name in ("w", "gradient", "first_state", "second_state"):
        found.add(it[name], 0, 1, it["size"] * found.training.itemsize, 0, written=True)


def of_activation(found, it, row, rows):
    size = found.training.itemsize
    by, each, apart = row * it["row_size"] * size, it["columns"] * size, it["row_size"] * size
    for name in ("z", "slope"):
        found.add(it[name], by, rows, each, apart, written=True)


def of_squares(found, it, row, rows):
    found.add(it["values"], 0, 1, it["size"] * found.training.itemsize, 0)
    found.add(it["sums"], 0, -(-it["size"] // LEAF), 8, 8, written=True)


def of_clip(found, it, row, rows):
    size = found.training.itemsize
    found.add(it["gradient"], 0, it["rows"], it["columns"] * size, it["row"] * size)
    each = it["width"] * size
    found.add(it["target"], 0, it["rows"], each, each, written=True)
    found.add(it["sums"], 0, it["count"], 8, it["each"] * 8)
    found.add(it["scratch"], 0, it["count"], 8, 8, written=True)


def of_join(found, it, row, rows):
    each = it["width"] * it["itemsize"]
    for group in range(it["count"]):
        found.add(it["sums"] + group * it["apart"], row * each, rows, each, each)
    each_c = it["c_row"] * it["itemsize"]
    found.add(it["c"], row * each_c, rows, each, each_c, written=True)
    found.add(it["scratch"], 0, -(-it["count"] // 4), 16 * each, 16 * each, written=True)


def of_add(found, it, row, rows):
    pairs = constants(found.plan, it["pairs"], 2 * it["count"])
    size = it["size"] * found.training.itemsize
    for part in pairs.tolist():
        found.add(it["parts"] + part * it["apart"], 0, 1, size, 0, written=True)


def of_gate(found, it, row, rows):
    size = found.training.itemsize
    for name in ("values", "gates", "result"):
        found.add(it[name], row * size, rows, size, size, written=name == "result")


def of_watch(found, it, row, rows):
    itemsize = found.training.itemsize
    each, count, size = it["row_size"] * itemsize, 1, it["size"] or rows * it["row_size"]
    if it["columns"]:
        count, size = rows, it["columns"]
    found.add(it["values"], row * each, count, size * itemsize, each)


OF = {
    "product": of_product,
    "sparse": of_sparse,
    "find": of_find,
    "gather": of_gather,
    "move": of_move,
    "pack": of_pack,
    "loss": of_loss,
    "join": of_join,
    "add": of_add,
    "watch": of_watch,
    "gate": of_gate,
    "rates": lambda *_: None,
    "squares": of_squares,
    "clip": of_clip,
    **dict.fromkeys(STATES, of_update),
    **dict.fromkeys(record.ACTIVATIONS, of_activation),
    **dict.fromkeys(record.TARGET_LOSSES, of_target_loss),
}


def sizes_of_bases(plan, training):
    """The bytes behind each base."""
    sizes, itemsize, batch = training.sizes, training.itemsize, training.batch
    elements = sum(
        (inputs + bias) * outputs
        for inputs, outputs, bias in zip(sizes, sizes[1:], training.bias, strict=False)
    )
    is_labels = training.loss == "cross_entropy"
    states = STATES[training.optimizer]
    return {
        record.X: 0 if training.ordered else batch * sizes[0] * itemsize,
        record.ORDER: batch * 8 if training.ordered else 0,
        record.LABELS: batch * (8 if is_labels else sizes[-1] * itemsize),
        record.SCALES: batch * itemsize if training.weighted else 0,
        record.LOSSES: batch * itemsize,
        record.RATE: itemsize,
        record.CONSTANTS: 64,
        record.PARAMETERS: elements * itemsize,
        record.STATES: states * elements * itemsize,
        record.BUFFERS: plan.buffers,
        record.PLAN: (plan.words.size - plan.starts[4]) * 8,
        record.OWN: plan.own,
    }


def race(tasks, sizes):
    """The base where two tasks of a stage touch bytes that one of them writes, or None.

    tasks: for each its runs of bytes; all are whole words of 4.
    """
    owners = {base: np.full(size // 4 + 1, -1, np.int32) for base, size in sizes.items()}
    for writing in (True, False):
        for number, runs in enumerate(tasks):
            for base, start, stop, written in runs:
                if base == record.OWN or written != writing:
                    continue
                owner = owners[base][start // 4 : -(-stop // 4)]
                if ((owner != -1) & (owner != number)).any():
                    return base
                if writing:
                    owner[:] = number
    return None

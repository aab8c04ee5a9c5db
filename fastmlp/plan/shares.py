"""How evenly threads share a plan's stages: what its tasks cost, and which thread takes which.

A task costs its FMAs, of padded panels, and the bytes that it reads and writes, each operand once.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from fastmlp_kernels.plans.record import (
    ACTIVATIONS,
    FIELDS,
    HEADS,
    LEAF,
    PANEL_WORDS,
    TARGET_LOSSES,
    WORD,
)

from .table import Plan, base_and_offset
from .ways import STATES

# Of a core in a cycle, for the time of a task; only its relation to that of others counts.
FMA_VECTORS, BYTES = 2, 32
NONZERO = 0.25  # of the elements of A in a product that passes over zeros
NAMES = list(FIELDS)

Fields = dict[str, int]


class Cost(NamedTuple):
    """What a task takes."""

    fmas: float
    bytes: float

    def cycles(self, lanes: int) -> float:
        """Return its time, with vectors of so many elements."""
        return self.fmas / (FMA_VECTORS * lanes) + self.bytes / BYTES


def stage_times(
    plan: Plan, stage: Sequence[int], itemsize: int, lanes: int
) -> tuple[list[float], list[int]]:
    """Return the time of each task of a stage, a row of plan.stages, and where threads' end."""
    start, *ends = stage
    costs = task_costs(plan, plan.tasks[start : ends[-1]].tolist(), itemsize)
    return [cost.cycles(lanes) for cost in costs], [end - start for end in ends]


def task_costs(plan: Plan, tasks: Iterable[Sequence[int]], itemsize: int) -> list[Cost]:
    """Return what tasks cost, each a row as in plan.tasks."""
    found = []
    operations: dict[int, tuple[str, Fields]] = {}
    for first, stop, _, rows, _, leaves, *_ in tasks:
        fmas = size = 0.0
        for number in range(first, stop):
            if number not in operations:
                row = plan.operations[number].tolist()
                operations[number] = NAMES[row[0]], _fields(plan, row)
            kind, it = operations[number]
            for leaf in range(max(1, leaves)):
                left = min(LEAF, rows - leaf * LEAF) if leaves else rows
                mine = min(it["most"], left - it["chunk"])
                if mine > 0:
                    more = COSTS[kind](it, mine, itemsize)
                    fmas, size = fmas + more.fmas, size + more.bytes
        found.append(Cost(fmas, size))
    return found


def take(costs: Sequence[float], ends: Sequence[int]) -> list[list[int]]:
    """Return the tasks of each thread: first those of its share, then what others have left.

    costs: the tasks' times; ends: where each thread's share ends. See take_task in team.py.
    """
    threads = len(ends)
    next_of, taken = [0, *ends[:-1]], [list[int]() for _ in ends]
    waiting = [(0.0, thread) for thread in range(threads)]
    while waiting:
        now, thread = heapq.heappop(waiting)
        for other in range(thread, thread + threads):
            owner = other % threads
            if next_of[owner] < ends[owner]:
                number = next_of[owner]
                next_of[owner] += 1
                taken[thread].append(number)
                heapq.heappush(waiting, (now + costs[number], thread))
                break
    return taken


def slowest(costs: Sequence[float], ends: Sequence[int]) -> float:
    """Return the time of the last thread to end such a stage, over the mean of all threads."""
    longest = max(sum(costs[number] for number in mine) for mine in take(costs, ends))
    return len(ends) * longest / (sum(costs) or 1.0) if longest else 1.0


def _fields(plan: Plan, row: list[int]) -> Fields:
    """An operation's fields; `wide`: the elements of a row of C, of its panels with their ends."""
    fields = dict(zip(FIELDS[NAMES[row[0]]], row, strict=False))
    wide = fields.get("width", 0)
    if fields.get("panel_count"):
        start = plan.starts[4] + base_and_offset(fields["panels"])[1] // 8
        words = plan.words[start : start + PANEL_WORDS * fields["panel_count"]]
        wide = int(words.reshape(-1, PANEL_WORDS)[:, 2].sum())
    return fields | {"wide": wide}


def _product(it: Fields, rows: int, itemsize: int) -> Cost:
    inner, wide = (rows if it["by_leaf"] else it["inner"]), it["wide"]
    count = (rows if it["rows"] < 0 else it["rows"]) + (it["ones"] != 0)
    ends = 1 + (it["gate"] != 0) + (it["rate"] != 0)
    return Cost(count * inner * wide, itemsize * ((count + wide) * inner + ends * count * wide))


def _sparse(it: Fields, rows: int, itemsize: int) -> Cost:
    inner, wide = (rows if it["by_leaf"] else it["inner"]), it["wide"]
    count = (it["rows"] or rows) + (it["ones"] != 0)
    read = 1 if it["finds"] else NONZERO
    ends = 1 + (it["gate"] != 0) + (it["rate"] != 0)
    size = (read * count + wide) * inner + ends * count * wide
    return Cost(NONZERO * count * inner * wide, itemsize * size)


def _bytes(size: Callable[[Fields, int, int], float]) -> Callable[[Fields, int, int], Cost]:
    return lambda *arguments: Cost(0, size(*arguments))


def _elements(count: Callable[[Fields, int], float]) -> Callable[[Fields, int, int], Cost]:
    return lambda it, rows, itemsize: Cost(0, itemsize * count(it, rows))


def _update(passes: int) -> Callable[[Fields, int, int], Cost]:
    return _elements(lambda it, _: passes * it["size"])


COSTS: dict[str, Callable[[Fields, int, int], Cost]] = {
    "product": _product,
    "sparse": _sparse,
    "find": _elements(lambda it, rows: rows * (it["stop"] - it["first"]) * WORD * (it["x"] != 0)),
    "gather": _bytes(lambda it, rows, _: 2 * rows * it["size"]),
    "move": _bytes(lambda it, _, __: 2 * it["count"] * it["size"]),
    "pack": _elements(lambda it, rows: 2 * min(it["steps"], it["depth"]) * it["wide"]),
    "join": _elements(lambda it, rows: (it["count"] + 1) * rows * it["width"]),
    "add": _elements(lambda it, _: 3 * it["count"] * it["size"]),
    "gate": _elements(lambda _, rows: 3 * rows),
    "watch": _elements(lambda it, rows: it["size"] or rows * (it["columns"] or it["row_size"])),
    "rates": _bytes(lambda *_: 0),
    "loss": _elements(lambda it, rows: 3 * rows * it["row_size"]),
    "argmax": _elements(lambda it, rows: rows * it["row_size"]),
    "softmax": _elements(lambda it, rows: 3 * rows * it["row_size"]),
    "squares": _elements(lambda it, _: it["size"]),
    "clip": _elements(lambda it, _: 2 * it["rows"] * it["columns"]),
    **{kind: _update(3 + 2 * states) for kind, states in STATES.items()},
    **dict.fromkeys(ACTIVATIONS, _elements(lambda it, rows: 3 * rows * it["columns"])),
    **dict.fromkeys(TARGET_LOSSES, _elements(lambda it, rows: 3 * rows * it["outputs"])),
    **dict.fromkeys(HEADS, _elements(lambda it, rows: 2 * rows * it["columns"])),
}

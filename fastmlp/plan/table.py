"""A plan as tables of int64: operations, tasks, stages, programs, and the constants they name."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from fastmlp_kernels.plans.record import (
    BASE_NAMES,
    BUFFERS,
    FIELDS,
    OFFSET_BITS,
    OPCODES,
    OPERATION_WORDS,
    OWN,
    OWN_WORDS,
    PLAN,
    TASK_WORDS,
)

from ..checks import Array
from .blocking import WIDE_VECTORS, Machine, Panel, whole_lines

EVERY_ROW = 1 << 60
POSITIONS = {
    name: {field: place for place, field in enumerate(fields)} for name, fields in FIELDS.items()
}


def at(base: int, offset: int = 0) -> int:
    """Return the operand `offset` bytes behind a base."""
    return (base << OFFSET_BITS) + offset


def base_and_offset(operand: int) -> tuple[int, int]:
    """Return what `at` was given."""
    return operand >> OFFSET_BITS, operand & ((1 << OFFSET_BITS) - 1)


class Plan(NamedTuple):
    """What executes: `words` (int64) holds programs, stages, tasks, operations and constants.

    starts: where each of these begins there. buffers, own: the bytes of shared memory, and of each
    thread's own. kinds, shapes, vectors: the operations, the numbers of the tiles, and the
    vectors of rows of products that pass over zeros, which are named.
    """

    words: Array
    starts: tuple[int, int, int, int, int]
    threads: int
    buffers: int
    own: int
    kinds: frozenset[str]
    shapes: frozenset[int]
    vectors: frozenset[int]

    @property
    def operations(self) -> Array:
        """The operations, a row each."""
        return self.words[self.starts[3] : self.starts[4]].reshape(-1, OPERATION_WORDS)

    @property
    def tasks(self) -> Array:
        """The tasks, a row each."""
        return self.words[self.starts[2] : self.starts[3]].reshape(-1, TASK_WORDS)

    @property
    def stages(self) -> Array:
        """The stages, a row each: the first task, then where each thread's end."""
        return self.words[self.starts[1] : self.starts[2]].reshape(-1, 1 + self.threads)

    @property
    def programs(self) -> Array:
        """The first stage and the one behind the last of each program."""
        return self.words[: self.starts[1]].reshape(-1, 2)


class Builder:
    """Collects the rows of a plan, and gives places in memory."""

    def __init__(self, machine: Machine, itemsize: int, threads: int) -> None:
        self.machine, self.itemsize, self.threads = machine, itemsize, threads
        self.lanes = machine.lanes(itemsize)
        self.operations: list[list[int]] = []
        self.tasks: list[tuple[int, ...]] = []
        self.stages: list[list[int]] = []
        self.programs: list[tuple[int, int]] = []
        self.buffers, self.own, self.scratch_start = 0, OWN_WORDS * 8, 0
        self.kinds: set[str] = set()
        self.shapes: set[int] = set()
        self.vectors: set[int] = set()
        self._constants: list[Array] = []
        self._constants_size = 0
        self._panels: dict[object, int] = {}
        self._kept: list[object] = []  # as their identities must not come again

    def buffer(self, size: int) -> int:
        """Return the operand of so many bytes that all threads share."""
        place = self.buffers
        self.buffers += whole_lines(size)
        return at(BUFFERS, place)

    def own_buffer(self, size: int) -> int:
        """Return the operand of so many bytes that each thread has; before any scratch."""
        place = self.own
        self.own += whole_lines(size)
        self.scratch_start = self.own
        return at(OWN, place)

    def scratch(self, start: int, size: int) -> int:
        """Return the operand of bytes start .. start + size of what a task may use as it likes."""
        first = self.scratch_start or OWN_WORDS * 8
        self.own = max(self.own, first + whole_lines(start + size))
        return at(OWN, first + start)

    def constant(self, values: Array) -> int:
        """Return the operand of int64 that belong to the plan."""
        place = self._constants_size * 8
        self._constants.append(values.reshape(-1))
        self._constants_size += values.size
        return at(PLAN, place)

    def panels(self, panels: tuple[Panel, ...]) -> int:
        """Return the operand of a list of panels; those too wide for tiles are only packed."""
        # The machine keeps every list that it makes: one is known by its identity.
        place = self._panels.get(id(panels))
        if place is None:
            tiles = [self._tiles(panel) for panel in panels]
            place = at(PLAN, self._constants_size * 8)
            rows = [
                (panel.first, panel.columns, panel.width, table - place if table else 0)
                for panel, table in zip(panels, tiles, strict=True)
            ]
            self._panels[id(panels)] = self.constant(np.array(rows, np.int64))
            self._kept.append(panels)
        return place

    def _tiles(self, panel: Panel) -> int:
        """The operand of the table of a panel's tiles."""
        kind = panel.vectors, panel.group
        if panel.vectors > WIDE_VECTORS:
            return 0
        if kind not in self._panels:
            self._panels[kind] = self.constant(self.machine.tiles(*kind))
        return self._panels[kind]

    def operation(self, kind: str, chunk: int = 0, most: int = EVERY_ROW, **fields: int) -> None:
        """Add an operation, which takes up to `most` of a task's rows from `chunk` on."""
        row = [0] * OPERATION_WORDS
        row[0], row[1], row[2] = OPCODES[kind], chunk, most
        positions = POSITIONS[kind]
        for name, value in fields.items():
            row[positions[name]] = value
        self.kinds.add(kind)
        self.operations.append(row)

    def sparse(self, width: int, chunk: int = 0, most: int = EVERY_ROW, **fields: int) -> None:
        """Add a product that passes over zeros, of rows of C of so many elements."""
        vectors = width // self.lanes
        self.vectors.add(vectors)
        self.operation(
            "sparse", chunk, most, width=width, itemsize=self.itemsize, vectors=vectors, **fields
        )

    def mark(self) -> int:
        """Return the number of the next operation, where a task's may start."""
        return len(self.operations)

    def task(
        self,
        operations: range,
        row: int = 0,
        rows: int = 1,
        batch: int = 1,
        leaves: int = 0,
        part: int = 0,
    ) -> None:
        """Add a task for the stage that is being made: see record.py."""
        self.tasks.append((operations.start, operations.stop, row, rows, batch, leaves, part, 0))

    def stage(self, start: int, ends: Sequence[int] | None = None) -> None:
        """Close a stage of the tasks from `start` on; ends: of each thread's, else equal shares."""
        count = len(self.tasks) - start
        if ends is None:
            ends = [count * (thread + 1) // self.threads for thread in range(self.threads)]
        self.stages.append([start, *(start + end for end in ends)])

    def program(self, start: int) -> None:
        """Close a program of the stages from `start` on."""
        self.programs.append((start, len(self.stages)))

    def plan(self) -> Plan:
        """Return the tables as a plan."""
        parts = [
            np.array(rows, np.int64).reshape(-1)
            for rows in (self.programs, self.stages, self.tasks, self.operations)
        ]
        starts = np.cumsum([0, *(part.size for part in parts)]).tolist()
        words = np.concatenate([*parts, *self._constants])
        own = whole_lines(self.own)
        return Plan(
            words, tuple(starts), self.threads, self.buffers, own,
            frozenset(self.kinds), frozenset(self.shapes), frozenset(self.vectors),
        )  # fmt: skip


def show(plan: Plan) -> str:
    """Return the plan's operations as lines: the kind, then each field that isn't 0."""
    lines = []
    names = list(FIELDS)
    for number, row in enumerate(plan.operations.tolist()):
        kind = names[row[0]]
        fields = []
        for field, value in list(zip(FIELDS[kind], row, strict=False))[1:]:
            if value == 0 or (field == "most" and value == EVERY_ROW):
                continue
            base, offset = base_and_offset(value)
            shown = f"{BASE_NAMES[base]}+{offset}" if base else str(value)
            fields.append(f"{field}={shown}")
        lines.append(f"{number:4} {kind:8} {' '.join(fields)}")
    return "\n".join(lines)

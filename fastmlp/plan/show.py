"""A plan as a table that a person can read: what each stage does, shared by how many tasks."""

from collections import Counter

import numpy as np
from fastmlp_kernels.plans.record import FIELDS, OWN_WORDS

from .shares import slowest, stage_times
from .table import Plan

PROGRAMS = ("before the steps", "a step", "the last, smaller step", "after the steps")
NAMES = list(FIELDS)


def summary(plan: Plan, itemsize: int, lanes: int) -> str:
    """Return a line for each stage, below its program, and what memory the plan needs.

    itemsize: bytes of an element; lanes: elements of a vector.
    """
    lines = [
        f"{'stage':>5} {'tasks':>6}  {'of each thread':<16} {'slowest':>7}  operations of all tasks"
    ]
    for name, (first, stop) in zip(PROGRAMS, plan.programs.tolist(), strict=True):
        if first < stop:
            lines.append(f"{name}:")
        for number in range(first, stop):
            start, *ends = plan.stages[number].tolist()
            counts = np.diff([start, *ends]).tolist()
            shown = ", ".join(map(str, counts))
            most = slowest(*stage_times(plan, plan.stages[number].tolist(), itemsize, lanes))
            lines.append(
                f"{number:5} {ends[-1] - start:6}  {shown:<16} {most:7.2f}  "
                f"{_operations(plan, start, ends[-1])}"
            )
    lines.append("slowest: the time of the last thread to end, over the mean of all: an estimate")
    lines.append(
        f"memory: {_size(plan.words.nbytes)} of plan, {_size(plan.buffers)} of buffers, "
        f"{_size(plan.own - 8 * OWN_WORDS)} of each thread's own"
    )
    return "\n".join(lines)


def _operations(plan: Plan, start: int, stop: int) -> str:
    """What tasks start .. stop run: each kind of operation and how many, in order of first use."""
    counts: Counter[str] = Counter()
    for first, end in plan.tasks[start:stop, :2].tolist():
        counts.update(NAMES[opcode] for opcode in plan.operations[first:end, 0].tolist())
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"


def _size(count: int) -> str:
    """Return a number of bytes as text."""
    if count < 10**6:
        return f"{count} B" if count < 1000 else f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.1f} MB"

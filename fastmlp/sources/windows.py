"""An epoch over samples that are read in windows, each of which holds whole batches.

What is left of a window behind its last whole batch comes first in the next one.
"""

from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np

from ..checks import Array
from .blocks import NUMBERS_OF_WINDOW, Blocks, samples_of
from .rows import Rows, ahead


class Window(NamedTuple):
    """Samples of whole batches. order: in which those of x are visited, None: as they lie.

    samples: what their numbers are among all, in the order in which they are visited.
    """

    x: Array
    order: Array | None
    samples: Array


class Unit(NamedTuple):
    """What is read at once: samples as they will lie, and the order of these, None: as they lie.

    ranges: None where `samples` are taken one by one.
    """

    samples: Array
    order: Array | None
    ranges: list[tuple[int, int]] | None


def units_of(
    rows: Rows, blocks: Blocks | None, generator: np.random.PCG64 | None, order: Array | None
) -> Iterator[Unit]:
    """Return what an epoch reads: by blocks, in an order of all samples, or as they lie."""
    if blocks is not None and generator is not None:
        for ranges, inside in blocks.windows(generator):
            yield Unit(samples_of(ranges), inside, ranges)
        return
    each = max(1, NUMBERS_OF_WINDOW // rows.shape[1])
    for start in range(0, len(rows), each):
        stop = min(start + each, len(rows))
        if order is None:
            yield Unit(np.arange(start, stop), None, [(start, stop)])
        else:
            yield Unit(order[start:stop], None, None)


def windows(rows: Rows, units: Iterator[Unit], batch_size: int) -> Generator[Window]:
    """Return the samples of an epoch in windows, the next of which is being read.

    A window's x is good until the next one is asked for.
    """
    room = batch_size - 1 if len(rows) > batch_size else 0  # for what is left of a window
    buffers: list[Array | None] = [None, None]

    def read(numbered: tuple[int, Unit]) -> tuple[Unit, Array]:
        number, unit = numbered
        size = room + len(unit.samples)
        buffer = buffers[number % 2]
        if buffer is None or len(buffer) < size:
            buffers[number % 2] = None  # before there is another
            buffers[number % 2] = buffer = np.empty((size, rows.shape[1]), rows.dtype)
        _read(rows, unit, buffer[room:size])
        return unit, buffer[:size]

    joined = _of_a_batch(units, batch_size)
    left, left_samples, done = np.empty((0, rows.shape[1]), rows.dtype), np.empty(0, np.int64), 0
    for unit, buffer in ahead(read, enumerate(joined)):
        x = buffer[room - len(left) :]
        x[: len(left)] = left
        order, visited = _joined(unit, left_samples)
        done += len(unit.samples)
        whole = len(visited) if done == len(rows) else len(visited) // batch_size * batch_size
        if whole:
            ordered = None if order is None else order[:whole]
            yield Window(x[:whole] if order is None else x, ordered, visited[:whole])
        left = x[whole:].copy() if order is None else x[order[whole:]]
        left_samples = visited[whole:]


def _read(rows: Rows, unit: Unit, out: Array) -> None:
    """Read a unit: ranges from the first of the file to the last, each to where it shall lie."""
    if unit.ranges is None:
        rows.take(unit.samples, out)
        return
    places = np.cumsum([0, *(stop - start for start, stop in unit.ranges)])
    for (start, stop), place in sorted(zip(unit.ranges, places.tolist(), strict=False)):
        rows.read(start, stop, out[place : place + stop - start])


def _joined(unit: Unit, left: Array) -> tuple[Array | None, Array]:
    """Return the order of what was left and a unit behind it, and which samples that are."""
    if unit.order is None:
        return None, np.concatenate([left, unit.samples])
    order = np.concatenate([np.arange(len(left)), len(left) + unit.order])
    return order, np.concatenate([left, unit.samples[unit.order]])


def _of_a_batch(units: Iterator[Unit], batch_size: int) -> Iterator[Unit]:
    """Return units of a batch or more: small ones are joined, but for the last."""
    samples, orders, ranges, count = [], [], [], 0
    for unit in units:
        if unit.order is not None:
            orders.append(count + unit.order)
        samples.append(unit.samples)
        ranges.append(unit.ranges)
        count += len(unit.samples)
        if count >= batch_size:
            yield _one(samples, orders, ranges)
            samples, orders, ranges, count = [], [], [], 0
    if samples:
        yield _one(samples, orders, ranges)


def _one(
    samples: list[Array], orders: list[Array], ranges: list[list[tuple[int, int]] | None]
) -> Unit:
    flat = None if None in ranges else [one for some in ranges for one in some or ()]
    return Unit(np.concatenate(samples), np.concatenate(orders) if orders else None, flat)

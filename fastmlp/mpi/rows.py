"""Samples that no rank holds whole: which rank has which row of x, and how a batch gets its own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array, dtype_error, plain_array, shape_error
from .ranks import Ranks

_MEND = "give each number 0 .. N - 1 to one rank"


class Rows(NamedTuple):
    """Where each row of the global order is: the rank (N,) that holds it, and its place there."""

    holder: Array
    place: Array

    def fetch(self, ranks: Ranks, x: Array, batch: Array, owner: Array) -> Array:
        """Return the rows of a batch that this rank computes, in their order.

        x: the rows that it holds; batch (B,): numbers of rows; owner (B,): who computes each.
        """
        holder = self.holder[batch]
        held, wanted = holder == ranks.rank, holder[owner == ranks.rank]
        counts, sources = (
            np.bincount(one, minlength=ranks.size) for one in (owner[held], wanted)
        )
        received = np.empty((len(wanted), x.shape[1]), x.dtype)
        # A rank's samples follow each other in a batch: they go to ranks in order.
        ranks.send_rows(x[self.place[batch[held]]], counts, received, sources)
        rows = np.empty_like(received)
        rows[np.argsort(wanted, kind="stable")] = received
        return rows


def checked_rows(rows: object, samples: int) -> Array:
    """Return the numbers (samples,) of the rows that this rank holds, or raise."""
    numbers = checked_part("rows", rows, samples)
    assert numbers is not None
    if numbers.dtype.kind not in "iu":
        raise dtype_error("rows", "integers", numbers.dtype, "pass the rows' global numbers")
    return numbers.astype(np.int64)


def checked_part(name: str, values: object, samples: int) -> Array | None:
    """Return what there is for each row that this rank holds (samples,), or raise; None: none."""
    if values is None:
        return None
    part = plain_array(name, values)
    if part.shape != (samples,):
        expected = f"shape ({samples},), one for each row of this rank's x"
        raise shape_error(name, expected, f"shape {part.shape}", "give those of its rows")
    return part


def joined(numbers: Sequence[Array]) -> tuple[Rows, Array]:
    """Return where the rows are, by the numbers of each rank; and all numbers, rank by rank."""
    every = np.concatenate(numbers)
    samples = len(every)
    got = [f"{one}" for one in every[(every < 0) | (every >= samples)]]
    if not got:
        got = [f"{one} twice" for one in np.flatnonzero(np.bincount(every) > 1)]
    if got:
        expected = f"each of 0 .. {samples - 1} once, for the {samples} rows of all ranks"
        raise shape_error("rows", expected, got[0], _MEND)
    rows = Rows(np.empty(samples, np.int32), np.empty(samples, np.int64))
    for rank, own in enumerate(numbers):
        rows.holder[own], rows.place[own] = rank, np.arange(len(own))
    return rows, every


def whole(every: Array, parts: Sequence[Any]) -> Array:
    """Return an array of all samples, of which the ranks have parts; every: see `joined`."""
    values = np.concatenate(parts)
    result = np.empty_like(values)
    result[every] = values
    return result

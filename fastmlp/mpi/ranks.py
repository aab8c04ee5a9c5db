"""The ranks of a training: what they tell each other, and how one that fails ends all.

Every exchange begins with a word from each rank that it is well. A rank that has failed, wherever
it was, says so in place of its next exchange, whichever that is: so no rank waits for it.
"""

import itertools
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..checks import Array
from . import tree


def checked_comm(comm: Any) -> Any:
    """Return a communicator of mpi4py, or raise."""
    mpi = sys.modules.get("mpi4py.MPI")  # who has a communicator has imported it
    if mpi is None or not isinstance(comm, mpi.Intracomm):
        raise TypeError(
            f"comm: expected a communicator of mpi4py, got {type(comm).__name__}; pass "
            "comm=MPI.COMM_WORLD behind `from mpi4py import MPI`"
        )
    if not comm:
        raise ValueError(
            "comm: expected a communicator that this rank is in, got COMM_NULL; call fit in its "
            "ranks only"
        )
    return comm


class Ranks:
    """The ranks of a communicator, which is duplicated: no message of others gets between."""

    def __init__(self, comm: Any) -> None:
        self.comm = checked_comm(comm).Dup()
        self.rank: int = self.comm.Get_rank()
        self.size: int = self.comm.Get_size()
        self._is_ended = False  # all know that one has failed
        self._is_exchanging = False
        self._handler: Any = None  # of Ctrl-C, where it waits
        self._interrupts: list[tuple[Any, ...]] = []

    @contextmanager
    def together(self) -> Iterator[None]:
        """End all ranks where the block fails on one; Ctrl-C waits for the next exchange."""
        with self._waiting_interrupts():
            try:
                yield
            except BaseException as error:
                if self._is_exchanging:  # some wait for what no longer comes
                    traceback.print_exc()
                    self.comm.Abort(1)
                if not self._is_ended:
                    self._all_well(error)
                raise
            finally:
                self.comm.Free()

    def gather(self, value: Any) -> list[Any]:
        """Return the value of each rank."""
        with self._exchange() as comm:
            values: list[Any] = comm.allgather(value)
        return values

    def sum(self, parts: Array, leaves: int) -> Array:
        """Return the sum of a batch's leaves: parts (own subtrees, elements), see tree.py."""
        with self._exchange():
            if tree.is_even(leaves, self.size):
                return self._sum_by_halves(parts[0])
            return self._sum_by_slices(parts, leaves)

    def send_rows(self, rows: Array, counts: Array, received: Array, sources: Array) -> None:
        """Send rows, counts[k] of them to rank k; receive sources[k] from it, by ranks."""
        with self._exchange() as comm:
            each = rows.shape[1]
            comm.Alltoallv([rows, counts * each], [received, sources * each])

    def interruptible(self, call: Callable[..., object], *arguments: Any) -> object:
        """Return what a user's function returns; Ctrl-C ends it at once."""
        if self._handler is None:
            return call(*arguments)
        waiting = signal.signal(signal.SIGINT, self._handler)
        try:
            return call(*arguments)
        finally:
            signal.signal(signal.SIGINT, waiting)

    @contextmanager
    def _exchange(self) -> Iterator[Any]:
        self._all_well()
        self._is_exchanging = True
        yield self.comm
        self._is_exchanging = False

    def _all_well(self, error: BaseException | None = None) -> None:
        """Raise on all ranks if one has failed; error: this one's."""
        if error is None and self._interrupts:
            try:
                self._handler(*self._interrupts.pop())
            except BaseException as interrupt:
                error = interrupt
        self._is_exchanging = True
        failed = np.empty(self.size, np.bool)
        self.comm.Allgather(np.array([error is not None]), failed)
        if failed.any():
            self._is_ended = True
            own = None if error is None else (type(error).__name__, str(error))
            told = self.comm.allgather(own)
            if error is None:
                rank = int(np.argmax(failed))
                name, message = told[rank]
                text = f"fit: rank {rank} of {self.size} raised {name}: {message}"
                error = (KeyboardInterrupt if name == "KeyboardInterrupt" else RuntimeError)(text)
        self._is_exchanging = False
        if error is not None:
            raise error

    @contextmanager
    def _waiting_interrupts(self) -> Iterator[None]:
        """Note Ctrl-C in place of raising it anywhere: an exchange that is left can't go on."""
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(handler):
            yield
            return
        self._handler = handler
        signal.signal(signal.SIGINT, lambda *interrupt: self._interrupts.append(interrupt))
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
        if self._interrupts:  # since the last exchange
            handler(*self._interrupts.pop())

    def _sum_by_halves(self, part: Array) -> Array:
        """Neighbours add halves of theirs, then pairs of them; the sums go back the same way."""
        total, own, cuts = part.copy(), range(part.size), []
        for level in range(self.size.bit_length() - 1):
            lower, upper = own[: len(own) // 2], own[len(own) // 2 :]
            own, theirs = (upper, lower) if self.rank >> level & 1 else (lower, upper)
            cuts.append((level, own, theirs))
            received = np.empty(len(own), part.dtype)
            self._swap(level, _of(total, theirs), received)
            with np.errstate(all="ignore"):
                _of(total, own)[...] += received
        for level, own, theirs in reversed(cuts):
            self._swap(level, _of(total, own), _of(total, theirs))
        return total

    def _swap(self, level: int, sent: Array, received: Array) -> None:
        """Exchange arrays with the rank whose number differs in one bit."""
        other = self.rank ^ 1 << level
        self.comm.Sendrecv(sent, dest=other, recvbuf=received, source=other)

    def _sum_by_slices(self, parts: Array, leaves: int) -> Array:
        """Each rank gets all ranks' subtrees of a slice of the elements, and adds them."""
        size, dtype = parts.shape[1], parts.dtype
        subtrees = tree.subtrees(leaves, self.size)
        borders = [size * rank // self.size for rank in range(self.size + 1)]
        counts = np.diff(borders)
        slices = [slice(*pair) for pair in itertools.pairwise(borders)]
        sent = np.concatenate([parts[:, one].reshape(-1) for one in slices])
        each = counts[self.rank]
        received = np.empty((sum(map(len, subtrees)), each), dtype)
        self.comm.Alltoallv(
            [sent, len(parts) * counts], [received, each * np.array([*map(len, subtrees)])]
        )
        runs = [run for of_rank in subtrees for run in of_rank]
        mine = tree.add(range(leaves), dict(zip(runs, received, strict=True)))
        total = np.empty(size, dtype)
        self.comm.Allgatherv(mine, [total, counts])
        return total


def _of(array: Array, places: range) -> Array:
    return array[places.start : places.stop]

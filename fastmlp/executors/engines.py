"""Who trains blocks: executors with `submit`, Dask's clients, joblib's Parallel."""

import copy
import os
import sys
import threading
import warnings
from collections.abc import Generator, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, ProcessPoolExecutor
from itertools import count
from queue import SimpleQueue
from typing import Any, Protocol

from ..checks import Array, dtype_error
from ..threads import get_num_threads
from .arrays import offered
from .blocks import Arguments, Block, Failure, Missing, Outcome
from .waiting import Run
from .worker import check_with, train_in_process, train_kept, train_numbered, train_with

Result = Outcome | Failure | BaseException  # an exception: of the engine, not of the training


class Source(Protocol):
    """What blocks come from."""

    arguments: Arguments

    def take(self, slots: int) -> tuple[Run, Block] | None:
        """Return the next block for one of so many slots of workers, if one waits."""

    def waits(self) -> bool:
        """Whether there is a next block."""


class Engine:
    """What runs blocks. died: what it raises where a worker died and the block may run again."""

    died: tuple[type[BaseException], ...] = (BrokenExecutor,)

    def results(self, source: Source) -> Generator[tuple[Run, Result]]:
        """Run blocks until none waits; yield what becomes of each. Closed, it ends what it can."""
        raise NotImplementedError


def engine_of(executor: Any) -> Engine:
    """Return what runs blocks on it, or raise TypeError."""
    joblib, distributed = sys.modules.get("joblib"), sys.modules.get("distributed")
    if joblib is not None and isinstance(executor, joblib.Parallel):
        return Joblib(executor)
    if distributed is not None and isinstance(executor, distributed.Client):
        return Dask(executor)
    if not isinstance(executor, type) and callable(getattr(executor, "submit", None)):
        return Pool(executor)
    got = executor.__name__ if isinstance(executor, type) else type(executor).__name__
    expected = "what has submit, as an executor of concurrent.futures, or a joblib.Parallel"
    mend = "pass executor=concurrent.futures.ProcessPoolExecutor()"
    raise dtype_error("executor", expected, got, mend)


class Futures(Engine):
    """Keeps two blocks for each slot under way, so that no worker waits for the next one."""

    def results(self, source: Source) -> Generator[tuple[Run, Result]]:
        """See Engine."""
        done: SimpleQueue[tuple[Any, Run, Block]] = SimpleQueue()
        running: set[Any] = set()

        def start(run: Run, block: Block, missing: tuple[str, ...]) -> None:
            future = self._submit(block, missing, source.arguments)
            running.add(future)
            future.add_done_callback(lambda _: done.put((future, run, block)))

        try:
            while True:
                slots = self._slots()
                while len(running) < 2 * slots and (taken := source.take(slots)):
                    start(*taken, ())
                if not running:
                    return
                future, run, block = done.get()
                running.discard(future)
                result = _result(future)
                if isinstance(result, Missing):
                    start(run, block, result.keys)
                else:
                    yield run, result
        finally:
            self._cancel(running)

    def _cancel(self, running: set[Any]) -> None:
        for future in running:
            future.cancel()

    def _slots(self) -> int:
        raise NotImplementedError

    def _submit(self, block: Block, missing: tuple[str, ...], arguments: Arguments) -> Any:
        raise NotImplementedError


def _result(future: Any) -> Any:
    try:
        return future.result()
    except (Exception, CancelledError) as error:
        return error


class Pool(Futures):
    """An executor of concurrent.futures, or one like it: a worker asks for what it hasn't got."""

    died = (BrokenExecutor, CancelledError)

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self.own: ProcessPoolExecutor | None = None  # in the place of a broken one
        self.has_processes = isinstance(executor, ProcessPoolExecutor)  # on these very cores

    def results(self, source: Source) -> Generator[tuple[Run, Result]]:
        """See Engine."""
        arrays = source.arguments.arrays
        offered.update(arrays)
        if self.has_processes:
            source.arguments.threads = max(1, get_num_threads() // self._slots())
        try:
            yield from super().results(source)
        finally:
            for key in arrays:
                offered.pop(key, None)
            if self.own is not None:
                self.own.shutdown(wait=False, cancel_futures=True)

    def _slots(self) -> int:
        return getattr(self.executor, "_max_workers", 0) or os.cpu_count() or 1

    def _submit(self, block: Block, missing: tuple[str, ...], arguments: Arguments) -> Any:
        arrays: dict[str, Array] = {key: arguments.arrays[key] for key in missing}
        train = train_in_process if self.has_processes else train_kept
        try:
            return self.executor.submit(train, block, arrays)
        except BrokenExecutor:
            if not self.has_processes:
                raise
            self._replace(self.executor)
            return self.executor.submit(train, block, arrays)

    def _cancel(self, running: set[Any]) -> None:
        # A process pool has them all in its queue, where none can be cancelled. One cancelled on
        # the way there would keep the pool from its end, should it break (Python 3.11).
        if not self.has_processes:
            super()._cancel(running)

    def _replace(self, broken: Any) -> None:
        """Go on with a pool like one of whose processes one died: it starts no other."""
        if self.own is not None:
            self.own.shutdown(wait=False)
        self.own = self.executor = ProcessPoolExecutor(
            broken._max_workers, broken._mp_context, broken._initializer, broken._initargs
        )


class Dask(Futures):
    """A client of Dask: it scatters the arrays, and runs a dead worker's blocks again itself."""

    died = (CancelledError,)  # the workers that had the arrays have died

    def __init__(self, client: Any) -> None:
        self.client = client
        self.scattered: dict[str, Any] = {}

    def results(self, source: Source) -> Generator[tuple[Run, Result]]:
        """See Engine."""
        import distributed

        try:
            distributed.get_worker()
        except ValueError:
            yield from super().results(source)
            return
        distributed.secede()  # else this task would keep a thread from those that it waits for
        try:
            yield from super().results(source)
        finally:
            distributed.rejoin()

    def check(self, block: Block, arguments: Arguments) -> list[int] | Failure:
        """Check what workers alone can read; see check_with."""
        keys, futures = self._arrays(block, arguments)
        checked: list[int] | Failure = self.client.submit(
            check_with, block, keys, *futures, pure=False
        ).result()
        return checked

    def _slots(self) -> int:
        return sum(self.client.nthreads().values()) or 1

    def _submit(self, block: Block, missing: tuple[str, ...], arguments: Arguments) -> Any:
        keys, futures = self._arrays(block, arguments)
        return self.client.submit(train_with, block, keys, *futures, pure=False)

    def _arrays(self, block: Block, arguments: Arguments) -> tuple[list[str], list[Any]]:
        lost = [
            key
            for key in arguments.arrays
            if key not in self.scattered or self.scattered[key].cancelled()
        ]
        if lost:
            arrays = [arguments.arrays[key] for key in lost]
            futures = self.client.scatter(arrays, broadcast=True)
            self.scattered.update(zip(lost, futures, strict=True))
        known = {**self.scattered, **arguments.remote}
        return [*block.keys], [known[key] for key in block.keys]


class Joblib(Engine):
    """A joblib.Parallel, whose backend brings the arrays to its workers, as files where it can."""

    # Calls raise nothing, so it is joblib's own: after a death other errors than loky's come, too.
    died = (Exception,)

    def __init__(self, parallel: Any) -> None:
        self.parallel = parallel

    def _anew(self) -> Any:
        """Return the same, with results as they come where its backend has them.

        One for each call: what is left of one whose workers died would come into the next one.
        """
        parallel = copy.copy(self.parallel)
        if getattr(parallel._backend, "supports_return_generator", False):
            parallel.return_generator, parallel.return_ordered = True, False
        return parallel

    def results(self, source: Source) -> Generator[tuple[Run, Result]]:
        """See Engine."""
        numbers, slots = count(), self.parallel._backend.effective_n_jobs(self.parallel.n_jobs)
        while True:
            calls = _Calls(source, slots, numbers)
            stream = self._anew()(iter(calls))
            lost: Exception = RuntimeError("a result that joblib didn't bring")
            try:
                for number, result in stream:
                    run = calls.sent.pop(number, None)
                    if run is not None:
                        yield run, result
            except self.died as error:
                lost = error
            finally:
                calls.end()
                if not isinstance(stream, list):
                    with warnings.catch_warnings():  # of what it doesn't do any more
                        warnings.simplefilter("ignore")
                        stream.close()
            for run in calls.end():
                yield run, lost
            if not source.waits():
                return


class _Calls:
    """What joblib is to call, until no block waits. sent: the blocks under way, by number.

    Its threads ask for the next call, also where one of them has failed, until this is ended.
    """

    def __init__(self, source: Source, slots: int, numbers: Iterator[int]) -> None:
        self.source, self.slots, self.numbers = source, slots, numbers
        self.sent: dict[int, Run] = {}
        self.lock, self.ended = threading.Lock(), False

    def __iter__(self) -> Iterator[Any]:
        for number in self.numbers:
            with self.lock:
                taken = None if self.ended else self.source.take(self.slots)
                if taken is None:
                    return
                run, block = taken
                self.sent[number] = run
            arrays = [self.source.arguments.arrays[key] for key in block.keys]
            yield train_numbered, (number, block, [*block.keys], *arrays), {}

    def end(self) -> list[Run]:
        """Give out no more; return what isn't back."""
        with self.lock:
            self.ended = True
            return [*self.sent.values()]

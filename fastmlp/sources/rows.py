"""The samples of a source as a model takes them: their reading, its checks, what is read ahead."""

from collections.abc import Callable, Generator, Iterator
from threading import Thread
from typing import Any, Generic, TypeVar

import numpy as np

from ..checks import Array, converted, shape_error
from .blocks import NUMBERS_OF_BLOCK, NUMBERS_OF_WINDOW
from .kinds import Mapped, Source

Result = TypeVar("Result")
PIECE = NUMBERS_OF_WINDOW // 4  # numbers of a piece that is predicted or evaluated


class Rows:
    """Samples (N, inputs) of a dtype that are read from a source in pieces.

    name: what errors call it. Every piece is checked when it is read: its shape and dtype, and with
    check_finite its numbers.
    """

    def __init__(
        self, name: str, source: Source, inputs: int, dtype: np.dtype[Any], check_finite: bool
    ) -> None:
        self.name, self.source, self.dtype, self.check_finite = name, source, dtype, check_finite
        self.shape = source.shape[0], inputs

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, start: int, stop: int, out: Array) -> None:
        """Write the samples from start to stop to out (stop - start, inputs), in short runs."""
        each = max(1, NUMBERS_OF_BLOCK // self.shape[1])
        for first in range(start, stop, each):
            last = min(first + each, stop)
            raw = np.asarray(self.source.slice(first, last))
            expected = (last - first, *self.source.shape[1:])
            if raw.shape != expected or raw.dtype != self.source.dtype:
                raise shape_error(
                    f"{self.name}[{first}:{last}]",
                    f"shape {expected} of {self.source.dtype}, as its shape and dtype say",
                    f"shape {raw.shape} of {raw.dtype}", "write its samples alike",
                )  # fmt: skip
            self._write(raw, out[first - start : last - start], np.arange(first, last))
            if isinstance(self.source, Mapped):
                self.source.forget(raw)

    def take(self, samples: Array, out: Array) -> None:
        """Write samples in any order to out (samples, inputs): of maps of files."""
        assert isinstance(self.source, Mapped)
        each = max(1, NUMBERS_OF_BLOCK // self.shape[1])
        for first in range(0, len(samples), each):
            some = samples[first : first + each]
            self._write(self.source.take(some), out[first : first + each], some)
            self.source.forget(self.source.array)

    def _write(self, raw: Array, out: Array, samples: Array) -> None:
        if raw.dtype.kind == "f":
            raw = converted(self.name, raw, self.dtype)
        out[...] = raw.reshape(out.shape)
        if not self.check_finite or raw.dtype.kind != "f" or np.isfinite(out).all():
            return
        row, column = np.argwhere(~np.isfinite(out))[0]
        place = samples[row], *np.unravel_index(column, self.source.shape[1:])
        raise shape_error(
            f"{self.name}[{', '.join(map(str, place))}]", "finite numbers", out[row, column],
            "mend it where it lies, or pass check_finite=False",
        )  # fmt: skip

    def pieces(self) -> Generator[tuple[int, Array]]:
        """Return the samples from the first to the last: the number of the first, and some."""
        each = max(1, PIECE // self.shape[1])
        buffers = [np.empty((min(each, len(self)), self.shape[1]), self.dtype) for _ in range(2)]

        def read(number: int) -> Array:
            start = number * each
            piece = buffers[number % 2][: min(each, len(self) - start)]
            self.read(start, start + len(piece), piece)
            return piece

        count = -(-len(self) // each)
        yield from zip(range(0, len(self), each), ahead(read, iter(range(count))), strict=True)


class _Call(Generic[Result]):
    """A call in a thread of its own; a daemon, beside which Numba's workqueue has threads."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self.function, self.result = function, list[Result]()
        self.error: BaseException | None = None
        self.thread = Thread(target=self._run, name="fastmlp-reader", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.result.append(self.function())
        except BaseException as error:
            self.error = error

    def wait(self) -> Result:
        self.thread.join()
        if self.error is not None:
            raise self.error
        return self.result[0]


def ahead(read: Callable[[Any], Result], what: Iterator[Any]) -> Iterator[Result]:
    """Return read(one) for each one of `what`, whose next one is being read in the meantime.

    Results may lie in two buffers by turns: the one before is no longer needed when the next one is
    asked for. `what` is advanced in the caller's thread.
    """
    ones = ((one,) for one in what)
    one = next(ones, None)
    call = None if one is None else _Call(lambda one=one: read(*one))  # type: ignore[misc]
    try:
        while call is not None:
            result = call.wait()
            one = next(ones, None)
            call = None if one is None else _Call(lambda one=one: read(*one))  # type: ignore[misc]
            yield result
    finally:
        if call is not None:  # nobody reads on in a source that is closed
            call.thread.join()

"""Which models wait for a worker, and how many of them make a block."""

import threading
from collections import deque
from typing import NamedTuple

# A block goes to a worker and back in 1 to 10 ms beside its training (docs/several-machines.md): of
# this length, 5 percent at most. A dead worker's block is lost, and so is that of a Ctrl-C.
SECONDS = 0.2
SHORTEST = 0.01  # of the last blocks, which get shorter so that workers end together


class Run(NamedTuple):
    """Models that are trained together. epoch: see Block; tries: how often they have failed."""

    numbers: list[int]
    epoch: int | None
    tries: int


class Waiting:
    """The models that wait. costs: for each, about the seconds that a block with it takes.

    Of what costs much comes first, so that the end is even. Threads may take and put back at once.
    """

    def __init__(self, costs: list[float], epoch: int | None) -> None:
        self.costs, self.left = costs, sum(costs)
        self.rates: deque[float] = deque(maxlen=8)  # seconds that blocks took, by their costs
        self.least = 1  # models of a block, as the workers' threads train one each
        self.lock = threading.Lock()
        order = sorted(range(len(costs)), key=costs.__getitem__, reverse=True)
        self.runs = deque([(deque(order), epoch, 0)] if order else [])

    def take(self, slots: int) -> Run | None:
        """Return the next block for one of so many slots of workers, None where nothing waits."""
        with self.lock:
            if not self.runs:
                return None
            numbers, epoch, tries = self.runs[0]
            # The quickest of the last blocks: the first ones may have compiled.
            rate = min(self.rates, default=1.0)
            goal = min(SECONDS, max(SHORTEST, rate * self.left / (2 * slots))) / rate
            taken: list[int] = []
            while numbers and (len(taken) < self.least or goal > 0):
                taken.append(numbers.popleft())
                goal -= self.costs[taken[-1]]
            self.left -= sum(self.costs[number] for number in taken)
            if not numbers:
                self.runs.popleft()
            return Run(taken, epoch, tries)

    def put(self, numbers: list[int], epoch: int | None, tries: int = 0) -> None:
        """Let models wait: behind those like them; those that have been tried, by themselves."""
        if not numbers:
            return
        with self.lock:
            self.left += sum(self.costs[number] for number in numbers)
            if not tries and self.runs and self.runs[-1][1:] == (epoch, 0):
                self.runs[-1][0].extend(numbers)
            else:
                self.runs.append((deque(numbers), epoch, tries))

    def put_again(self, run: Run) -> None:
        """Let the models of a block that failed wait again, in halves, so that the cause shows."""
        middle = (len(run.numbers) + 1) // 2
        self.put(run.numbers[:middle], run.epoch, run.tries + 1)
        self.put(run.numbers[middle:], run.epoch, run.tries + 1)

    def measure(self, run: Run, seconds: float, threads: int) -> None:
        """Note what a block took."""
        with self.lock:
            cost = sum(self.costs[number] for number in run.numbers)
            self.rates.append(max(seconds, 1e-9) / cost)
            self.least = max(self.least, threads)

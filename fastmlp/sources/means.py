"""The mean of losses that come in parts, with the bits of that of all."""

import numpy as np
from fastmlp_kernels.plans.record import LEAF

from ..checks import Array


def first_wrong(losses: "Array | Mean") -> int | None:
    """Return the place of the first loss that isn't finite, if there is one."""
    if isinstance(losses, Mean):
        return losses.first_wrong
    wrong = np.flatnonzero(~np.isfinite(losses))
    return int(wrong[0]) if wrong.size else None


class Mean:
    """The mean of values (N,), parts of which are added in their order.

    Its sum is that of docs/arithmetic.md: leaves of 256 values, each one after the other, then the
    tree. Of a leaf only the sum is kept.
    """

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self.dtype, self.count = dtype, 0
        self.sums: list[Array] = []
        self.rest = np.empty(0, dtype)  # of a leaf that isn't full
        self.first_wrong: int | None = None

    def add(self, values: Array) -> None:
        """Add the next values."""
        if self.first_wrong is None:
            wrong = first_wrong(values)
            self.first_wrong = None if wrong is None else self.count + wrong
        self.count += len(values)
        values = np.concatenate([self.rest, values])
        whole = len(values) // LEAF * LEAF
        with np.errstate(all="ignore"):
            leaves = values[:whole].reshape(-1, LEAF)
            # A copy: a view would keep all of the values.
            self.sums.append(np.add.accumulate(leaves, axis=1)[:, -1].copy())
        self.rest = values[whole:].copy()

    def value(self) -> float:
        """Return the mean, NaN of none."""
        with np.errstate(all="ignore"):
            sums = [*self.sums, np.add.accumulate(self.rest)[-1:]]
            total = np.concatenate(sums) + self.dtype.type(0)  # a chain starts at +0: no sum is -0
            while len(total) > 1:
                pairs = len(total) // 2 * 2
                total = np.concatenate([total[0:pairs:2] + total[1:pairs:2], total[pairs:]])
            return float(np.asarray(total / self.dtype.type(self.count))[0])

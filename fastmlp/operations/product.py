"""Products by plans: usual arrays go straight to the kernel, all others after their checks.

Usual ones are C-contiguous, of NumPy's own class and one dtype, and of shapes that were there
before. The kernel itself looks whether they are: so the way there takes 0.3 us, not 2.5.
"""

from typing import Any

import numpy as np
from fastmlp_kernels.compiling.late import Late
from fastmlp_kernels.plans.record import USUAL_PLACES, usual_place

from .. import threads
from ..arithmetic_mode import is_numpy
from ..checks import Array, unchanged
from ..model.addresses import Planner, product_plan
from ..plan.matmul import Pair, packed_strides
from ..scratch import scratch

Gradients = tuple[Array, Array]


class Product:
    """A kind of product: its kernels, its planner, and the flags of its Layout.

    kernels: their module; name: "forward" or "backward".
    """

    def __init__(self, kernels: Late, name: str, planner: Planner, *flags: bool) -> None:
        self.kernels, self.name, self.planner, self.flags = kernels, name, planner, flags
        self.call: Any = None  # the kernel of usual arrays, compiled, as soon as there is a plan
        # By place: the words of plans for usual arrays; of each, the work and the memory.
        self.plans: list[Array | None] = [None] * USUAL_PLACES
        self.needs = [(0, 0)] * USUAL_PLACES

    def forward_of_usual(self, x: Any, W: Any, b: Any, out: Any) -> Array | None:
        """Return y, which is `out` if given, or None where an array needs checks."""
        call = self.call
        if call is None or is_numpy():
            return None
        y: Any = call(self.plans, x, W, b, out, threads.for_any_work, None)
        if type(y) is int:
            y = call(self.plans, x, W, b, out, *self._needs_of(y))
            y = None if type(y) is int else y
        found: Array | None = y
        return found

    def backward_of_usual(self, x: Any, W: Any, grad_y: Any, y: Any) -> Gradients | None:
        """Return grad_x and grad_W, or None where an array needs checks."""
        call = self.call
        if call is None or is_numpy():
            return None
        grad_x, grad_W = call(self.plans, x, W, grad_y, y, threads.for_any_work, None)
        if type(grad_x) is int:
            grad_x, grad_W = call(self.plans, x, W, grad_y, y, *self._needs_of(grad_x))
        return None if grad_W is None else (grad_x, grad_W)

    def _needs_of(self, place: int) -> tuple[int, Array]:
        """Return the threads and the memory for the plan at a place."""
        work, room = self.needs[place]
        return threads.threads_for(work), scratch(room)

    def run(self, x: Array, W: Array, y: Array, *others: Array | None) -> None:
        """Run the kernel for arrays that have been checked.

        x, W and y have any strides; y is forward's, with contiguous rows, or grad_y. others: of
        forward b, gate and None; of backward grad_x, grad_W, and the y of a relu or None; all
        contiguous.
        """
        work, strides = x.size * W.shape[1], (_strides(x), _strides(W), _strides(y))
        num_threads = threads.threads_for(work)
        found = product_plan(
            self.planner, x.shape, strides[0], W.shape, *strides[1:], x.itemsize, num_threads,
            *self.flags,
        )  # fmt: skip
        if found is None:
            # Strides that aren't whole elements: never those of a y that is written.
            self.run(_in_elements(x), _in_elements(W), _in_elements(y), *others)
            return
        words, room, is_packed = found
        run = getattr(self.kernels, self.name)[x.dtype]
        unchanged(run(words, scratch(room), x, W, y, *others))
        if is_packed and threads.HAS_GIL:
            M, K = x.shape
            place = usual_place(M, K, W.shape[1])
            self.needs[place], self.plans[place] = (work, room), words
            self.call = getattr(self.kernels, f"{self.name}_of_usual")[x.dtype]


def _strides(x: Array) -> Pair:
    (rows, columns), (row, column) = x.shape, x.strides
    return packed_strides((rows, columns), x.itemsize) if x.flags.c_contiguous else (row, column)


def _in_elements(x: Array) -> Array:
    return np.ascontiguousarray(x) if any(stride % x.itemsize for stride in x.strides) else x


def with_contiguous_rows(y: Array) -> Array:
    """Return y, or new memory of its shape if a kernel can't write y's rows where they lie."""
    if y.flags.c_contiguous or (y.strides[1] == y.itemsize and y.strides[0] % y.itemsize == 0):
        return y
    return np.empty(y.shape, y.dtype)


def written(rows: Array, y: Array) -> Array:
    """Return y, filled from `rows` where `with_contiguous_rows` gave new memory."""
    if rows is not y:
        y[...] = rows
    return y

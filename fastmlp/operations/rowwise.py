"""Operations on elements or rows: usual arrays go straight to the kernel, others after checks.

Usual ones are C-contiguous, of NumPy's own class and one dtype, and of so little work that one
thread does it. The kernel itself looks whether they are: the way there takes 0.2 us, not 1.5.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from fastmlp_kernels.compiling.late import Late
from fastmlp_kernels.plans.record import ROWWISE_FIELDS

from ..arithmetic_mode import is_numpy
from ..checks import Array, unchanged
from ..threads import HAS_GIL, SMALLEST_PARALLEL_WORK, threads_for

row_shares = Late("row_shares")


class Rowwise:
    """An operation's kernel, and what its calls have in common.

    kernel: returns it, for the first call, which needs Numba.
    work: the multiply-adds that an element costs, 0 for the number of columns. inputs, results: how
    many arrays it is given and makes. is_matrix: x has two axes, and at least one column.
    """

    def __init__(
        self,
        kernel: Callable[[], Any],
        work: int = 1,
        inputs: int = 1,
        results: int = 1,
        is_matrix: bool = False,
    ) -> None:
        self.kernel, self.work = kernel, work
        self.words = np.array(
            [0, 0, work, inputs, results, is_matrix, SMALLEST_PARALLEL_WORK], np.int64
        )
        self.call: Any = None  # of_usual, compiled, as soon as there is a kernel

    def of_usual(
        self, x: Any, grad_y: Any = None, scalar: float = 0.0
    ) -> tuple[Array, Any] | tuple[None, None]:
        """Return the result, and None or a second one; None twice where an array needs checks."""
        call = self.call
        if call is None or is_numpy():
            return None, None
        results: tuple[Array, Any] | tuple[None, None] = call(self.words, x, grad_y, scalar)
        return results

    def run(self, first: Array, second: Array, third: Array, scalar: float = 0.0) -> None:
        """Run the kernel for contiguous arrays (rows, width) that have been checked."""
        dtype = first.dtype
        compiled = self.kernel()[dtype]
        threads = threads_for(first.size * (self.work or first.shape[1]))
        unchanged(compiled(first, second, third, scalar, threads))
        self.words[ROWWISE_FIELDS.index(dtype.name)] = compiled.args[0]
        if HAS_GIL:
            self.call = row_shares.of_usual[dtype]

    def run_rows(self, y: Array, grad_y: Array) -> Array:
        """Return grad_x for matrices of any strides that have been checked."""
        grad_x = np.empty(y.shape, y.dtype)
        self.run(np.ascontiguousarray(y), np.ascontiguousarray(grad_y), grad_x)
        return grad_x

    def run_flat(self, x: Array, grad_y: Array | None = None, scalar: float = 0.0) -> Array:
        """Return the result for arrays of any axes and strides that have been checked."""
        flat, result = np.ascontiguousarray(x).reshape(-1, 1), np.empty(x.shape, x.dtype)
        second = flat_result = result.reshape(-1, 1)
        if grad_y is not None:
            second = np.ascontiguousarray(grad_y).reshape(-1, 1)
        self.run(flat, second, flat_result, scalar)
        return result

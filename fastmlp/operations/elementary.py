"""Elementary functions of arrays of float32 or float64, compiled; in x's shape and dtype."""

from typing import Any

import numpy as np
from fastmlp_kernels.compiling.late import Late

from ..checks import Array
from ..reference.losses import Elementary
from ..reference.row_sum import row_sum

elementary, sigmoids = Late("arithmetic.elementary"), Late("arithmetic.sigmoids")


def exp(x: Array) -> Array:
    """Return e^x, elementwise."""
    return _applied(elementary.exp_array, x)


def log(x: Array) -> Array:
    """Return the natural logarithm of x, elementwise."""
    return _applied(elementary.log_array, x)


def logistic(x: Array) -> Array:
    """Return 1 / (1 + e^-x), elementwise."""
    return _applied(sigmoids.logistic_array, x)


def _applied(kernel: Any, x: Array) -> Array:
    out = np.empty(x.shape, x.dtype)
    kernel[x.dtype](np.ascontiguousarray(x).reshape(-1), out.reshape(-1))
    return out


COMPILED = Elementary(exp, log, logistic, row_sum)

"""What a tensor of a graph is, as far as a graph of layers goes."""

from typing import NamedTuple, TypeAlias

import numpy as np

from ..checks import Array
from ..model.foreign import Layer
from ..plan.ways import ACTIVATIONS
from ..reference.activations import y_and_slope

# Between them, and near 0, the activations differ; far out, a function that is cut off does.
_NEAR, _FAR = np.linspace(-12, 12, 241), 10.0 ** np.arange(2, 31)
GRID = np.concatenate([-_FAR[::-1], _NEAR, _FAR])
CLOSE = 1e-6  # relative, and absolute: constants of a graph are rounded to float32


class Signal(NamedTuple):
    """A tensor (N, width): of x, through the layers, then y = f(GRID) of each number.

    activations: before each of the layers, that of the first is "identity". head: what was made of
    all numbers of a row, "softmax", or "both" for 1 - p beside p; else "". is_class: whether this
    is the place of the largest of it, or a label found there.
    """

    layers: tuple[Layer, ...] = ()
    activations: tuple[str, ...] = ()
    y: Array = GRID
    head: str = ""
    is_class: bool = False

    def is_plain(self) -> bool:
        """Tell whether these are x or a layer's own outputs."""
        return self.y is GRID and not self.head and not self.is_class

    def follows(self, other: "Signal") -> bool:
        """Tell whether both are made of the same layer's outputs, number by number."""
        alone = not any((self.head, other.head, self.is_class, other.is_class))
        return alone and self.layers is other.layers


Value: TypeAlias = Signal | Array  # an array is a constant


def function_of(y: Array) -> str | None:
    """Return the name of the activation, or exp, that y of GRID is; None for another function."""
    for name in (*ACTIVATIONS, "exp"):
        with np.errstate(all="ignore"):
            expected = _values(name)
            if np.allclose(y, expected, rtol=CLOSE, atol=CLOSE):
                return name
    return None


def _values(name: str) -> Array:
    if name == "identity":
        return GRID
    if name == "relu":
        return np.asarray(np.maximum(GRID, 0))
    return np.asarray(np.exp(GRID) if name == "exp" else y_and_slope(name, GRID)[0])

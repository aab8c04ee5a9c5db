"""Models as graphs of ONNX, and graphs as models: `pip install 'fastmlp[onnx]'`.

docs/other-frameworks.md says what a graph holds, and which graphs are read.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..choices import LossName
    from ..model.estimator import Estimator
    from ..model.mlp import MLP


def export(model: "Estimator", path: str | os.PathLike[str]) -> None:
    """Write an MLP to a file of ONNX: the input x (N, inputs), N free, and one output.

    The output is `log_prob` (N, classes) for cross_entropy, else `y` (N, outputs): the
    probabilities of 1 for binary_cross_entropy, exp of the last layer for poisson, the numbers for
    the others. Both have the model's dtype. The graph computes the same within rounding: bits
    aren't kept.

    A file in its place is replaced when all is written. Raises ModuleNotFoundError without onnx,
    TypeError for another model, ValueError for weights that aren't finite or don't fit a file, and
    OSError as `open` does.
    """
    from .write import write

    write(model, path)


def load(path: str | os.PathLike[str], *, loss: "LossName | None" = None) -> "MLP":
    """Return the MLP that a file of ONNX computes: of ours, PyTorch's exporters or skl2onnx.

    loss: what the last layer's outputs are, where the graph doesn't say it: by default
    "squared_error", numbers; "cross_entropy" for those of classes, to which a softmax is wanting.

    Raises ModuleNotFoundError without onnx, OSError as `open` does, and ValueError that names the
    node for anything else than layers, their activations, and a softmax, sigmoid or exp behind.
    """
    from .read import read

    return read(path, loss)

"""Models from files."""

import os

from ..files.models import load_as
from .mlp import MLP, NotebookMLP


def load(path: str | os.PathLike[str]) -> MLP:
    """Return the model that `model.save(path)` wrote: an MLP, or a NotebookMLP.

    Nothing in the file is executed. Raises OSError as `open` does, and ValueError, in one line that
    says what is wrong, for a file that is damaged, foreign, of a newer arithmetic or not finite.
    """
    return load_as(path, {"MLP": MLP, "NotebookMLP": NotebookMLP})

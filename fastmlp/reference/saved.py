"""Models from files, in plain NumPy."""

import os

from ..files.models import load_as
from .mlp import MLP, NotebookMLP


def load(path: str | os.PathLike[str]) -> MLP:
    """Return the model that `model.save(path)` wrote: an MLP, or a NotebookMLP."""
    return load_as(path, {"MLP": MLP, "NotebookMLP": NotebookMLP})

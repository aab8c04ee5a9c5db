"""Models from files, in plain NumPy."""

import os

from ..files.models import load_as
from .mlp import MLP, NotebookMLP


def load(path: str | os.PathLike[str]) -> MLP:
    """Return the model that `model.save(path)` wrote: an MLP, or a NotebookMLP."""
    return load_as(path, {"MLP": MLP, "NotebookMLP": NotebookMLP})


def load_predictor(path: str | os.PathLike[str]) -> MLP:
    """Return the model that `model.save(path)` wrote, to be computed by NumPy alone.

    It gives the bits of the compiled model, slowly, and needs no compiler: neither Numba nor
    llvmlite is loaded, or must be installed. Raises what `load` raises.
    """
    return load(path)

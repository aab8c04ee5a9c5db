"""The teaching notebook runs, with fewer epochs."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


@pytest.mark.filterwarnings("default")  # those of Jupyter's own packages
def test_the_notebook_runs_and_draws(monkeypatch):
    paths = [str(ROOT / "kernels"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    if (ROOT / "kernels").exists():
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", 4)
    (loop,) = [cell for cell in notebook.cells if "EPOCHS = 50" in cell.source]
    loop.source = loop.source.replace("EPOCHS = 50", "EPOCHS = 3")
    NotebookClient(notebook, timeout=300).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "epoch  0: loss 23.730; accuracy 0.0810" in printed
    assert float(printed.split("test accuracy")[1]) > 0.95

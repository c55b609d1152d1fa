"""The notebooks run from top to bottom, and are kept without their output."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("default")  # what the kernel's own packages warn of is not ours
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs(file, tmp_path):
    notebook = nbformat.read(file, as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    warned = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert not [text for text in warned if "TqdmWarning" not in text]  # tqdm misses a package for bars


def test_there_are_three_and_none_holds_output():
    assert len(NOTEBOOKS) == 3
    for file in NOTEBOOKS:
        cells = nbformat.read(file, as_version=4).cells
        assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]

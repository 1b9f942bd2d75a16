"""The notebooks run from top to bottom, ship without outputs, and show what their text promises."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

REPO = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
#: What the outputs of each must show: numbers and names that only a notebook that worked has.
SHOWN = {
    "my_method": [r"^\{\}$", r"Nearest mean", r"label_pred"],
    "my_data": [r"leave-one-batch-out|batch1", r"pcr_comparison", r"cell_cycle_conservation"],
    "results_with_pandas": [r"18 ok", r"balanced_accuracy\s+0\.9|balanced_accuracy\s+1\.0", r"count\s+6\.0"],
    "tour": [r"Control: true labels", r"Control: shuffled", r"^Done: 3 ok$", r"tour\.html"],
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_ships_small_and_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert path.stat().st_size < 20_000
    assert path.stem in SHOWN


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = "\n".join(text for cell in notebook.cells for text in texts(cell))
    for pattern in SHOWN[path.stem]:
        assert re.search(pattern, shown, re.MULTILINE), f"{pattern} is not in:\n{shown}"


def texts(cell: nbformat.NotebookNode) -> list[str]:
    """What a reader of plain text sees of a cell."""
    outputs = cell.get("outputs", [])
    return [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs]

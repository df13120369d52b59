"""The notebook runs as it is in a fresh kernel, and carries no outputs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "experiments/analysis.ipynb"
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(nbformat.writes(notebook))
"""


@pytest.fixture(scope="module")
def executed() -> list[dict]:
    """The cells with their outputs. In a process of its own, as Jupyter warns of much that is not ours."""
    command = [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(NOTEBOOK.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["cells"]


def test_it_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_it_runs_without_a_warning_and_draws_its_figures(executed):
    outputs = [output for cell in executed for output in cell.get("outputs", [])]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4


def test_it_says_what_the_results_say(executed):
    outputs = [output for cell in executed for output in cell.get("outputs", [])]
    said = "".join("".join(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs)
    results = NOTEBOOK.parent / "results"
    assert f"{sum(1 for _ in results.rglob('result.json'))} runs" in said
    for name in ("catsdogs-plain-seed0", "catsdogs-aug-dropout-seed0"):
        found = json.loads((results / name / "result.json").read_text())
        assert f"{found['val_acc_mean_last_10']:.4f}" in said
    assert "python -m experiments.catsdogs --aug\n" in said and "python -m experiments.catsdogs --dropout\n" in said

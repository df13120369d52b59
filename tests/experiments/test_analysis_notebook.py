"""The notebook runs as it is in a fresh kernel, and carries no outputs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "experiments/analysis.ipynb"
RESULTS = NOTEBOOK.parent / "results"
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": sys.argv[2]}}).execute()
print(nbformat.writes(notebook))
"""


def execute(notebook: Path) -> list[dict]:
    """The cells with their outputs. In a process of its own, as Jupyter warns of much that is not ours."""
    command = [sys.executable, "-c", EXECUTE, str(notebook), str(NOTEBOOK.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)["cells"]


@pytest.fixture(scope="module")
def executed() -> list[dict]:
    return execute(NOTEBOOK)


def said(executed: list[dict]) -> str:
    outputs = [output for cell in executed for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs)


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
    text, found = said(executed), {}
    assert f"{sum(1 for _ in RESULTS.rglob('result.json'))} runs" in text
    for variant in ("plain", "aug", "dropout", "aug-dropout"):
        result = json.loads((RESULTS / f"catsdogs-{variant}-seed0/result.json").read_text())
        found[variant] = result["val_acc_mean_last_10"]
        assert f"{found[variant]:.4f}" in text
    assert f"augmentation alone {found['aug'] - found['plain']:+.4f}" in text


@pytest.fixture(scope="module")
def of_few(tmp_path_factory) -> str:
    """The output with no full run of aug and of dropout, but a short one of aug, and with two seeds of plain."""
    results = tmp_path_factory.mktemp("few") / "results"
    for name in ("catsdogs-plain-seed0", "catsdogs-aug-dropout-seed0", "mnist-study"):
        shutil.copytree(RESULTS / name, results / name)
    add(results, "catsdogs-plain-seed0", "catsdogs-plain-seed1", seed=1, accuracy=0.5)
    add(results, "catsdogs-plain-seed0", "catsdogs-plain-seed2", seed=2, accuracy=0.0, epochs=3)
    add(results, "catsdogs-aug-seed0", "catsdogs-aug-seed3", seed=3, accuracy=0.9, epochs=3)
    text, folders = NOTEBOOK.read_text(), 'root / \\"experiments/results\\"'
    assert folders in text
    (results.parent / "few.ipynb").write_text(text.replace(folders, f"Path('{results}')"))
    return said(execute(results.parent / "few.ipynb"))


def add(results: Path, like: str, name: str, *, seed: int, accuracy: float, epochs: int | None = None) -> None:
    """Add a run like a committed one, with a seed, an accuracy and perhaps fewer epochs of its own."""
    workdir = shutil.copytree(RESULTS / like, results / name)
    config, result = (json.loads((workdir / file).read_text()) for file in ("config.json", "result.json"))
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)[:epochs]
    config["seed"], config["training"]["epochs"] = seed, len(lines)
    result["val_acc_mean_last_10"], result["last"]["epoch"] = accuracy, len(lines)
    (workdir / "metrics.jsonl").write_text("".join(lines))
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "result.json").write_text(json.dumps(result))


def test_it_names_the_commands_of_runs_that_are_not_there(of_few):
    assert "python -m experiments.catsdogs --aug\n" in of_few
    assert "python -m experiments.catsdogs --dropout\n" in of_few


def test_it_averages_over_the_seed_alone(of_few):
    """The second seed counts, the short runs do not."""
    result = json.loads((RESULTS / "catsdogs-plain-seed0/result.json").read_text())
    table = of_few[of_few.index("plain pictures") :]
    assert f"without dropout         {(result['val_acc_mean_last_10'] + 0.5) / 2:.4f}  not trained" in table
    assert "9 configurations" in of_few  # 7 of the committed runs, and two of short ones

"""The notebook runs as it is in a fresh kernel, and carries the outputs of that, which GitHub shows.

`python tests/experiments/test_analysis_notebook.py` runs it and saves the outputs.
"""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "experiments/analysis.ipynb"
RESULTS = NOTEBOOK.parent / "results"
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
path = {"metadata": {"path": sys.argv[2]}}
nbclient.NotebookClient(notebook, timeout=120, record_timing=False, resources=path).execute()
notebook.metadata.language_info = {"name": "python"}
print(nbformat.writes(notebook))
"""


def execute(notebook: Path) -> dict:
    """The notebook with its outputs. In a process of its own, as Jupyter warns of much that is not ours."""
    command = [sys.executable, "-c", EXECUTE, str(notebook), str(NOTEBOOK.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def executed() -> list[dict]:
    return execute(NOTEBOOK)["cells"]


def drawn(executed: list[dict]) -> int:
    """The number of figures in the outputs."""
    return sum("image/png" in output.get("data", {}) for cell in executed for output in cell.get("outputs", []))


def said(executed: list[dict]) -> str:
    outputs = [output for cell in executed for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs)


def test_it_is_kept_with_the_outputs_of_the_results(executed):
    kept = json.loads(NOTEBOOK.read_text())
    assert said(kept["cells"]) == said(executed), "the outputs are out of date: see the top of this file"
    assert drawn(kept["cells"]) == drawn(executed)
    assert NOTEBOOK.stat().st_size < 400_000


def test_it_names_neither_the_machine_nor_the_version_of_python():
    kept = json.loads(NOTEBOOK.read_text())
    assert kept["metadata"]["language_info"] == {"name": "python"}
    assert not any(cell["metadata"] for cell in kept["cells"])
    text = said(kept["cells"])
    for name in (str(NOTEBOOK.parents[1]), str(Path.home()), socket.gethostname(), "site-packages"):
        assert name not in text, name


def test_it_runs_without_a_warning_and_draws_its_figures(executed):
    outputs = [output for cell in executed for output in cell.get("outputs", [])]
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert drawn(executed) == 4


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
    return said(execute(results.parent / "few.ipynb")["cells"])


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


if __name__ == "__main__":
    NOTEBOOK.write_text(json.dumps(execute(NOTEBOOK), indent=1, ensure_ascii=False) + "\n")

"""The tables of `python -m tools.bench --only growth`, on tiny sets."""

import json
import subprocess
import sys

import pytest

from tools import bench
from tools.benchmarks import growth


def test_sets_of_any_size_are_links_to_the_pictures_given(photos, tmp_path):
    growth.link_pictures(photos, tmp_path, 9)
    cats, dogs = (sorted((tmp_path / "train" / kind).iterdir()) for kind in ("cats", "dogs"))
    assert [path.name for path in cats] == [f"{number:06}.png" for number in range(5)]
    assert [path.resolve().name for path in dogs] == ["dog.1.png", "dog.3.png", "dog.5.png", "dog.1.png"]


def test_the_tables_by_hand():
    row = {"pictures": 70, "limited": True, "read": 1.26, "decoded": 0.0}
    row |= {"seconds": [4.0, 2.0, 3.0], "waited": [0.1, 0.02, 0.03], "beyond": [9.0, 7.4]}
    assert growth.table_of_sizes([row]).splitlines()[2] == "| 70, 1 GB left | 1.3 s | 3.0 s | 21 | 3.0% | 0 MB | 7 MB |"
    row = {"threads": 2, "input": 4321.6, "images_per_second": 61.7, "data_wait": 0.0123}
    assert growth.table_of_threads([row]).splitlines()[2] == "| 2 | 4,322 | 62 | 1.2% |"


@pytest.mark.campaign
def test_both_are_measured_and_written_down(photos, tmp_path, capsys, monkeypatch):
    file = tmp_path / "growth.json"
    monkeypatch.setattr(growth, "SIZES", (40,))
    monkeypatch.setattr(growth, "EPOCHS", 1)
    monkeypatch.setattr(growth, "THREADS", (1,))
    bench.main(["--data", str(photos), "--only", "growth", "--json", str(file)])
    written = json.loads(file.read_text())["growth"]
    assert [(row["pictures"], row["limited"]) for row in written["sizes"]] == [(40, False), (40, True)]
    assert written["sizes"][0]["decoded"] == 40 * 150 * 150 * 3 / 1e6
    assert [row["threads"] for row in written["threads"]] == [1]
    assert all(0 < row["seconds"][0] < 60 and row["read"] > 0 for row in written["sizes"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| 40 |") and lines[3].startswith("| 40, 1 GB left |") and lines[6].startswith("| 1 |")


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory")
def test_what_does_not_fit_the_memory_left_is_not_kept(photos, tmp_path):
    """3,000 pictures are 203 MB, more than half of the 300 MB that the process may still take."""
    growth.link_pictures(photos, tmp_path, 3000)
    assert growth.apart(growth.train, tmp_path, 0, 300_000_000)["decoded"] == 0
    assert growth.apart(growth.train, tmp_path, 0)["decoded"] == 3000 * 150 * 150 * 3 / 1e6


def test_help_waits_for_no_heavy_import():
    code = (
        "import sys, tools.bench, tools.benchmarks.staircase; assert not {'jax', 'grain', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Long runs and many of them hold no more memory, files and threads than one epoch does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.campaign
EPOCHS, EVALUATIONS, ROUNDS = 30, 200, 4


@pytest.fixture(scope="module")
def held(photos, tmp_path_factory):
    """The figures that tests/faults/long_run.py prints; it leaves nothing in the folder for temporary files."""
    temporary = tmp_path_factory.mktemp("temporary")
    counts = map(str, (EPOCHS, EVALUATIONS, ROUNDS))
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.long_run", photos, tmp_path_factory.mktemp("runs"), *counts],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not list(temporary.iterdir())
    return json.loads(done.stdout.splitlines()[-1])


def grown(rows: list[dict[str, float]], what: str) -> float:
    """By how much the most of the last third exceeds the most of the second."""
    third = len(rows) // 3
    return max(row[what] for row in rows[-third:]) - max(row[what] for row in rows[third:-third])


def test_epochs_and_evaluations_take_no_memory(held, record_property):
    """Orbax saves in the background, so that the memory, files and threads of a save come and go."""
    found = {name: {what: grown(held[name], what) for what in held[name][0]} for name in ("epochs", "evaluations")}
    record_property("grown", json.dumps(found))
    assert found["epochs"]["memory"] < 5 and found["epochs"]["files"] < 10 and found["epochs"]["threads"] < 5
    assert found["evaluations"]["memory"] < 2 and found["evaluations"]["files"] == 0
    assert found["evaluations"]["threads"] <= 1  # a thread of Grain's may be ending


def test_runs_that_are_over_hold_nothing(held):
    """However a run ended; three threads may not have ended yet."""
    assert {row["files"] for row in held["over"]} == {held["evaluations"][-1]["files"]}
    assert max(row["threads"] for row in held["over"]) <= 4
    rounds = held["over"][2::3]
    assert rounds[-1]["memory"] - rounds[0]["memory"] < 20  # each program compiled anew would take some 10

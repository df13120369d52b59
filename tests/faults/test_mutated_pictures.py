"""Damaged pictures are refused by name or read as pictures: no other exception, no crash, no hang, no gigabytes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.faults.mutated import MUTATIONS, mutants, plain_tail

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak of memory so")
UNHARMED = ("garbage appended", "wrong extension", "cut")  # if they are read at all


@pytest.mark.parametrize("seed, count", [(0, 150), pytest.param(1, 10_000, marks=pytest.mark.campaign)])
def test_damaged_pictures_are_refused_or_read(seed, count):
    command = [sys.executable, "-W", "error", "-m", "tests.faults.mutated", str(seed), str(count)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, len(found)) == (0, count), done.stderr[-2000:]
    for one in found:
        assert one["outcome"] in ("refused", "picture", "blank"), one
        # The two ways of reading agree, and of what is blank after resizing the user can hear.
        assert (one["check"] in ("good", "small", "blank")) == (one["outcome"] != "refused"), one
        assert one["outcome"] != "blank" or one["check"] in ("small", "blank"), one
        if one["outcome"] == "picture" and (one["mutation"] in UNHARMED or one["kind"].startswith("PNG")):
            assert one["wrong"] == 0 or one["mutation"] == "another size in the header", one
        if one["mutation"] in ("garbage appended", "wrong extension"):
            assert one["outcome"] == "picture", one
    assert {one["outcome"] for one in found} >= {"refused", "picture"}
    assert {one["mutation"] for one in found} == set(MUTATIONS)
    assert max(one["peak"] for one in found) < 500_000


def test_the_same_seed_damages_the_same_way():
    assert list(mutants(3, 20)) == list(mutants(3, 20))
    assert list(mutants(3, 20)) != list(mutants(4, 20))


def test_plain_tails_by_hand():
    image = np.zeros((4, 2, 3), np.uint8)
    assert plain_tail(image) == 1
    image[1, 0, 2] = 1
    assert plain_tail(image) == 0.5

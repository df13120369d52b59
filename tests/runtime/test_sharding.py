"""The same training on one, two, four and eight devices: virtual ones, in processes of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxconv.runtime import sharding
from jaxconv.runtime.errors import InputError


def on_devices(what, photos, workdir, *counts):
    command = [sys.executable, "-m", "tests.runtime.on_devices", what, str(photos), str(workdir), *counts]
    root = Path(__file__).parents[2]
    printed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


@pytest.mark.parametrize(
    "formulation, counts",
    [
        ("default", "14"),
        pytest.param("default", "1248", marks=pytest.mark.campaign),
        pytest.param("cpu", "1248", marks=pytest.mark.campaign),
    ],
)
def test_steps_are_the_same_on_any_number_of_devices(formulation, counts, photos, tmp_path):
    """Losses within 1e-6 and parameters, whose updates RMSprop divides by small numbers, within 5e-6."""
    found = on_devices(formulation, photos, tmp_path, *counts)
    one = found["1"]
    assert len(set(one["losses"])) == 3 and np.sum(one["evaluation"]["confusion"]) == 13
    for count, other in found.items():
        assert other["shards"] == [16 // int(count)] and other["whole"]
        np.testing.assert_allclose(other["losses"], one["losses"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(other["params"], one["params"], rtol=0, atol=5e-6)
        assert other["evaluation"]["confusion"] == one["evaluation"]["confusion"]
        assert other["evaluation"]["loss"] == pytest.approx(one["evaluation"]["loss"], rel=2e-5)


def test_runs_are_the_same_on_any_number_of_devices(photos, tmp_path):
    """Whole runs; the two pictures left of ten are whole on each of four devices.

    A run is also begun on four and goes on with one.
    """
    ten = shutil.copytree(photos, tmp_path / "photos")
    for number in range(4):
        Image.new("RGB", (50, 50), (60 * number, 9, 90)).save(
            ten / f"train/{('cats', 'dogs')[number % 2]}/{number}.png"
        )
    found = on_devices("runs", ten, tmp_path)
    for result in found.values():
        for name in ("last", "best"):
            expected = found["1"][name]
            assert result[name]["test_confusion"] == expected["test_confusion"]
            for key in ("epoch", "val_loss", "val_acc", "test_loss", "test_acc"):
                assert result[name][key] == pytest.approx(expected[key], rel=1e-5), key


@pytest.mark.parametrize("size, cure", [(20, "give 16 or 24"), (5, "give 8"), (7, "give 8"), (9, "give 8 or 16")])
def test_a_batch_that_cannot_be_shared_is_an_error_that_says_which_can(size, cure, monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: [None] * 8)
    with pytest.raises(InputError, match=rf"^--batch-size {size} does not divide by the 8 devices here: {cure}$"):
        sharding.check_divides(size)
    sharding.check_divides(16)


def test_the_command_refuses_such_a_batch_before_it_leaves_anything(photos, tmp_path):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    command = [sys.executable, "-m", "experiments.catsdogs", "--data", str(photos), "--workdir", str(tmp_path / "run")]
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True)
    assert (done.returncode, done.stdout.count("\n")) == (2, 3)  # what was found
    assert done.stderr == "error: --batch-size 20 does not divide by the 3 devices here: give 18 or 21\n"
    assert not (tmp_path / "run").exists()

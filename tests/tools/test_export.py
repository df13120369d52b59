"""An exported net, loaded where there is neither jaxconv nor Flax."""

import functools
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from jaxconv.analysis.predictor import Predictor
from jaxconv.models import CatsDogsConvNet, MnistConvNet
from tests import commands
from tests.made_runs import write_run
from tools import export

# What follows the example: the same net on batches of three sizes.
MORE = """
import sys

images = np.load("images.npy")
found = {str(n): predict(images[:n]) for n in (1, 7, 32)}
assert all(probabilities.dtype == np.float32 for probabilities in (probabilities, *found.values()))
assert net.platforms == ("cpu", "cuda"), net.platforms
assert not {"jaxconv", "flax", "orbax"} & {name.partition(".")[0] for name in sys.modules}
np.savez("found.npz", cat=probabilities, **found)
"""

fails = functools.partial(commands.fails, export.main)


def example() -> str:
    """The program in the module's docstring, which users copy."""
    lines = export.__doc__.partition("    import json\n")
    program, _, _ = (lines[1] + lines[2]).partition("\n\nJAX guarantees")
    return textwrap.dedent(program)


@pytest.mark.parametrize(
    "model, image_shape, class_names, interpolation",
    [
        (CatsDogsConvNet(dropout=0.5), (46, 50, 3), ["cats", "dogs"], "bilinear"),
        (MnistConvNet("average"), (28, 28, 1), list("0123456789"), "nearest"),
    ],
)
def test_the_example_computes_what_the_predictor_does(
    model, image_shape, class_names, interpolation, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", model, image_shape, class_names, interpolation=interpolation)
    export.main(["run", "--to", "model.stablehlo"])
    assert "model.stablehlo: " in capsys.readouterr().out
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, *image_shape), dtype=np.uint8)
    np.save("images.npy", images)
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save("cat.jpg")
    done = subprocess.run([sys.executable, "-c", example() + MORE], check=True, capture_output=True, text=True)
    found, net = np.load("found.npz"), Predictor("run")
    (predicted,) = net.predict(["cat.jpg"])
    assert done.stdout == f"{predicted.class_name}\n"
    of_file = net.probabilities(net.read_picture(tmp_path / "cat.jpg")[None])
    np.testing.assert_allclose(found["cat"], of_file, rtol=1e-5)
    expected = net.probabilities(images)
    assert np.ptp(expected[:, 0]) > 1e-4  # else any weights would do
    for count in (1, 7, 32):
        np.testing.assert_allclose(found[str(count)], expected[:count], rtol=1e-5)


def test_the_file_beside_the_net_says_what_its_user_has_to_know(tmp_path):
    for run, channels, mode in (("grey", 1, "L"), ("colour", 3, "RGB")):
        write_run(tmp_path / run, CatsDogsConvNet(), (46, 50, channels), ["cats", "dogs"])
        export.main([str(tmp_path / run), "--to", str(tmp_path / "net.stablehlo")])
        about = json.loads((tmp_path / "net.stablehlo.json").read_text())
        assert (about["class_names"], about["image_shape"]) == (["cats", "dogs"], [46, 50, channels])
        assert (about["run"], about["epoch"]) == (str(tmp_path / run), 1)
        assert (about["interpolation"], about["mode"]) == ("bilinear", mode)
        assert about["input"].startswith(f"uint8[n, 46, 50, {channels}]")


def test_the_epoch_can_be_chosen(tmp_path):
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    contents = {}
    for name, epoch in (("best", 1), ("last", 2)):
        export.main([str(tmp_path / "run"), "--to", str(tmp_path / name), "--epoch", name])
        assert f'"epoch": {epoch},' in (tmp_path / f"{name}.json").read_text()  # and not 1.0
        contents[name] = (tmp_path / name).read_bytes()
    assert contents["best"] != contents["last"]


def test_what_is_wrong_is_named(tmp_path, capsys):
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    assert "is not a run directory (no config.json)" in fails(capsys, tmp_path, "--to", tmp_path / "net")
    error = fails(capsys, tmp_path / "run", "--to", tmp_path / "nowhere/net")
    assert "nowhere/net cannot be written (No such file or directory): name another file" in error

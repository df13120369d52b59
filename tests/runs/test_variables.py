import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxconv.models import DenseNet
from jaxconv.runs import proof
from jaxconv.runs.proof import Progress
from jaxconv.runs.variables import restore_variables
from jaxconv.runtime.errors import InputError
from tests.faults import damage as faults
from tests.nets import SmallNet
from tests.runs.test_checkpoints import SETTINGS, SHAPE, opened, save, state_of


def shapes_of(model):
    images = jnp.zeros((1, *SHAPE))
    return jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """The second is the newest, the first the best."""
    folder = tmp_path_factory.mktemp("saved")
    save(folder, [0.5, 1.0])
    return folder


def test_variables_come_back_without_their_optimizer(tmp_path):
    save(tmp_path, [0.1, 0.2])
    shapes = shapes_of(DenseNet())
    variables, step = restore_variables(tmp_path / "checkpoints", shapes, SETTINGS, best=False)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, variables, jax.device_get(state_of(2).variables))
    assert restore_variables(tmp_path / "checkpoints", shapes, SETTINGS, best=True)[1] == 1


def test_of_averaged_variables_the_average_comes_back(tmp_path):
    state = state_of(1, ema=0.9)
    state = state.replace(average=jax.tree.map(lambda leaf: leaf + 1, state.average))
    with opened(tmp_path, ema=0.9) as checkpoints:
        checkpoints.save(1, state, Progress(""))
    variables, _ = restore_variables(tmp_path / "checkpoints", shapes_of(DenseNet()), SETTINGS, best=False)
    jax.tree.map(np.testing.assert_array_equal, variables, jax.device_get(state.average))


@pytest.mark.parametrize("kind", ["flip some bytes", "remove the folder"])
def test_damaged_variables_are_not_read(two_checkpoints, tmp_path, kind):
    folder = shutil.copytree(two_checkpoints, tmp_path / "run") / "checkpoints"
    faults.damage(folder / "2/state/d", kind, random.Random(1))
    with pytest.raises(InputError, match=r"holds a damaged checkpoint \(2: state/d/.*\): --resume sets damaged ones"):
        restore_variables(folder, shapes_of(DenseNet()), SETTINGS, best=False)
    with pytest.raises(InputError, match="holds no checkpoint: name a run that has trained an epoch"):
        restore_variables(folder / "elsewhere", shapes_of(DenseNet()), SETTINGS, best=False)


@pytest.mark.parametrize("moment", ["before it is proved", "before it is restored"])
def test_a_checkpoint_that_is_replaced_while_it_is_read_gives_way_to_the_next(
    two_checkpoints, tmp_path, monkeypatch, moment
):
    """As by a run that goes on training beside a tool."""
    folder = shutil.copytree(two_checkpoints, tmp_path / "run") / "checkpoints"
    proved = proof.damage

    def damage(path, settings):
        if path.name == "2" and moment == "before it is proved":
            shutil.rmtree(path)
        found = proved(path, settings)
        if path.name == "2" and path.exists():
            shutil.rmtree(path)
        return found

    monkeypatch.setattr(proof, "damage", damage)
    assert restore_variables(folder, shapes_of(DenseNet()), SETTINGS, best=False)[1] == 1


def test_a_checkpoint_of_another_net_is_no_damage(two_checkpoints):
    folder = two_checkpoints
    with pytest.raises(InputError, match="is of another net or optimizer: params/Conv_0/bias is missing"):
        shapes = jax.eval_shape(lambda: SmallNet().init(jax.random.key(0), jnp.zeros((1, *SHAPE)), train=False))
        restore_variables(folder / "checkpoints", shapes, SETTINGS, best=False)


def test_a_damaged_proof_of_the_best_is_not_skipped(two_checkpoints, tmp_path):
    """The newest would be another net's answer, without a word."""
    folder = shutil.copytree(two_checkpoints, tmp_path / "run") / "checkpoints"
    (folder / "1/proof.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds a damaged checkpoint \(1: ValueError: proof.json was changed"):
        restore_variables(folder, shapes_of(DenseNet()), SETTINGS, best=True)
    (folder / "1/proof.json").unlink()
    (folder / "1/proof.json").mkdir()
    with pytest.raises(InputError, match=r"holds a checkpoint that cannot be read \(1: IsADirectoryError"):
        restore_variables(folder, shapes_of(DenseNet()), SETTINGS, best=True)


def test_a_lack_of_memory_is_not_called_damage(two_checkpoints, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(proof, "damage", fail)
    with pytest.raises(MemoryError):
        restore_variables(two_checkpoints / "checkpoints", shapes_of(DenseNet()), SETTINGS, best=False)


def test_a_link_that_leads_nowhere_is_no_checkpoint(two_checkpoints, tmp_path):
    folder = shutil.copytree(two_checkpoints, tmp_path / "run") / "checkpoints"
    (folder / "99").symlink_to(tmp_path / "nowhere")
    assert restore_variables(folder, shapes_of(DenseNet()), SETTINGS, best=False)[1] == 2

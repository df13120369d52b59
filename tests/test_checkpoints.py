import dataclasses
import random
import shutil

import faults
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from jaxconv.checkpoints import Checkpoints, restore_params
from jaxconv.errors import InputError
from jaxconv.models import DenseNet
from jaxconv.train_step import TrainState, create_state, rmsprop


def state_of(value: float) -> TrainState:
    """A small state with all that a real one has, its weights at `value`."""
    params = {"kernel": jnp.full((3, 2), value)}
    state = TrainState.create(
        apply_fn=print, params=params, tx=optax.rmsprop(0.1), dropout_key=jax.random.key(int(value))
    )
    return state.replace(step=jnp.int32(value))


def leaves(state: TrainState) -> list[jax.Array]:
    return jax.tree.leaves(state.replace(dropout_key=jax.random.key_data(state.dropout_key)))


@pytest.mark.parametrize(
    "val_losses, kept",
    [
        ([0.5, 0.9, 0.7, 0.6], {1, 3, 4}),  # the best and the two latest
        ([0.9, 0.8, 0.5], {2, 3}),
        ([0.9, 0.9, 0.9], {2, 3}),
    ],
)
def test_the_latest_and_the_best_stay(tmp_path, val_losses, kept):
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:
        assert (checkpoints.steps, checkpoints.best_step) == ([], 0)
        for epoch, val_loss in enumerate(val_losses, 1):
            checkpoints.save(epoch, state_of(epoch), {"val_loss": val_loss})
    assert {int(path.name) for path in (tmp_path / "checkpoints").iterdir()} == kept
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:
        assert checkpoints.steps[-1] == len(val_losses)
        assert checkpoints.best_step == min(range(1, len(val_losses) + 1), key=lambda n: (val_losses[n - 1], -n))


def test_later_epochs_can_be_forgotten(tmp_path, monkeypatch):
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:
        for epoch, val_loss in enumerate([0.1, 0.9, 0.8, 0.7], 1):
            checkpoints.save(epoch, state_of(epoch), {"val_loss": val_loss})
        checkpoints.wait()
        assert {int(path.name) for path in (tmp_path / "checkpoints").iterdir()} == {1, 3, 4}
        checkpoints.forget_after(3)
        assert checkpoints.steps[-1] == 3
        checkpoints.save(4, state_of(5), {"val_loss": 0.6})
        checkpoints.wait()
        assert int(checkpoints.restore(4).step) == 5
    monkeypatch.setattr("jaxconv.checkpoints.LATEST", 1)
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:  # as if killed before the third was deleted
        checkpoints.forget_after(4)
    assert {int(path.name) for path in (tmp_path / "checkpoints").iterdir()} == {1, 4}


def test_everything_of_a_state_comes_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = state_of(7)
    shapes = jax.eval_shape(lambda: state_of(0))
    with Checkpoints("relative/checkpoints", shapes) as checkpoints:
        checkpoints.save(1, saved, {"val_loss": 0.5})
        restored = checkpoints.restore(checkpoints.best_step)
    for one, other in zip(leaves(saved), leaves(restored), strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.random.uniform(restored.dropout_key) == jax.random.uniform(saved.dropout_key)


def test_weights_come_back_without_their_optimizer(tmp_path):
    model, images = DenseNet(), jnp.zeros((1, 4, 5, 1))
    saved = {}
    for epoch in (1, 2):
        params = model.init(jax.random.key(epoch), images, train=False)["params"]
        state = TrainState.create(
            apply_fn=model.apply, params=params, tx=optax.adam(0.1), dropout_key=jax.random.key(0)
        ).replace(step=jnp.int32(epoch))
        with Checkpoints(tmp_path / "checkpoints", state) as checkpoints:
            checkpoints.save(epoch, state, {"val_loss": float(epoch)})
        saved = params
    restored, step = restore_params(model, (4, 5, 1), tmp_path)
    assert step == 2
    jax.tree.map(np.testing.assert_array_equal, restored, jax.device_get(saved))
    assert restore_params(model, (4, 5, 1), tmp_path, best=True)[1] == 1


def test_a_plain_state_has_no_new_fields():
    """Checkpoints of older runs have these, and Orbax restores no others, not even empty ones."""
    fields = {field.name for field in dataclasses.fields(TrainState)}
    assert fields == {"step", "apply_fn", "params", "tx", "opt_state", "dropout_key"}


def test_of_averaged_weights_the_average_comes_back(tmp_path):
    state = create_state(DenseNet(), (4, 4, 1), rmsprop(1e-4), 1, ema=0.9)
    state = state.replace(average=jax.tree.map(lambda leaf: leaf + 1, state.average))
    with Checkpoints(tmp_path / "checkpoints", jax.eval_shape(lambda: state)) as checkpoints:
        checkpoints.save(1, state, {"val_loss": 1.0})
        restored = checkpoints.restore(1)
    for one, other in zip(leaves(state), leaves(restored), strict=True):
        np.testing.assert_array_equal(one, other)
    weights, _ = restore_params(DenseNet(), (4, 4, 1), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, weights, jax.device_get(state.average))


def test_a_step_is_saved_once(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:
        checkpoints.save(2, state_of(2), {"val_loss": 0.5})
        with pytest.raises(RuntimeError, match="step 1 is older than the newest checkpoint"):
            checkpoints.save(1, state_of(1), {"val_loss": 0.5})


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """Of a state with several arrays; the second is the newest, the first the best."""
    folder = tmp_path_factory.mktemp("saved")
    states = {step: create_state(DenseNet(), (4, 4, 1), rmsprop(1e-4), step) for step in (0, 5, 10)}
    with Checkpoints(folder / "checkpoints", states[0]) as checkpoints:
        for step in (5, 10):
            checkpoints.save(step, states[step], {"val_loss": step / 10, "totals": {"loss": 0.1 * step}})
    return folder, states


def is_restored(folder, states, output) -> str:
    """What came of the newest of two checkpoints after one of them was damaged."""
    with Checkpoints(folder / "checkpoints", states[0]) as checkpoints:
        step = checkpoints.steps[-1]
        restored = checkpoints.restore(step)
        assert checkpoints.metrics(step)["totals"] == {"loss": 0.1 * step}
    for one, other in zip(leaves(states[step]), leaves(restored), strict=True):
        np.testing.assert_array_equal(one, other)
    said = output()
    if not (folder / "damaged").exists() and step == 5:
        assert said == "" and {path.name for path in (folder / "checkpoints").iterdir()} == {"5"}
        return "it was gone, and the one before was taken"
    if step == 10:
        assert said == ""
        return "nothing was lost"
    assert said.startswith(f"the checkpoint {folder / 'checkpoints' / '10'} is damaged (") and said.count("\n") == 1
    assert [path.name for path in (folder / "damaged").iterdir()] == ["10-0"]
    return "the one before was taken"


@pytest.mark.parametrize("kind", faults.KINDS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(1, 40))])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    two_checkpoints, tmp_path, capsys, record_property, kind, seed
):
    """Damage to what nobody reads, such as the time of saving, is none."""
    whole, states = two_checkpoints
    folder = shutil.copytree(whole, tmp_path / "run")
    path = faults.damage(folder / "checkpoints/10", kind, random.Random(f"{kind} {seed}"))
    found = is_restored(folder, states, lambda: capsys.readouterr().out)
    record_property("found", f"{path.relative_to(folder)}: {found}")


def test_where_no_checkpoint_is_sound_nothing_is_touched(two_checkpoints, tmp_path, capsys):
    whole, states = two_checkpoints
    folder = shutil.copytree(whole, tmp_path / "run")
    for step in (5, 10):
        metrics = folder / f"checkpoints/{step}/metrics/metrics"
        metrics.write_text(metrics.read_text().replace("0", "1"))
    before = faults.contents(folder)
    with pytest.raises(InputError, match=r"no checkpoint in .* is sound: train anew in another --workdir"):
        Checkpoints(folder / "checkpoints", states[0]).__enter__()
    assert faults.contents(folder) == before
    assert capsys.readouterr().out.count("its values are not those that were saved") == 2


def test_a_second_damaged_checkpoint_of_the_same_step_is_kept_too(two_checkpoints, tmp_path):
    whole, states = two_checkpoints
    folder = shutil.copytree(whole, tmp_path / "run")
    for _ in range(2):
        (folder / "checkpoints/10/metrics/metrics").unlink()
        with Checkpoints(folder / "checkpoints", states[0]) as checkpoints:
            checkpoints.save(10, states[10], {"val_loss": 1.0})
    assert {path.name for path in (folder / "damaged").iterdir()} == {"10-0", "10-1"}


def test_names_in_the_folder_of_damaged_ones_are_never_taken(two_checkpoints, tmp_path):
    """Somebody may have removed the first of two."""
    whole, states = two_checkpoints
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "damaged/10-1").mkdir(parents=True)
    for expected in ({"10-0", "10-1"}, {"10-0", "10-1", "10-2"}):
        (folder / "checkpoints/10/metrics/metrics").unlink()
        with Checkpoints(folder / "checkpoints", states[0]) as checkpoints:
            checkpoints.save(10, states[10], {"val_loss": 1.0})
        assert {path.name for path in (folder / "damaged").iterdir()} == expected


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
        OSError(24, "Too many open files"),
        ValueError("... [os_error_code='5' source locations=...]"),
    ],
)
def test_what_is_the_fault_of_the_machine_is_not_called_damage(two_checkpoints, tmp_path, monkeypatch, error):
    whole, states = two_checkpoints
    folder = shutil.copytree(whole, tmp_path / "run")
    before = faults.contents(folder)

    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(ocp.StandardCheckpointer, "restore", fail)
    with pytest.raises((MemoryError, RuntimeError, OSError)) as raised:
        Checkpoints(folder / "checkpoints", states[0]).__enter__()
    assert not isinstance(raised.value, InputError)
    assert faults.contents(folder) == before


@pytest.mark.parametrize("kind", ["flip some bytes", "remove the folder"])
def test_damaged_weights_are_not_read(tmp_path, kind):
    with Checkpoints(tmp_path / "checkpoints", create_state(DenseNet(), (4, 4, 1), rmsprop(1e-4), 0)) as checkpoints:
        checkpoints.save(1, create_state(DenseNet(), (4, 4, 1), rmsprop(1e-4), 1), {"val_loss": 1.0})
    faults.damage(tmp_path / "checkpoints/1/state/d", kind, random.Random(1))
    with pytest.raises(InputError, match=r"holds a damaged checkpoint \(\w+.*\): --resume sets"):
        restore_params(DenseNet(), (4, 4, 1), tmp_path)
    with pytest.raises(InputError, match="holds no checkpoint: name a run that has trained an epoch"):
        restore_params(DenseNet(), (4, 4, 1), tmp_path / "elsewhere")


@pytest.mark.parametrize("text, number", [("... [os_error_code='28'] ...", 28), ("... anything else ...", None)])
def test_what_the_disk_says_becomes_its_own_error(tmp_path, monkeypatch, text, number):
    with Checkpoints(tmp_path / "checkpoints", state_of(0)) as checkpoints:
        with monkeypatch.context() as patched:

            def fail():
                raise ValueError(text)

            patched.setattr(checkpoints._manager, "wait_until_finished", fail)
            with pytest.raises(OSError if number else ValueError) as error:
                checkpoints.wait()
        assert getattr(error.value, "errno", None) == number

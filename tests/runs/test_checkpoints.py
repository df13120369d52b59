import errno
import json
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from jaxconv.models import DenseNet
from jaxconv.runs import proof
from jaxconv.runs.checkpoints import Checkpoints
from jaxconv.runs.proof import Progress, list_steps
from jaxconv.runtime.errors import InputError
from jaxconv.training.state import create_state
from tests.faults import damage as faults

SETTINGS = "those of this run"
SHAPE = (4, 4, 1)


def state_of(step: int, **options):
    """A state with all that a real one has; the weights depend on the step."""
    state = create_state(DenseNet(), SHAPE, optax.rmsprop(0.1), step, **options)
    return state.replace(step=jnp.int32(step))


def opened(folder, **options):
    return Checkpoints(folder / "checkpoints", jax.eval_shape(lambda: state_of(0, **options)), SETTINGS)


def save(folder, val_losses, first=1, **options):
    with opened(folder, **options) as checkpoints:
        for step, val_loss in enumerate(val_losses, first):
            checkpoints.save(step, state_of(step, **options), Progress(f"rows {step}", 0.5, 0.25, val_loss))


def assert_same(state, step, **options):
    """The state is that which was saved after a step, in all its parts."""
    expected = state_of(step, **options)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        is_key = jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key)
        one, other = (jax.random.key_data(leaf) if is_key else leaf for leaf in (one, other))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "val_losses, kept",
    [
        ([0.5, 0.9, 0.7, 0.6], [1, 3, 4]),  # the best and the two latest
        ([0.9, 0.8, 0.5], [2, 3]),
        ([0.9, 0.9, 0.9], [2, 3]),
        ([0.5, None, None, None], [1, 3, 4]),  # in the middle of an epoch nothing is the best
    ],
)
def test_the_latest_and_the_best_stay(tmp_path, val_losses, kept):
    save(tmp_path, val_losses)
    assert list_steps(tmp_path / "checkpoints") == kept
    with opened(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_newest().state, len(val_losses))
        losses = {step: loss for step, loss in enumerate(val_losses, 1) if loss is not None}
        assert_same(checkpoints.restore_best().state, min(losses, key=lambda step: (losses[step], -step)))


def test_a_folder_without_checkpoints_restores_nothing(tmp_path):
    with opened(tmp_path) as checkpoints:
        assert checkpoints.restore_newest() is None


def test_the_best_stays_over_a_restart(tmp_path):
    """And what a kill left beside the latest and the best goes at the next save."""
    save(tmp_path, [0.5, 0.9, 0.8])
    shutil.copytree(tmp_path / "checkpoints/2", tmp_path / "kept")
    save(tmp_path, [0.7], first=4)
    shutil.copytree(tmp_path / "kept", tmp_path / "checkpoints/2")
    save(tmp_path, [0.6], first=5)
    assert list_steps(tmp_path / "checkpoints") == [1, 4, 5]


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}])
def test_everything_of_a_state_comes_back(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    save(tmp_path.relative_to(tmp_path), [0.5], **options)
    with opened(tmp_path, **options) as checkpoints:
        saved = checkpoints.restore_newest()
    assert saved.progress == Progress("rows 1", 0.5, 0.25, 0.5)
    assert_same(saved.state, 1, **options)
    assert jax.random.uniform(saved.state.key) == jax.random.uniform(state_of(1).key)


def test_a_step_is_saved_once(tmp_path):
    with opened(tmp_path) as checkpoints:
        checkpoints.save(2, state_of(2), Progress(""))
        with pytest.raises(RuntimeError, match="step 1 is older than the newest checkpoint"):
            checkpoints.save(1, state_of(1), Progress(""))


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """The second is the newest, the first the best."""
    folder = tmp_path_factory.mktemp("saved")
    save(folder, [0.5, 1.0])
    return folder


@pytest.mark.parametrize("kind", faults.KINDS)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in range(1, 40))])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    two_checkpoints, tmp_path, capfd, record_property, kind, seed
):
    """Damage to what nobody reads, such as the time of saving, is none. Nothing else is said, by Orbax neither."""
    folder = shutil.copytree(two_checkpoints, tmp_path / "run")
    path = faults.damage(folder / "checkpoints/2", kind, random.Random(f"{kind} {seed}"))
    with opened(folder) as checkpoints:
        saved = checkpoints.restore_newest()
    step = int(saved.state.step)
    assert_same(saved.state, step)
    assert saved.progress.rows_sha256 == f"rows {step}"
    said = capfd.readouterr()
    if step == 2:
        found = "nothing was lost"
        assert said == ("", "")
    elif list_steps(folder / "checkpoints") == [1] and not (folder / "damaged").exists():
        found = "it was gone, and the one before was taken"
        assert said == ("", "")
    else:
        found = "the one before was taken"
        assert said.out.startswith(f"the checkpoint {folder / 'checkpoints' / '2'} is damaged (")
        assert (said.out.count("\n"), said.err) == (1, "")
        assert [path.name.partition("-")[0] for path in (folder / "damaged").iterdir()] == ["2"]
    record_property("found", f"{path.relative_to(folder)}: {found}")


@pytest.mark.parametrize(
    "other, why",
    [
        ({"settings": "another run's"}, "it was saved by a run with other settings"),
        ({"step": 7}, "it was saved after step 7"),
    ],
)
def test_a_checkpoint_of_another_run_or_step_is_not_taken(two_checkpoints, tmp_path, capsys, other, why):
    folder = shutil.copytree(two_checkpoints, tmp_path / "run")
    path = folder / "checkpoints/2/proof.json"
    found = proof.read_proof(path.parent)
    values = {name: getattr(found, name) for name in found.__struct_fields__} | other
    path.write_bytes(proof.encode(proof.Proof(**values)))
    with opened(folder) as checkpoints:
        assert int(checkpoints.restore_newest().state.step) == 1
    assert f"is damaged ({why})" in capsys.readouterr().out


def test_where_no_checkpoint_is_sound_nothing_is_touched(two_checkpoints, tmp_path, capsys):
    folder = shutil.copytree(two_checkpoints, tmp_path / "run")
    for step in (1, 2):
        path = folder / f"checkpoints/{step}/proof.json"
        path.write_text(path.read_text().replace("rows", "lines"))
    before = faults.contents(folder)
    with (
        opened(folder) as checkpoints,
        pytest.raises(InputError, match=r"no checkpoint in .* is valid: train anew in another --workdir"),
    ):
        checkpoints.restore_newest()
    assert faults.contents(folder) == before
    assert capsys.readouterr().out.count("is damaged (proof.json was changed)") == 2


def test_a_damaged_best_gives_way_to_the_next_best(tmp_path, capsys):
    save(tmp_path, [0.1, 0.3, 0.2])
    shutil.rmtree(tmp_path / "checkpoints/1/state/d")
    with opened(tmp_path) as checkpoints:
        assert_same(checkpoints.restore_newest().state, 3)
        assert_same(checkpoints.restore_best().state, 3)
    assert "checkpoints/1 is damaged (state/d/" in capsys.readouterr().out
    assert list_steps(tmp_path / "checkpoints") == [2, 3]


def test_every_damaged_checkpoint_of_a_step_is_kept(two_checkpoints, tmp_path):
    folder = shutil.copytree(two_checkpoints, tmp_path / "run")
    for _ in range(2):
        (folder / "checkpoints/2/proof.json").unlink()
        with opened(folder) as checkpoints:
            checkpoints.restore_newest()
            checkpoints.save(2, state_of(2), Progress("", val_loss=1.0))
    assert [path.name.partition("-")[0] for path in (folder / "damaged").iterdir()] == ["2", "2"]


def test_another_net_or_optimizer_is_no_damage(two_checkpoints, tmp_path, capfd):
    folder = shutil.copytree(two_checkpoints, tmp_path / "run")
    before = faults.contents(folder)
    others = {
        "opt_state/0/count is missing, but now it is int32[]": lambda: create_state(
            DenseNet(), SHAPE, optax.adam(0.1), 0
        ),
        "nu/Dense_0/kernel is float32[16, 512], but now it is float32[20, 512]": lambda: create_state(
            DenseNet(), (5, 4, 1), optax.rmsprop(0.1), 0
        ),
    }
    for said, other in others.items():
        with (
            Checkpoints(folder / "checkpoints", jax.eval_shape(other), SETTINGS) as checkpoints,
            pytest.raises(InputError, match="is of another net or optimizer: ") as error,
        ):
            checkpoints.restore_newest()
        assert said in str(error.value)
    assert faults.contents(folder) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_fault_of_the_machine_is_not_called_damage(two_checkpoints, tmp_path, monkeypatch, number):
    folder = shutil.copytree(two_checkpoints, tmp_path / "run")
    before = faults.contents(folder)

    def fail(*_):
        raise OSError(number, "the machine")

    monkeypatch.setattr(proof, "file_digests", fail)
    with opened(folder) as checkpoints, pytest.raises(OSError, match="the machine") as error:
        checkpoints.restore_newest()
    assert error.value.errno == number
    assert faults.contents(folder) == before


@pytest.mark.parametrize("text, number", [("... [os_error_code='28'] ...", 28), ("... anything else ...", None)])
def test_what_the_disk_says_becomes_its_own_error(tmp_path, monkeypatch, text, number):
    with opened(tmp_path) as checkpoints:
        with monkeypatch.context() as patched:

            def fail():
                raise ValueError(text)

            patched.setattr(checkpoints._manager, "wait_until_finished", fail)
            with pytest.raises(OSError if number else ValueError) as error:
                checkpoints.wait()
        assert getattr(error.value, "errno", None) == number


def test_orbax_reads_these_checkpoints_by_itself(two_checkpoints):
    """They are its own format, beside which only the proof lies."""
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(two_checkpoints / "checkpoints/2/state", jax.eval_shape(lambda: state_of(0)))
    assert_same(state, 2)
    written = json.loads((two_checkpoints / "checkpoints/2/proof.json").read_text())["proof"]
    assert (written["step"], written["settings"]) == (2, SETTINGS)


def test_a_best_that_is_damaged_while_the_run_goes_on_gives_way_too(tmp_path, capsys):
    """Steps that were deleted long ago are not looked for."""
    with opened(tmp_path) as checkpoints:
        for step, loss in enumerate([0.4, 0.1, 0.5, 0.3, 0.6, 0.7], 1):
            checkpoints.save(step, state_of(step), Progress("", val_loss=loss))
        checkpoints.wait()
        assert list_steps(tmp_path / "checkpoints") == [2, 5, 6]
        (tmp_path / "checkpoints/2/proof.json").unlink()
        assert_same(checkpoints.restore_best().state, 5)
    assert capsys.readouterr().out.count("is damaged") == 1


def test_a_best_whose_proof_cannot_be_read_for_now_is_not_deleted(tmp_path, monkeypatch):
    save(tmp_path, [0.1, 0.5, 0.6])

    def fail(*_):
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(proof, "read_proof", fail)
        with pytest.raises(OSError, match="too many"):
            opened(tmp_path).__enter__()
    assert list_steps(tmp_path / "checkpoints") == [1, 2, 3]

import jax
import jax.numpy as jnp
import msgspec
import pytest

from jaxconv.runs import proof
from jaxconv.runs.proof import Progress, Proof
from tests.test_config import CONFIG, changed


def test_settings_of_a_run_are_one_digest_whatever_may_change():
    same = changed(data={"path": "/elsewhere"}, training={"epochs": 90, "checkpoint_every": 3})
    assert proof.settings_digest(CONFIG) == proof.settings_digest(msgspec.structs.replace(same, commit="abc"))
    others = [
        changed(data={"class_names": ["dogs", "cats"]}),
        changed(data={"image_shape": (96, 96, 3)}),
        changed(model={"options": {"dropout": 0.4}}),
        changed(training={"batch_size": 32}),
        msgspec.structs.replace(CONFIG, seed=1),
    ]
    assert len({proof.settings_digest(config) for config in [CONFIG, *others]}) == 6


def test_the_structure_has_the_path_dtype_and_shape_of_each_value():
    tree = {"params": {"Conv_0": {"bias": jnp.zeros(3)}}, "step": jnp.int32(1), "average": None}
    assert proof.structure(tree) == {"params/Conv_0/bias": "float32[3]", "step": "int32[]"}
    assert proof.structure(jax.eval_shape(lambda: tree)) == proof.structure(tree)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "5"
    (path / "state/d").mkdir(parents=True)
    (path / "state/d/data").write_bytes(b"values")
    (path / "state/manifest").write_bytes(b"where they are")
    content = Proof(5, "s", {"step": "int32[]"}, proof.file_digests(path), Progress("rows", 1.5, 0.5, 0.25))
    (path / "proof.json").write_bytes(proof.encode(content))
    assert proof.read_proof(path) == content
    assert proof.damage(path, "s") is None
    return path


def test_digests_of_files_are_sha256(checkpoint):
    """That of "values" is by coreutils' sha256sum."""
    found = proof.file_digests(checkpoint)
    assert list(found) == ["state/manifest", "state/d/data"]
    assert found["state/d/data"] == "89445ea08b55421faa49919a5fd272e9a520f701b479d6084847e161ca5b7711"


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda path: (path / "state/d/data").write_bytes(b"valuez"), "state/d/data was changed"),
        (lambda path: (path / "state/d/data").unlink(), "state/d/data is missing"),
        (lambda path: (path / "state/more").touch(), "state/more was changed"),
        (lambda path: (path / "proof.json").unlink(), "proof.json is missing"),
        (lambda path: (path / "proof.json").write_text("{"), "Expecting property name"),
        (lambda path: (path / "proof.json").write_text("[1]"), "Expected `object`, got `array`"),
        (lambda path: (path / "proof.json").write_text("[" * 100_000), "recursion"),
        (
            lambda path: (path / "proof.json").write_text((path / "proof.json").read_text().replace("0.25", "0.15")),
            "proof.json was changed",
        ),
    ],
)
def test_damage_is_named(checkpoint, change, why):
    change(checkpoint)
    assert why in proof.damage(checkpoint, "s")


def test_a_checkpoint_of_other_settings_or_another_step_is_named(checkpoint):
    assert proof.damage(checkpoint, "other") == "it was saved by a run with other settings"
    moved = checkpoint.rename(checkpoint.with_name("6"))
    assert proof.damage(moved, "s") == "it was saved after step 5"


def test_only_names_of_steps_are_checkpoints(tmp_path):
    for name in ("3", "12", "²", "007", "4.orbax-checkpoint-tmp", "deleted", "-1", "1" * 30):
        (tmp_path / name).mkdir()
    assert proof.list_steps(tmp_path) == [3, 12]

import json

import pytest

from jaxconv.errors import InputError
from jaxconv.workdir import claim, environment

CONFIG = {
    "seed": 0,
    "epochs": 2,
    "image_size": (150, 150),
    "data": {"path": "a", "counts": {"train": 6}},
    "versions": {"jax": "1"},
}


def hold(*arguments, **options):
    with claim(*arguments, **options):
        pass


def test_a_new_directory_gets_its_config(tmp_path):
    hold(tmp_path / "runs/new", CONFIG, resume=False)
    assert json.loads((tmp_path / "runs/new/config.json").read_text()) == json.loads(json.dumps(CONFIG))
    hold(tmp_path / "runs/other", CONFIG, resume=True)  # nothing to resume yet: a run that was killed early
    assert {path.name for path in (tmp_path / "runs/new").iterdir()} == {"config.json", ".lock"}


def test_an_existing_run_needs_resume(tmp_path):
    hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match="holds a run: continue it with --resume, or name another directory"):
        hold(tmp_path, CONFIG, resume=False)


def test_where_and_how_long_may_change(tmp_path):
    hold(tmp_path, CONFIG, resume=False)
    moved = CONFIG | {"epochs": 3, "versions": {"jax": "2"}, "data": CONFIG["data"] | {"path": "b"}}
    hold(tmp_path, moved, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 3


def test_a_run_is_not_made_shorter(tmp_path):
    """It may have trained more epochs already, whose lines and weights would stay."""
    hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match="is one of 2 epochs: --epochs can make it longer, not shorter"):
        hold(tmp_path, CONFIG | {"epochs": 1}, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "has seed=0, but now it is 1: resume with the old settings"),
        ({"data": {"path": "a", "counts": {"train": 7}}}, "has data.counts.train=6, but now it is 7"),
        ({"new": True}, "has new=missing, but now it is true"),
    ],
)
def test_another_configuration_is_refused(tmp_path, change, message):
    hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match=message):
        hold(tmp_path, CONFIG | change, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_files_and_foreign_directories_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file is a file: name a directory"):
        hold(tmp_path / "file", CONFIG, resume=False)
    with pytest.raises(InputError, match="holds other files: name a new directory"):
        hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match=r"file/run cannot be written \(Not a directory\)"):
        hold(tmp_path / "file/run", CONFIG, resume=False)


def test_the_environment_names_versions_and_device():
    found = environment()
    assert {"python", "jax", "flax", "numpy"} <= found["versions"].keys()
    assert found["device"]["platform"] == "cpu"
    json.dumps(found)


def test_a_run_directory_that_cannot_be_written_is_named(tmp_path):
    hold(tmp_path / "run", {"epochs": 1}, resume=False)
    (tmp_path / "run" / "config.part").mkdir()  # even the superuser cannot write there
    with pytest.raises(InputError, match=r"--workdir .*/run cannot be written \(Is a directory\): set it right and"):
        hold(tmp_path / "run", {"epochs": 2}, resume=True)

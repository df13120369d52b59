"""The run directory: whose it is, what is written there, and what is read."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import msgspec
import pytest

from jaxconv.runs import directory
from jaxconv.runs.directory import claim, environment, read_config, write_config
from jaxconv.runtime.errors import InputError
from tests.test_config import CONFIG, changed


def hold(workdir, config, *, resume):
    """Claim the directory, and begin a run there."""
    with claim(workdir, config, resume=resume):
        write_config(workdir, config)


def test_a_new_directory_gets_its_config(tmp_path):
    hold(tmp_path / "runs/new", CONFIG, resume=False)
    assert read_config(tmp_path / "runs/new") == CONFIG
    hold(tmp_path / "runs/other", CONFIG, resume=True)  # nothing to resume yet: a run that was killed early
    assert {path.name for path in (tmp_path / "runs/new").iterdir()} == {"config.json", ".lock"}


def test_an_existing_run_needs_resume(tmp_path):
    hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(
        InputError, match=r"contains this run: add --resume \(in Python, resume=True\) to continue it, or"
    ):
        hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match=r"holds a run with seed=0, but now it is 1: choose another$"):
        hold(tmp_path, msgspec.structs.replace(CONFIG, seed=1), resume=False)


def test_where_and_how_long_may_change(tmp_path):
    hold(tmp_path, CONFIG, resume=False)
    moved = changed(training={"epochs": 40}, data={"path": "b"})
    hold(tmp_path, msgspec.structs.replace(moved, versions={"jax": "2"}, commit="abc"), resume=True)
    assert read_config(tmp_path).training.epochs == 40


def test_a_run_is_not_made_shorter(tmp_path):
    """It may have trained more epochs already, whose lines and weights would stay."""
    hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match=r"training.epochs=30, but now it is 1, and a run is only made longer: resume"):
        hold(tmp_path, changed(training={"epochs": 1}), resume=True)
    assert read_config(tmp_path) == CONFIG


def test_all_that_differs_is_said(tmp_path):
    hold(tmp_path, CONFIG, resume=False)
    other = msgspec.structs.replace(changed(data={"counts": {"train": 8}}), seed=1)
    with pytest.raises(InputError, match=r"data.counts.train=7, but now it is 8; .*; seed=0, but now it is 1: resume"):
        hold(tmp_path, other, resume=True)
    assert read_config(tmp_path) == CONFIG


def test_files_and_foreign_directories_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file is a file or lies in one: name a directory"):
        hold(tmp_path / "file", CONFIG, resume=False)
    with pytest.raises(InputError, match="holds other files: name a new directory"):
        hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match="file/run is a file or lies in one: name a directory"):
        hold(tmp_path / "file/run", CONFIG, resume=False)


def test_the_environment_names_versions_and_device():
    found = environment()
    assert {"python", "jax", "flax", "numpy"} <= found["versions"].keys()
    assert found["device"]["platform"] == "cpu"
    json.dumps(found)


def test_a_directory_in_use_is_refused(tmp_path):
    in_use = f"--workdir {tmp_path} is in use by another process: wait for it"
    with claim(tmp_path, CONFIG, resume=False), pytest.raises(InputError, match=in_use):
        hold(tmp_path, CONFIG, resume=True)
    hold(tmp_path, CONFIG, resume=True)


def test_a_foreign_directory_is_left_as_it_is(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="holds other files"):
        hold(tmp_path, CONFIG, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".config.json.0123456789abcdef.part"]])
def test_a_run_that_was_killed_before_it_was_one_begins(tmp_path, left, capsys):
    for name in left:
        (tmp_path / name).touch()
    hold(tmp_path, CONFIG, resume=True)
    assert capsys.readouterr().out == f"--resume: no run in {tmp_path} yet; starting a new one\n"


GOOD = msgspec.to_builtins(CONFIG)
TRAINING = GOOD["training"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", r"config.json is damaged \(Expecting property name"),
        ("[1]", r"config.json is damaged \(Expected `object`, got `array`\): name another run, or train anew"),
        ("null", r"config.json is damaged \(Expected `object`, got `null`"),
        ("\x00", "config.json is damaged"),
        ("[" * 100_000, "config.json is damaged .*recursion"),
        ("{}", "config.json is of a run directory of format 1, and this version of jaxconv reads format 2: use the"),
        (GOOD | {"format": 3}, "config.json is of a run directory of format 3"),
        (GOOD | {"surplus": 1}, "unknown field `surplus`"),
        ({name: GOOD[name] for name in GOOD if name != "model"}, "missing required field `model`"),
        ({name: GOOD[name] for name in GOOD if name != "device"}, r"at `\$.device`"),
        (GOOD | {"training": TRAINING | {"epochs": 0}}, r"Expected `int` >= 1 - at `\$.training.epochs`"),
        (
            GOOD | {"training": {name: TRAINING[name] for name in TRAINING if name != "batch_size"}},
            r"at `\$.training.batch_size`",
        ),
        (GOOD | {"training": TRAINING | {"optimizer": {"name": "x"}}}, r"\$.training.optimizer.name"),
        (GOOD | {"seed": 10**400}, r"\$.seed"),
        (GOOD | {"seed": None, "data": None}, r"\$.data"),
        (GOOD | {"data": GOOD["data"] | {"image_shape": [2**31 - 1] * 2 + [4]}}, r"image_shape is .* - at `\$.data`"),
    ],
)
def test_a_damaged_config_is_named_by_its_field(tmp_path, content, message):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        hold(tmp_path, CONFIG, resume=True)
    assert (tmp_path / "config.json").read_text() == text


def test_where_there_is_no_run_the_directory_is_named(tmp_path):
    with pytest.raises(InputError, match=r"is not a run directory \(no config.json\): use one that was trained$"):
        read_config(tmp_path)


def test_the_commit_is_that_of_a_clone(tmp_path, monkeypatch):
    """And a change to the package is marked; elsewhere there is none."""
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "jaxconv").mkdir()
    (tmp_path / "jaxconv/__init__.py").touch()
    monkeypatch.setattr(directory.jaxconv, "__file__", str(tmp_path / "jaxconv/__init__.py"))
    assert directory.commit() is None
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert directory.commit() == head
    (tmp_path / "elsewhere").touch()
    assert directory.commit() == head
    (tmp_path / "jaxconv/new.py").touch()
    assert directory.commit() == f"{head}+"


@pytest.mark.parametrize("platform, now, said", [("cpu", 2, False), ("cpu", 8, True), ("gpu", 8, False)])
def test_another_number_of_threads_is_said(tmp_path, capsys, platform, now, said):
    old, new = (
        msgspec.structs.replace(CONFIG, device={"platform": platform, "threads": threads}) for threads in (2, now)
    )
    hold(tmp_path, old, resume=False)
    hold(tmp_path, new, resume=True)
    line = "the run had 2 threads and now has 8: results can differ by rounding, but not with NPROC=2\n"
    assert capsys.readouterr().out == said * line


@pytest.fixture
def small_disk(tmp_path):
    if os.getuid() != 0:
        pytest.skip("only the superuser mounts a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_read_only_or_full_is_named(small_disk):
    hold(small_disk / "run", CONFIG, resume=False)
    before = (small_disk / "run/config.json").read_bytes()
    (small_disk / "filler").write_bytes(bytes(50_000))
    large = msgspec.structs.replace(CONFIG, versions={"jax": "1" * 50_000})
    with pytest.raises(OSError, match="No space left on device") as error:
        hold(small_disk / "run", large, resume=True)
    assert error.value.filename == str(small_disk / "run/config.json")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for name in ("run", "new"):
        with pytest.raises(InputError, match=rf"{name} cannot be written \(Read-only file system\): fix this"):
            hold(small_disk / name, CONFIG, resume=True)
    assert {path.name for path in (small_disk / "run").iterdir()} == {"config.json", ".lock"}
    assert (small_disk / "run/config.json").read_bytes() == before


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can try as another user")
def test_a_directory_of_somebody_else_is_named():
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others as a whole
        os.chmod(folder, 0o755)
        hold(Path(folder, "run"), CONFIG, resume=False)
        os.seteuid(65534)
        try:
            for mode in (0o755, 0o700):  # a folder that can be looked into, and a closed one
                os.seteuid(0)
                os.chmod(folder, mode)
                os.seteuid(65534)
                for name in ("run", "new"):
                    refused = rf"{name} cannot be written \(Permission denied\): fix this"
                    with pytest.raises(InputError, match=refused):
                        hold(Path(folder, name), CONFIG, resume=True)
        finally:
            os.seteuid(0)


def test_a_division_comes_back_and_a_damaged_one_is_named(tmp_path):
    assert directory.read_division(tmp_path) is None
    splits = {"train": ["cats/1.jpg", "caf\udce9/2.jpg"], "test": ["cats/3.jpg"]}
    directory.write_division(tmp_path, splits)
    assert directory.read_division(tmp_path) == splits
    for content in ("{", "[1]", '{"train": [1]}'):
        (tmp_path / "split.json").write_text(content)
        with pytest.raises(InputError, match=r"split\.json is damaged \(.*\): train anew in another --workdir"):
            directory.read_division(tmp_path)


def test_a_setting_that_is_newer_than_the_run_is_none(tmp_path):
    """As `transfer` is of runs that were trained before there was transfer."""
    write_config(tmp_path, CONFIG)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content.pop("transfer") is None and content["training"].pop("class_weights") is None
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert read_config(tmp_path) == CONFIG

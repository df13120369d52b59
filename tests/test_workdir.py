import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from jaxconv.errors import InputError
from jaxconv.workdir import claim, environment, write_json, write_whole

CONFIG = {
    "seed": 0,
    "epochs": 2,
    "image_size": (150, 150),
    "data": {"path": "a", "counts": {"train": 6}},
    "versions": {"jax": "1"},
}


def hold(workdir, config, *, resume):
    """Claim the directory, and begin a run there."""
    with claim(workdir, config, resume=resume):
        write_json(workdir / "config.json", config)


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
    with pytest.raises(InputError, match="has epochs=2, but now it is 1, and a run is only made longer: resume"):
        hold(tmp_path, CONFIG | {"epochs": 1}, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["epochs"] == 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"seed": 1}, "has seed=0, but now it is 1: resume with the old settings"),
        ({"data": {"path": "a", "counts": {"train": 7}}}, "has data.counts.train=6, but now it is 7"),
        (
            {"seed": 1, "data": {"counts": {"train": 7}}},
            "data.counts.train=6, but now it is 7; seed=0, but now it is 1",
        ),
        (
            {"data": {"path": "a", "counts": {"train": 6}, "fingerprint": "f" * 64}},
            'but now it is "fffffffffff...: resume',
        ),
        ({"new": True}, "has new=missing, but now it is true"),
    ],
)
def test_another_configuration_is_refused(tmp_path, change, message):
    hold(tmp_path, CONFIG, resume=False)
    with pytest.raises(InputError, match=message):
        hold(tmp_path, CONFIG | change, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0


def test_a_run_older_than_a_setting_goes_on_without_it(tmp_path):
    hold(tmp_path, CONFIG, resume=False)
    hold(tmp_path, CONFIG | {"patience": None, "tensorboard": True}, resume=True)
    assert json.loads((tmp_path / "config.json").read_text())["tensorboard"]
    with pytest.raises(InputError, match="patience=null, but now it is 3"):
        hold(tmp_path, CONFIG | {"patience": 3}, resume=True)


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


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", "config.part"]])
def test_a_run_that_was_killed_before_it_was_one_begins(tmp_path, left, capsys):
    for name in left:
        (tmp_path / name).touch()
    hold(tmp_path, CONFIG, resume=True)
    assert capsys.readouterr().out == f"--resume: {tmp_path} holds no run yet, it begins now\n"


@pytest.mark.parametrize("content", ["{", "[]", "null", "\x00"])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config.json cannot be read \(.*\): name a run, or train anew"):
        hold(tmp_path, CONFIG, resume=True)
    assert (tmp_path / "config.json").read_text() == content


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "file.json", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(IsADirectoryError):
        write_whole(Path("."), b"new")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file.json", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file.json": b"old"}


@pytest.mark.parametrize("platform, now, said", [("cpu", 2, False), ("cpu", 8, True), ("gpu", 8, False)])
def test_another_number_of_threads_is_said(tmp_path, capsys, platform, now, said):
    old, new = ({"device": {"platform": platform, "threads": threads}} for threads in (2, now))
    hold(tmp_path, CONFIG | old, resume=False)
    hold(tmp_path, CONFIG | new, resume=True)
    line = "the run had 2 threads and has 8 now: it goes on to rounding, with NPROC=2 to the bit\n"
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
    large = CONFIG | {"versions": {"jax": "1" * 50_000}}
    with pytest.raises(OSError, match="No space left on device") as error:
        hold(small_disk / "run", large, resume=True)
    assert error.value.filename == str(small_disk / "run/config.json")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for name in ("run", "new"):
        with pytest.raises(InputError, match=rf"{name} cannot be written \(Read-only file system\): set it right"):
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
                    refused = rf"{name} cannot be written \(Permission denied\): set it right"
                    with pytest.raises(InputError, match=refused):
                        hold(Path(folder, name), CONFIG, resume=True)
        finally:
            os.seteuid(0)

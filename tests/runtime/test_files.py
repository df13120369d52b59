import os
from pathlib import Path

import pytest

from jaxconv.runtime.files import printable, remove_parts, write_json, write_whole


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "file.json", b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    with pytest.raises(IsADirectoryError):
        write_whole(Path("."), b"new")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_whole(tmp_path / "file.json", b"new")
    assert error.value.filename == str(tmp_path / "file.json")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"file.json": b"old"}


def test_files_of_similar_names_are_left_alone(tmp_path):
    """What is written goes through a file whose name can be nobody's."""
    theirs = ["report.part", "report.html.part", ".report.html.part", "report.tmp", "report.html~"]
    for name in theirs:
        (tmp_path / name).write_text("mine")
    write_whole(tmp_path / "report.html", b"new")
    write_json(tmp_path / "report.json", {"a": 1})
    assert {path.name for path in tmp_path.iterdir()} == {*theirs, "report.html", "report.json"}
    assert {(tmp_path / name).read_text() for name in theirs} == {"mine"}
    assert (tmp_path / "report.html").read_bytes() == b"new"


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    theirs = [".report.part", "report.0123456789abcdef.part", ".0123456789abcdef.part", ".a.0123.part"]
    for name in theirs:
        (tmp_path / name).touch()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: None)  # as if killed before it
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_whole(tmp_path / "report.html", b"new")
    assert len(list(tmp_path.iterdir())) == len(theirs) + 1
    remove_parts(tmp_path)
    remove_parts(tmp_path / "nowhere")
    assert {path.name for path in tmp_path.iterdir()} == set(theirs)


def test_a_new_file_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_names_that_no_terminal_should_print_are_escaped():
    assert printable("caf\u00e9\n\udcff\x1b[31m") == "caf\u00e9\\n\\udcff\\x1b[31m"

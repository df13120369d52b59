"""Pictures checked one by one: every fault, and what is none."""

from collections import Counter
from pathlib import Path

import pytest

from jaxconv.data.checks import Finding, check_file, examine
from jaxconv.data.similarity import Seen
from jaxconv.runtime.errors import InputError
from tests.scenes import BAD, GOOD, fill


def test_files_are_examined_one_by_one_and_sorted_by_name(tmp_path):
    root = fill(tmp_path, GOOD | BAD | {"notes.txt": b"no picture", "train/Thumbs.db": b"x"})
    examined = examine(root)
    assert [one.path for one in examined] == sorted(GOOD | BAD)
    assert Counter(type(one) for one in examined) == {Seen: 14, Finding: 5}  # small and doubled ones are sound
    some = [root / "train/cats/white.png", root / "test/cats/1.jpg"]
    assert [one.path for one in examine(root, some)] == ["test/cats/1.jpg", "train/cats/white.png"]
    with pytest.raises(InputError, match=f"^{root} holds no pictures: name a folder of pictures$"):
        examine(root, [])


def test_a_finding_is_a_file_s_whatever_it_holds(tmp_path):
    for name, data in {"a": b"\xff\xd8\xff", "b.jpg": b"P", "c.png": b"\x89PNG\r\n\x1a\n", "d": bytes(100)}.items():
        (tmp_path / name).write_bytes(data)
        found = check_file(tmp_path, name)
        assert isinstance(found, Finding) and found.kind == ("broken" if name in ("a", "c.png") else "not an image")
        assert found.detail and "0x" not in found.detail
    assert check_file(tmp_path, "gone") == Finding("gone", "broken", "No such file or directory")


def test_a_link_whose_target_is_gone_is_broken(tmp_path):
    (tmp_path / "a.jpg").symlink_to(tmp_path / "nowhere")
    assert examine(tmp_path) == [Finding("a.jpg", "broken", "a link to a file that does not exist")]


def test_memory_that_runs_out_is_no_fault_of_the_file(tmp_path, monkeypatch):
    def run_out(_: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", run_out)
    with pytest.raises(MemoryError):
        check_file(tmp_path, "a.jpg")

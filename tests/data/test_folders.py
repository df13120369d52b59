"""Which files are pictures."""

from pathlib import Path

from PIL import Image

from jaxconv.data.folders import SUFFIXES, find_pictures, walk
from jaxconv.data.images import FORMATS


def test_names_of_pictures_end_as_those_of_the_formats_that_are_read(tmp_path):
    """Pillow's own list is the oracle, and HEIC's two suffixes."""
    Image.init()
    known = {suffix for suffix, kind in Image.EXTENSION.items() if kind in (*FORMATS, "MPO")}
    unusual = {".apng", ".avifs", ".pfm"}
    assert (known | {".heic", ".heif"}) - unusual == SUFFIXES


def test_a_walk_is_sorted_folder_by_folder_and_keeps_links_whose_target_is_gone(tmp_path: Path):
    for name in ("b.txt", "a/2.JPG", "a/1.png", ".hidden/3.png", "a/.4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/gone.gif").symlink_to("nowhere")
    (tmp_path / "a/up").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path)]
    assert found == ["b.txt", "a/1.png", "a/2.JPG", "a/gone.gif"]
    assert [path.name for path in find_pictures(tmp_path)] == ["1.png", "2.JPG", "gone.gif"]

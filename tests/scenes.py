"""Pictures as photos are, folders of good and bad ones, and pictures that are only hashes."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from jaxconv.data.similarity import Seen
from tests.faults.mutated import originals, with_size


def encode(picture: Image.Image, kind: str = "JPEG", **options) -> bytes:
    """The bytes of a picture's file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def scene(seed: int, width: int = 240, height: int = 180) -> Image.Image:
    """A picture of large soft shapes, as photos are; each seed has a different one."""
    rough = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)


def fill(root: Path, files: dict[str, bytes]) -> Path:
    """Write files, by their names below a folder."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def tree(folder: Path) -> dict[str, bytes]:
    """The files below a folder, by their names."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def digit(seed: int, size: int = 28) -> Image.Image:
    """A zero in white on black, as MNIST's are; each seed has a different one."""
    rng = np.random.default_rng(seed)
    (x, y), thickness = rng.uniform((4, 6), (5, 9)), int(rng.integers(7, 13))
    drawn = Image.new("L", (112, 112))
    box = [4 * (13.5 - x), 4 * (13.5 - y), 4 * (13.5 + x), 4 * (13.5 + y)]
    ImageDraw.Draw(drawn).ellipse(box, outline=255, width=thickness)
    drawn = drawn.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)
    return drawn.resize((28, 28), reducing_gap=2).resize((size, size))


ALL_SHADES = np.arange(1024) % 256  # of the pixels of a thumbnail


def seen(
    path: str,
    phash: int | None,
    digest: bytes | None = None,
    thumbnail: np.ndarray = ALL_SHADES,
    size: tuple[int, int] = (240, 180),
) -> Seen:
    """A picture with a digest of its own, unless one is given, and with the pixels of all others like it."""
    return Seen(path, digest or path.encode(), phash, thumbnail.astype(np.uint8).tobytes(), size)


GOOD = {
    f"{split}/{kind}s/{number}.jpg": encode(scene(100 * number + 10 * len(split) + len(kind)), quality=90)
    for split in ("train", "validation", "test")
    for kind in ("wolf", "cat")
    for number in range(2)
}
BAD = {
    "train/cats/broken.jpg": GOOD["train/cats/0.jpg"][:900],
    "train/cats/empty.jpg": b"",
    "train/cats/page.jpg": b"<html>log in</html>",
    "train/cats/small.png": encode(scene(7, 31, 200), "PNG"),
    "train/cats/white.png": encode(Image.new("RGB", (50, 50), "white"), "PNG"),
    "train/cats/large.png": with_size("PNG RGB", originals()["PNG RGB"], 60_000, 60_000),
    "train/cats/same.jpg": GOOD["test/cats/1.jpg"],
}


def close_folder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let folders of this name refuse to be listed, which the superuser's own would not."""
    scan = os.scandir

    def scan_or_fail(path: str) -> object:
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_or_fail)

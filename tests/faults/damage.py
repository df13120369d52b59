"""Damage to files, as disks, kills and copies do it; always the same for the same generator."""

import random
import shutil
from pathlib import Path

KINDS = ("flip a bit", "flip some bytes", "cut", "empty", "remove", "grow", "zero a block", "swap", "remove the folder")


def damage(folder: Path, kind: str, rng: random.Random) -> Path:
    """Damage one file below `folder`, chosen at random; returns its path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    full = [path for path in files if path.stat().st_size]
    path = rng.choice(files if kind in ("remove", "grow") else full)
    content = bytearray(path.read_bytes())
    if kind == "flip a bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "flip some bytes":
        for _ in range(10):
            content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    elif kind == "cut":
        content = content[: rng.randrange(len(content))]
    elif kind == "empty":
        content = bytearray()
    elif kind == "grow":
        content += rng.randbytes(20)
    elif kind == "zero a block":
        start = rng.randrange(len(content))
        content[start : start + 64] = bytes(len(content[start : start + 64]))
    elif kind == "swap":
        content = bytearray(rng.choice(full).read_bytes())
    path.write_bytes(content)
    if kind == "remove":
        path.unlink()
    elif kind == "remove the folder":
        shutil.rmtree(path.parent)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

"""Checksums and metadata that validate a checkpoint."""

import hashlib
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import jax
import msgspec
from msgspec import Struct

from jaxconv.config import Config
from jaxconv.runs.resume import leaves
from jaxconv.runtime.errors import InputError

FILE = "proof.json"


class Progress(Struct, frozen=True):
    """Training progress saved with a checkpoint.

    `rows_sha256` is the digest of the rows of metrics.jsonl so far. `seconds` and `waited` are the time spent on
    training and on waiting for data in the current epoch. `val_loss` is None in the middle of an epoch.
    """

    rows_sha256: str
    seconds: float = 0.0
    waited: float = 0.0
    val_loss: float | None = None


class Proof(Struct, frozen=True):
    """The content of proof.json.

    `settings` is the digest of the run's settings. `structure` maps the name of each value of the state to its dtype
    and shape. `files` maps the name of each file of the state to its SHA-256.
    """

    step: int
    settings: str
    structure: dict[str, str]
    files: dict[str, str]
    progress: Progress


def settings_digest(config: Config) -> str:
    """The SHA-256 of the settings that `--resume` compares."""
    compared = {path: msgspec.to_builtins(value) for path, value, resume in leaves(config) if resume == "compare"}
    return digest([compared])


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def structure(tree: Any) -> dict[str, str]:
    """The dtype and shape of each leaf by its path, such as {"params/Conv_0/bias": "float32[32]"}."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in paths
    }


def file_digests(checkpoint: Path) -> dict[str, str]:
    """The SHA-256 of each file of a checkpoint's state.

    Raises:
        OSError: a file cannot be read.
    """
    found = {}
    for folder, folders, names in os.walk(checkpoint / "state"):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            with path.open("rb") as file:
                found[path.relative_to(checkpoint).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def encode(proof: Proof) -> bytes:
    """The bytes of proof.json: the proof and its digest."""
    content = msgspec.to_builtins(proof)
    return json.dumps({"sha256": digest(content), "proof": content}).encode()


def read_proof(checkpoint: Path) -> Proof:
    """The proof of a checkpoint. The other files are not read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    found = json.loads((checkpoint / FILE).read_bytes())
    proof = msgspec.convert(found, type=dict[str, Any])
    if proof.get("sha256") != digest(proof.get("proof")):
        raise ValueError(f"{FILE} was changed")
    return msgspec.convert(proof.get("proof"), Proof)


def damage(checkpoint: Path, settings: str) -> str | None:
    """The damage of a checkpoint of a run with these settings, in words; None if the checkpoint is valid.

    Raises:
        OSError: an existing file cannot be read, so the checkpoint may be valid.
    """
    try:
        proof = read_proof(checkpoint)
        found = file_digests(checkpoint)
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, RecursionError) as error:
        return str(error)
    for name in sorted(proof.files.keys() | found.keys()):
        if proof.files.get(name) != found.get(name):
            return f"{name} {'is missing' if name not in found else 'was changed'}"
    if proof.step != int(checkpoint.name):
        return f"it was saved after step {proof.step}"
    return None if proof.settings == settings else "it was saved by a run with other settings"


def list_steps(folder: Path) -> list[int]:
    """The steps of the complete checkpoints in a folder, in order."""
    names = (path.name for path in folder.glob("*") if path.is_dir())  # a link may lead nowhere
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]{0,17}", name))


def val_loss(checkpoint: Path) -> float:
    """The validation loss that was saved with a checkpoint; infinity if there is none. Raises as `read_proof`."""
    loss = read_proof(checkpoint).progress.val_loss
    return math.inf if loss is None else loss


def check_structure(path: Path, held: dict[str, str], expected: dict[str, str]) -> None:
    """Check that a checkpoint has the structure of a net and an optimizer.

    Raises:
        InputError: the structures differ.
    """
    for name in sorted(held.keys() | expected.keys()):
        was, is_now = held.get(name, "missing"), expected.get(name, "missing")
        if was != is_now:
            raise InputError(
                f"{path} is of another net or optimizer: {name} is {was}, but now it is {is_now}: give the net and the "
                "optimizer of the run, or train in another --workdir"
            )

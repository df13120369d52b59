"""The run directory. It belongs to the run that config.json describes, and to one process at a time."""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import msgspec

import jaxconv
from jaxconv.config import FORMAT, Config
from jaxconv.runs.resume import differences
from jaxconv.runtime.errors import InputError
from jaxconv.runtime.files import remove_parts, write_json
from jaxconv.runtime.machine import xla_threads

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint", "numpy", "opencv-python-headless", "pillow")
CONFIG, LOCK, REPORT = "config.json", ".lock", "report.html"  # tools.report writes the last
DIVISION = "split.json"  # of a run that divided a folder of classes by itself


def environment() -> dict[str, Any]:
    """The fields versions, commit and device of `Config`."""
    import jax

    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "commit": commit(),
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "cpus": os.cpu_count(),
            "threads": xla_threads(),
            "machine": platform.machine(),
        },
    }


def commit() -> str | None:
    """The Git commit of this package's source, with "+" if files differ from it; None outside a clone."""
    git = ["git", "-C", str(Path(jaxconv.__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD:./", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "."], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.split()[1] + ("+" if changed.stdout else "")


def entries(workdir: Path) -> set[str]:
    """The names in a run directory, without hidden files; no names if the directory does not exist yet.

    Raises:
        InputError: it is a file, or cannot be listed.
    """
    try:
        return {entry.name for entry in workdir.iterdir() if not entry.name.startswith(".")}
    except FileNotFoundError:
        return set()
    except NotADirectoryError as error:
        raise InputError(f"--workdir {workdir} is a file or lies in one: name a directory") from error
    except OSError as error:
        raise cannot_be_written(workdir, error) from error


@contextlib.contextmanager
def claim(workdir: Path, config: Config, *, resume: bool) -> Iterator[None]:
    """Lock the run directory for this process.

    Raises:
        InputError: the directory holds a run and `resume` is off, or it holds a run with other settings or other files,
            or another process uses it, or it cannot be written.
    """
    names = entries(workdir)
    if CONFIG not in names and names:
        raise InputError(f"--workdir {workdir} holds other files: name a new directory")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(workdir / LOCK).acquire(blocking=False)
    except filelock.Timeout as error:
        raise InputError(f"--workdir {workdir} is in use by another process: wait for it, or name another") from error
    except OSError as error:
        raise cannot_be_written(workdir, error) from error
    with lock:
        for folder in (workdir, workdir / "figures"):
            remove_parts(folder)
        if (workdir / CONFIG).exists():
            _check_same(workdir, read_config(workdir), config, resume=resume)
        elif resume:
            print(f"--resume: no run in {workdir} yet; starting a new one", flush=True)
        yield


def cannot_be_written(workdir: Path, error: OSError) -> InputError:
    """The error of a run directory that cannot be written."""
    reason = error.strerror or str(error)
    return InputError(f"--workdir {workdir} cannot be written ({reason}): fix this and add --resume, or choose another")


def write_config(workdir: Path, config: Config) -> None:
    """Write config.json completely or not at all."""
    write_json(workdir / CONFIG, msgspec.to_builtins(config))


def write_division(workdir: Path, splits: Mapping[str, Sequence[str]]) -> None:
    """Write split.json: the names of the pictures of each split, relative to the folder of pictures."""
    write_json(workdir / DIVISION, dict(splits))


def read_division(workdir: Path) -> dict[str, list[str]] | None:
    """Read split.json; None if there is none, because the folder of pictures was split before.

    Raises:
        InputError: it is damaged.
    """
    path = workdir / DIVISION
    try:
        return msgspec.convert(json.loads(path.read_bytes()), dict[str, list[str]]) if path.exists() else None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): train anew in another --workdir") from error


def read_config(workdir: Path) -> Config:
    """Read and check the settings of a run. Every field must be in the file, but those that are None may be missing.

    Raises:
        InputError: the file is missing, is not JSON, or has another format, or a field is wrong or missing; the message
            names the field.
    """
    path = workdir / CONFIG
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict) and (version := found.get("format", 1)) != FORMAT:
            raise InputError(
                f"{path} is of a run directory of format {version}, and this version of jaxconv reads format {FORMAT}: "
                "use the version that wrote it, or train anew in another --workdir"
            )
        config = msgspec.convert(found, Config)
        if (field := _first_difference(msgspec.to_builtins(config), found)) is not None:
            raise ValueError(f"Object missing required field or holding another value than was written - at `{field}`")
    except FileNotFoundError:
        seeds = sorted(config.parent for config in workdir.glob(f"seed*/{CONFIG}"))
        cure = f"use one of its seeds, such as {seeds[0]}" if seeds else "use one that was trained"
        raise InputError(f"{workdir} is not a run directory (no {CONFIG}): {cure}") from None
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, SystemError) as error:  # msgspec's, which for huge numbers is the last
        raise InputError(f"{path} is damaged ({error}): name another run, or train anew") from error
    return config


def _first_difference(expected: Any, found: Any, where: str = "$") -> str | None:
    """The path of the first field in which two trees of JSON differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        missing = [key for key in expected if key not in found and expected[key] is None]  # of an earlier version
        pairs = ((f"{where}.{key}", expected[key], found.get(key, ...)) for key in expected if key not in missing)
        return next((hit for path, a, b in pairs if (hit := _first_difference(a, b, path))), None)
    return None if (list(expected) if isinstance(expected, tuple) else expected) == found else where


def _check_same(workdir: Path, old: Config, new: Config, *, resume: bool) -> None:
    if differing := "; ".join(differences(old, new)):
        cure = "resume with the old settings and pictures, or choose another --workdir" if resume else "choose another"
        raise InputError(f"--workdir {workdir} holds a run with {differing}: {cure}")
    if not resume:
        cure = "add --resume (in Python, resume=True) to continue it, or choose another --workdir"
        raise InputError(f"--workdir {workdir} already contains this run: {cure}")
    was, is_now = old.device.get("threads"), new.device.get("threads")
    if old.device.get("platform") == new.device.get("platform") == "cpu" and was != is_now:
        print(
            f"the run had {was} threads and now has {is_now}: results can differ by rounding, but not with NPROC={was}",
            flush=True,
        )

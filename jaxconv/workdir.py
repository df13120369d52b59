"""The run directory: config.json says what made it; a directory belongs to one configuration."""

import contextlib
import errno
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from jaxconv.errors import InputError
from jaxconv.machine import xla_threads

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint", "numpy", "opencv-python-headless", "pillow")

# What may differ when a run is resumed, beside versions and device: where its pictures lie, how much longer it is to go
# on, and how often it is saved or written for TensorBoard.
MAY_CHANGE = ("data.path", "epochs", "checkpoint_every", "tensorboard")

CONFIG, LOCK = "config.json", ".lock"


def environment() -> dict[str, Any]:
    """The versions and the device that a run uses."""
    import jax

    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in PACKAGES},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "cpus": os.cpu_count(),
            "threads": xla_threads(),
            "machine": platform.machine(),
        },
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write the file whole or not at all."""
    if path.is_dir():  # "." has no name to write beside
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    part = path.with_suffix(".part")
    with naming(path):
        try:
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError in this context name the file, which those of writing do not by themselves."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def entries(workdir: Path) -> set[str]:
    """The names in a run directory; none where there is no such directory yet.

    Raises:
        InputError: it is a file, or closed.
    """
    try:
        return {entry.name for entry in workdir.iterdir()}
    except FileNotFoundError:
        return set()
    except NotADirectoryError as error:
        raise InputError(f"--workdir {workdir} is a file or lies in one: name a directory") from error
    except OSError as error:
        raise cannot_be_written(workdir, error) from error


@contextlib.contextmanager
def claim(workdir: Path, config: dict[str, Any], *, resume: bool) -> Iterator[None]:
    """Hold the run directory for this process alone: a new one, or that of a run with the same config.

    Raises:
        InputError: the directory holds something and `resume` is off, or it holds a run with another config, or
            another process holds it.
    """
    names = entries(workdir)
    if CONFIG not in names and names - {LOCK, "config.part"}:
        raise InputError(f"--workdir {workdir} holds other files: name a new directory")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(workdir / LOCK).acquire(blocking=False)
    except filelock.Timeout as error:
        raise InputError(f"--workdir {workdir} is in use by another process: wait for it, or name another") from error
    except OSError as error:
        raise cannot_be_written(workdir, error) from error
    with lock:
        if (workdir / CONFIG).exists():
            if not resume:
                raise InputError(
                    f"--workdir {workdir} holds a run: continue it with --resume, or name another directory"
                )
            old = read_config(workdir)
            _check_same(workdir, old, config)
            _warn_of_threads(old.get("device", {}), config.get("device", {}))
        elif resume:
            print(f"--resume: {workdir} holds no run yet, it begins now", flush=True)
        yield


def cannot_be_written(workdir: Path, error: OSError) -> InputError:
    """What to say of it."""
    reason = error.strerror or str(error)
    return InputError(f"--workdir {workdir} cannot be written ({reason}): set it right and --resume, or name another")


def read_config(workdir: Path) -> dict[str, Any]:
    """What config.json of a run says.

    Raises:
        InputError: it cannot be read.
    """
    try:
        config = json.loads((workdir / CONFIG).read_text())
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise InputError(f"{workdir / CONFIG} cannot be read ({error}): name a run, or train anew") from error
    return config


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots, values as JSON."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: json.dumps(value)}
    return flat


def _check_same(workdir: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    was, is_now = flatten(old), flatten(new)
    was = {key: "null" for key in is_now if is_now[key] == "null"} | was  # older runs lack what is new, and not set
    differences = [
        f"{key}={_short(was.get(key))}, but now it is {_short(is_now.get(key))}"
        for key in sorted(was.keys() | is_now.keys())
        if was.get(key) != is_now.get(key) and key not in MAY_CHANGE and not key.startswith(("versions.", "device."))
    ]
    if isinstance(old.get("epochs"), int) and new["epochs"] < old["epochs"]:
        differences.append(f"epochs={old['epochs']}, but now it is {new['epochs']}, and a run is only made longer")
    if differences:
        raise InputError(
            f"--resume: the run in {workdir} has {'; '.join(differences)}: resume with the old settings and pictures, "
            "or name another --workdir"
        )


def _short(value: str | None) -> str:
    """A fingerprint by its beginning."""
    return "missing" if value is None else value if len(value) <= 40 else f"{value[:12]}..."


def _warn_of_threads(old: dict[str, Any], new: dict[str, Any]) -> None:
    was, is_now = old.get("threads"), new.get("threads")
    if old.get("platform") == new.get("platform") == "cpu" and was != is_now:
        print(
            f"the run had {was} threads and has {is_now} now: it goes on to rounding, with NPROC={was} to the bit",
            flush=True,
        )

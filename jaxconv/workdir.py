"""The run directory: config.json says what made it; a directory belongs to one configuration."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

from jaxconv.errors import InputError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "orbax-checkpoint", "numpy", "opencv-python-headless", "pillow")

# What may differ when a run is resumed: where it runs, where its pictures lie, and how much longer it is to go on.
MAY_CHANGE = ("versions.", "device.", "data.path", "epochs")


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
            "machine": platform.machine(),
        },
    }


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n")
    part.replace(path)


def claim(workdir: Path, config: dict[str, Any], *, resume: bool) -> None:
    """Make the run directory, or check that the one to resume was made by the same config; writes config.json.

    Raises:
        InputError: the directory holds something and `resume` is off, or it holds a run with another config.
    """
    path = workdir / "config.json"
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir {workdir} is a file: name a directory")
    if path.exists():
        if not resume:
            raise InputError(f"--workdir {workdir} holds a run: continue it with --resume, or name another directory")
        _check_same(workdir, json.loads(path.read_text()), config)
    elif workdir.exists() and any(workdir.iterdir()):
        raise InputError(f"--workdir {workdir} holds other files: name a new directory")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, config)
    except OSError as error:
        raise InputError(f"--workdir {workdir} cannot be written ({error.strerror}): name another directory") from error


def _check_same(workdir: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    if new["epochs"] < old["epochs"]:
        raise InputError(
            f"--resume: the run in {workdir} is one of {old['epochs']} epochs: --epochs can make it longer, not shorter"
        )
    was, is_now = _flatten(old), _flatten(new)
    for key in sorted(was.keys() | is_now.keys()):
        if not key.startswith(MAY_CHANGE) and was.get(key) != is_now.get(key):
            raise InputError(
                f"--resume: the run in {workdir} has {key}={was.get(key)}, but now it is {is_now.get(key)}: "
                "resume with the old setting, or name another --workdir"
            )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots, values as JSON."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: json.dumps(value)}
    return flat

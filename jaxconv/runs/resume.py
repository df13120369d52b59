"""Which settings `--resume` compares, and how two runs differ in them."""

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from msgspec import Meta, Struct

from jaxconv.config import Config
from jaxconv.runtime.errors import short


def leaves(setting: Any, prefix: str = "", resume: str = "compare") -> Iterator[tuple[str, Any, str]]:
    """Yield (path, value, resume rule) for each setting.

    Such as ("data.path", None, "informational"). The rules are "compare", "may change" and "informational".
    """
    if isinstance(setting, Struct):
        hints = get_type_hints(type(setting), include_extras=True)
        parts = [(name, getattr(setting, name), _resume(hints[name]) or resume) for name in hints]
    elif isinstance(setting, dict):
        parts = [(name, value, resume) for name, value in setting.items()]
    else:
        yield prefix, setting, resume
        return
    for name, value, how in parts:
        yield from leaves(value, f"{prefix}.{name}" if prefix else name, how)


def differences(old: Config, new: Config) -> list[str]:
    """Why a run with the settings `old` cannot be resumed with `new`: one line for each difference."""
    was, is_now = ({path: (value, how) for path, value, how in leaves(config)} for config in (old, new))
    paths, lines = was.keys() | is_now.keys(), []
    wholes = {path for path in paths if any(other.startswith(f"{path}.") for other in paths)}  # null in one of the two
    for path in sorted(paths):
        absent = ("set" if path in wholes else "missing", "compare")
        (before, how), (after, also) = was.get(path, absent), is_now.get(path, absent)
        if before != after and how == also == "compare" and path.rpartition(".")[0] not in wholes:
            lines.append(f"{path}={short(before)}, but now it is {short(after)}")
    epochs = [config.training.epochs for config in (old, new) if config.training]
    if len(epochs) == 2 and epochs[1] < epochs[0]:
        lines.append(f"training.epochs={epochs[0]}, but now it is {epochs[1]}, and a run is only made longer")
    elif len(set(epochs)) == 2 and new.training and new.training.schedule == "cosine":
        lines.append(f"training.epochs={epochs[0]}, over which its learning rate falls, but now it is {epochs[1]}")
    return lines


def _resume(kind: Any) -> str | None:
    return next((part.extra["resume"] for part in get_args(kind) if isinstance(part, Meta) and part.extra), None)

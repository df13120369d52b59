"""`--help` and wrong flags are answered at once."""

import subprocess
import sys
from pathlib import Path

import pytest

import tools

FOLDER = Path(tools.__file__).parent
COMMANDS = sorted(path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text())
# Each of these takes a tenth of a second or more, or may not be installed.
HEAVY = {"jax", "flax", "optax", "grain", "orbax", "numpy", "scipy", "matplotlib", "PIL", "cv2", "jinja2", "h5py"}
HEAVY |= {"tensorflow_datasets", "tensorboardX", "requests", "tqdm", "experiments"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_heavy(name):
    code = f"""
import contextlib, sys
from tools import {name} as command
with contextlib.suppress(SystemExit):
    command.main(["--help"])
print()
print(*sorted({HEAVY} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    *said, heavy = done.stdout.splitlines()
    assert said[0].startswith(f"usage: python -m tools.{name} ")
    assert heavy == ""

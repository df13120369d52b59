"""In processes of their own, as JAX's settings last as long as a process does."""

import os
import subprocess
import sys
from pathlib import Path

CODE = "import jax, jaxconv.compilation as c; print(c.use_cache()); jax.jit(lambda x: x + 1)(1.0)"


def run(tmp_path: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], env=kept | environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_programs_are_kept_in_the_user_s_cache_folder(tmp_path: Path) -> None:
    folder = Path(run(tmp_path))
    if sys.platform == "linux":
        assert folder == tmp_path / "jaxconv" / "compiled"
    assert [path.name for path in folder.iterdir() if path.name.startswith("jit__lambda-")]


def test_jax_s_own_settings_move_it_and_turn_it_off(tmp_path: Path) -> None:
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")
    assert any((tmp_path / "mine").iterdir())
    assert run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false") == "None"
    assert not (tmp_path / "jaxconv").exists()

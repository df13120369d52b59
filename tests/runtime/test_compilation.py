"""In processes of their own, as JAX's settings last as long as a process does."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jaxconv
from jaxconv.runtime import compilation

NAME = next(iter(compilation.CPU_OPTIONS))
CODE = "import jax, jaxconv.runtime.compilation as c; print(c.use_cache()); jax.jit(lambda x: x + 1)(1.0)"


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


def test_this_jaxlib_knows_the_options_of_a_cpu():
    """They are experimental: when a new jaxlib drops them, look for its others (tools/benchmarks/README.md)."""
    assert compilation.compiler_options() == compilation.CPU_OPTIONS


@pytest.mark.parametrize("options", [{"xla_cpu_no_such_option": "1"}, {**compilation.CPU_OPTIONS, NAME: "NONSENSE"}])
def test_options_that_jaxlib_does_not_know_are_left_out_with_one_warning(options, monkeypatch):
    monkeypatch.setattr(compilation, "CPU_OPTIONS", options)
    compilation.compiler_options.cache_clear()
    try:
        with pytest.warns(UserWarning, match="refuses jaxconv's compiler options, .* about half the speed") as warned:
            assert compilation.jit(lambda x: x + 1)(1.0) == compilation.jit(lambda x: x + 1)(1.0) == 2.0
        assert len(warned) == 1
    finally:
        compilation.compiler_options.cache_clear()


def test_other_backends_have_no_options(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert compilation.compiler_options.__wrapped__() == {}


@pytest.mark.parametrize(
    "command",
    [
        ["experiments.catsdogs", "--epochs", "1", "--data"],
        ["tools.predict", "run", "picture.png"],
    ],
)
def test_a_platform_that_is_not_there_is_one_line(command, photos, tmp_path):
    command = [*command, str(photos)] if command[-1] == "--data" else command
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "PYTHONPATH": str(Path(jaxconv.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: JAX finds no device (")
    assert done.stderr.endswith("): JAX_PLATFORMS is cuda; leave it out, or set it to cpu\n")
    assert not list(tmp_path.iterdir())


def test_importing_the_library_starts_no_backend():
    """`jax.distributed` and the settings of memory must come before it."""
    package = Path(jaxconv.__file__).parent
    paths = [path.relative_to(package.parent).with_suffix("") for path in package.rglob("*.py")]
    modules = ", ".join(".".join(path.parts).removesuffix(".__init__") for path in paths)
    code = f"import {modules}; from jax._src import xla_bridge as b; print(b._backends)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"

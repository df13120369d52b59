"""Data runs one way: a folder imports only from the folders before it, and a module only from modules before it."""

import ast
import subprocess
import sys
from pathlib import Path

import jaxconv

ROOT = Path(jaxconv.__file__).parent.parent
ORDER = {  # the folders of the package in the order of the flow, and in each its modules
    "runtime": ["errors", "seeds", "files", "machine", "compilation", "sharding", "signals", "progress", "cli"],
    "config": [],
    "data": [
        "images",
        "folders",
        "classes",
        "layout",
        "records",
        "arrays",
        "downloads",
        "mnist",
        "demo_drawing",
        "demo",
        "augment",
        "batches",
        "similarity",
        "checks",
        "splits",
    ],
    "models": ["layers", "convnets", "efficientnet", "torch_files", "pretrained", "summary", "registry", "weights"],
    "training": ["losses", "state", "optimizers", "steps", "feed", "linear_head"],
    "runs": ["resume", "directory", "settings", "history", "proof", "checkpoints", "variables", "figures", "writer"],
    "loop": [],
    "transfer": [],
    "analysis": [
        "predictor",
        "scores",
        "evaluation",
        "interpret",
        "interpret_figures",
        "titles",
        "comparison",
        "image_audit",
    ],
}
MODULES = [f"{folder}.{module}" if module else folder for folder, names in ORDER.items() for module in names or [""]]


def imported(path: Path) -> set[str]:
    """The dotted names that a file imports, anywhere in it; of `from a import b` both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def test_every_module_has_its_place_and_its_test():
    package = Path(jaxconv.__file__).parent
    paths = {path.relative_to(package) for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert {".".join(path.with_suffix("").parts) for path in paths} == set(MODULES)
    for path in paths - {Path("runtime/errors.py")}:
        assert (ROOT / "tests" / path.with_name(f"test_{path.name}")).exists(), path
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert folders == {folder for folder, names in ORDER.items() if names}


def test_imports_go_one_way():
    for index, module in enumerate(MODULES):
        path = Path(jaxconv.__file__).parent / f"{module.replace('.', '/')}.py"
        later = {f"jaxconv.{name}" for name in MODULES[index:]}
        assert not imported(path) & later, module
        assert not {name.partition(".")[0] for name in imported(path)} & {"tools", "experiments", "tests"}, module


def test_tools_and_experiments_do_not_import_one_another():
    for folder, other in (("tools", "experiments"), ("experiments", "tools")):
        for path in (ROOT / folder).rglob("*.py"):
            assert other not in {name.partition(".")[0] for name in imported(path)}, path


def test_only_the_command_line_s_module_parses_arguments():
    for path in Path(jaxconv.__file__).parent.rglob("*.py"):
        assert "argparse" not in imported(path) or path.name == "cli.py", path


def test_no_module_of_the_library_is_long():
    for path in Path(jaxconv.__file__).parent.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 200, path


def commands() -> list[str]:
    """Every module of tools and experiments that is a command."""
    paths = [*(ROOT / "tools").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    found = [path.relative_to(ROOT).with_suffix("") for path in paths if "__main__" in path.read_text()]
    return sorted(".".join(path.parts) for path in found)


def test_help_and_wrong_flags_wait_for_no_heavy_import(tmp_path):
    """All commands in one interpreter, from a folder of its own."""
    skipped = {"tools.benchmarks.workers"}  # which is no command of a user
    code = f"""
import contextlib, importlib, io, sys
sys.argv = ["command"]
for name in {[name for name in commands() if name not in skipped]}:
    main = importlib.import_module(name).main
    for flag, code in (("--help", 0), ("--no-such-flag", 2)):
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                main([flag])
        except SystemExit as stop:
            assert stop.code == code, (name, flag, stop.code)
        else:
            raise AssertionError((name, flag))
        if code == 0:
            assert f"python -m {{name}}" in said.getvalue(), name
        else:
            assert said.getvalue().startswith("error: ") and said.getvalue().count(chr(10)) == 1, name
heavy = {{"jax", "flax", "grain", "matplotlib", "cv2"}} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT)})

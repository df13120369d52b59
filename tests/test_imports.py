"""Data runs one way: a module imports only from its left in the flow."""

import ast
from pathlib import Path

import jaxconv

LEAVES = ["errors", "downloads", "compilation", "machine", "seeds", "config", "workdir", "devices", "interrupts"]
FLOW = [
    "drawings",
    "demo",
    "records",
    "mnist",
    "augment",
    "batches",
    "layers",
    "models",
    "summary",
    "train_step",
    "plateau",
    "metrics",
    "tensorboard",
    "scores",
]
ORDER = [
    *FLOW,
    "streaming",
    "checkpoints",
    "trained",
    "insight",
    "figures",
    "insight_figures",
    "runs",
    "fit",
]
FOLDER = Path(jaxconv.__file__).parent


def imported(path: Path) -> set[str]:
    """The modules of jaxconv that a file imports, anywhere in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "jaxconv":
            modules |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxconv."):
            modules.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            modules |= {name.name.split(".")[1] for name in node.names if name.name.startswith("jaxconv.")}
    return modules


def test_every_module_has_its_place_and_its_test():
    modules = {path.stem for path in FOLDER.glob("*.py")} - {"__init__"}
    assert modules == {*LEAVES, *ORDER}
    assert {f"test_{module}.py" for module in modules} <= {path.name for path in Path(__file__).parent.iterdir()}


def test_imports_go_to_the_left():
    for module in ORDER:
        right = set(ORDER[ORDER.index(module) :])
        assert not imported(FOLDER / f"{module}.py") & right, module
    for index, leaf in enumerate(LEAVES):
        assert imported(FOLDER / f"{leaf}.py") <= set(LEAVES[:index]), leaf


def test_only_commands_parse_arguments():
    for path in FOLDER.glob("*.py"):
        assert "argparse" not in path.read_text(), path

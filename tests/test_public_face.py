"""What a notebook needs: `import jaxconv as jc`, and the example of its docstring."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import jaxconv as jc
from jaxconv.data import demo

EXAMPLE = textwrap.dedent(jc.__doc__.partition("\n\n")[2].partition("\n\nThe folders")[0])


def test_a_dozen_names_and_no_others():
    assert 10 <= len(jc.__all__) <= 16
    assert all(hasattr(jc, name) for name in jc.__all__)
    assert dir(jc) == jc.__all__
    with pytest.raises(AttributeError, match="module 'jaxconv' has no attribute 'Nothing'"):
        _ = jc.Nothing


def test_the_example_stands_in_the_readme():
    readme = Path(jc.__file__).parents[1] / "README.md"
    assert EXAMPLE.strip() in readme.read_text()


def test_the_example_runs(tmp_path):
    """As it stands, but for numbers that make it short, in a process of its own without the tests' settings."""
    demo.write(tmp_path / "photos", {"train": 8, "validation": 3, "test": 3})
    os.link(tmp_path / "photos/test/cats/cat.0.jpg", tmp_path / "cat.jpg")
    short = EXAMPLE.replace("image_size=150", "image_size=48").replace("epochs=30", "epochs=1, steps_per_epoch=2")
    assert short != EXAMPLE
    done = subprocess.run([sys.executable, "-c", short], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^0\.\d+\n\[Prediction\(path='cat.jpg', class_name='\w+', probability=0\.\d+\)\]$", done.stdout, re.M
    )
    names = {path.name for path in (tmp_path / "runs/mine").iterdir()} - {".lock"}
    assert names == {"config.json", "metrics.jsonl", "result.json", "checkpoints", "figures"}


def test_importing_it_changes_nothing_of_the_process():
    code = "import sys, signal, warnings; before = (warnings.filters[:], sys.unraisablehook, signal.getsignal(2));"
    code += "import jaxconv; assert not {'jax', 'flax', 'numpy', 'grain'} & sys.modules.keys();"
    code += "jaxconv.fit, jaxconv.Predictor, jaxconv.read_splits;"
    code += "assert before[1:] == (sys.unraisablehook, signal.getsignal(2))"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Strict arithmetic, checked annotations, and tiny data for all tests."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Several tests compile the same programs, in processes of their own too, and pytest's own workers start with this.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jaxconv-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # Tiny nets take longer to compile than to train: this saves a quarter of the suite's time.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook
from PIL import Image

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook("jaxconv", "beartype.beartype")

from jaxconv.runs.writer import RunWriter  # noqa: E402
from jaxconv.runtime import machine  # noqa: E402 (after the hook, which is to see it)

# Commands run in the tests' own processes, whose memory it would keep; runtime/test_machine.py tries it in others.
machine.keep_freed_memory = lambda: False


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A tiny data set: train 6, validation 5, test 3 pictures, cats dark and dogs bright, of several sizes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in {"train": 6, "validation": 5, "test": 3}.items():
        for number in range(count):
            kind = ("cat", "dog")[number % 2]
            image = rng.integers(0, 128, (160 + number, 140, 3), dtype=np.uint8) + np.uint8(127 * (kind == "dog"))
            path = root / split / f"{kind}s" / f"{kind}.{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    return root


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs whose figures nobody looks at: they would take longer than the training."""
    monkeypatch.setattr(RunWriter, "draw_curves", lambda *_: None)
    monkeypatch.setattr(RunWriter, "write_final_figures", lambda *_: None)

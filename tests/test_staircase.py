"""The rungs of tools.benchmarks.staircase compute the same; only their speed differs."""

import jax
import numpy as np
import pytest

from tools.benchmarks import staircase


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(staircase, "SHAPES", {"chapter": (4, 46, 46, 3), "residual": (4, 24, 24, 3)})


def trained(name):
    """The norm of the weights after two steps, and the logits of a batch."""
    worker = staircase.Worker(name)
    for _ in range(2):
        worker.train()
    worker.infer()
    params, collections, *_ = worker._state
    norm = float(np.sqrt(sum((np.asarray(leaf) ** 2).sum() for leaf in jax.tree.leaves(params))))
    return norm, sorted(collections), {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(params)}


@pytest.mark.parametrize("names", [["option", "pool"], ["residual", "residual-option"]])
def test_rungs_of_one_net_train_to_the_same_weights(names):
    (first, collections, leaves), (second, *_) = map(trained, names)
    assert first == pytest.approx(second, rel=1e-5)
    assert collections == (["batch_stats"] if "residual" in names[0] else [])
    assert {"kernel", "bias"} <= leaves


def test_the_last_rung_is_the_net_of_the_package():
    """Its kernels begin otherwise than Flax's, hence it is compared by shapes."""
    norm, *_ = trained("conv")
    assert norm > 0
    net = staircase.build(staircase.RUNGS["conv"])
    params = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), np.zeros((1, 150, 150, 3), "f"))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 3_453_121


@pytest.mark.campaign
def test_the_rungs_are_timed_in_turns(capsys):
    staircase.main(["--rounds", "1", "--only", "option", "residual-memory"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| + compiler option", "| the same + freed memory kept"]
    assert all(cell.count("best") == 1 for line in lines[2:4] for cell in line.split(" | ")[1:3])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--rounds", "0"], "error: --rounds is 0: give a whole number above 0\n"),
        (["--only", "magic"], "error: argument --only: invalid choice: 'magic'"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        staircase.main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(message)

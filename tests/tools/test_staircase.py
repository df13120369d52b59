"""The stages of tools.benchmarks.staircase compute the same; only their speed differs."""

import jax
import numpy as np
import pytest

from jaxconv.models import CatsDogsConvNet
from tools.benchmarks import staircase


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(staircase, "SHAPES", {"chapter": (4, 46, 46, 3), "residual": (4, 24, 24, 3)})


def losses(name, steps=3):
    worker = staircase.Worker(name, learning_rate=1e-2)
    worker.infer()
    return [worker.train() for _ in range(steps)]


@pytest.mark.parametrize(
    "names", [["option", "pool"], pytest.param(["residual", "residual-option"], marks=pytest.mark.campaign)]
)
def test_stages_of_one_net_have_the_same_losses(names):
    first, second = map(losses, names)
    assert first == pytest.approx(second, rel=1e-4)
    assert len({round(loss, 3) for loss in first}) == 3  # the weights move


def test_the_last_stage_is_the_net_of_the_package():
    def shapes(net):
        variables = jax.eval_shape(
            lambda x: net.init(jax.random.key(0), x, train=False), np.zeros((1, 150, 150, 3), "f")
        )
        return jax.tree.map(lambda leaf: leaf.shape, variables)

    assert shapes(staircase.build(staircase.STAGES["conv"])) == shapes(CatsDogsConvNet(dropout=0.5))


@pytest.mark.campaign
def test_the_stages_are_timed_in_turns(capsys):
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

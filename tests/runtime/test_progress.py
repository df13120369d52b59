import sys

import pytest

from jaxconv.runtime import progress
from jaxconv.runtime.progress import StepProgress, duration


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def run(clock, steps, seconds_a_step, total):
    reporter = StepProgress(0, total, 100)
    for step in range(1, steps + 1):
        clock[0] += 60 if step == 1 else seconds_a_step  # the first step is compiled
        reporter.done(step, 0.5)
    reporter.end()


def test_the_time_to_expect_is_said_once_without_that_of_compiling(clock, capsys):
    run(clock, 9, 1.0, 3000)
    assert "2,994 steps to go, about 50 min and the validations\n" in capsys.readouterr().out


def test_nothing_is_said_of_a_run_that_is_over_soon(clock, capsys):
    clock[0] = 0.0
    run(clock, 9, 1.0, 12)
    assert "steps to go" not in capsys.readouterr().out


def test_without_a_terminal_there_is_a_line_every_half_minute(clock, capsys):
    run(clock, 90, 1.0, 3000)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert lines == [
        "epoch 1: step 1 of 100, loss 0.5000",
        "epoch 1: step 31 of 100, loss 0.5000",
        "epoch 1: step 61 of 100, loss 0.5000",
    ]


def test_on_a_terminal_there_is_a_bar_and_no_line(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(clock, 90, 1.0, 3000)
    said = capsys.readouterr()
    assert "epoch 1: step" not in said.out
    assert "epoch 1" in said.err and "/100" in said.err


@pytest.mark.parametrize(
    "seconds, said", [(5.0, "5 s"), (89.0, "89 s"), (100.0, "2 min"), (5000.0, "83 min"), (9000.0, "2.5 h")]
)
def test_durations_as_people_say_them(seconds, said):
    assert duration(seconds) == said

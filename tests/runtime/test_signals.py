import os
import signal
import threading

import pytest

from jaxconv.runtime.errors import Stopped
from jaxconv.runtime.signals import Interrupts


@pytest.fixture(autouse=True)
def handlers():
    """Those of a process in the foreground; pytest may itself run where interrupts are ignored."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, name, code", [(signal.SIGINT, "SIGINT", 130), (signal.SIGTERM, "SIGTERM", 143)])
def test_a_signal_is_recorded_and_raised_when_asked(number, name, code):
    with Interrupts() as interrupts:
        interrupts.raise_if_requested("nothing")
        assert not interrupts.requested()
        os.kill(os.getpid(), number)
        assert interrupts.requested()
        with pytest.raises(Stopped, match=f"{name}: all is saved") as stopped:
            interrupts.raise_if_requested("all is saved")
    assert stopped.value.exit_code == code
    assert isinstance(stopped.value, KeyboardInterrupt)  # which notebooks know


def test_a_second_signal_is_heard_at_once():
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_as_before_afterwards():
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != signal.default_int_handler
    assert {signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} == {signal.default_int_handler}


def test_what_is_ignored_stays_ignored():
    """As in a job that a shell runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.requested()


def test_other_threads_hear_no_signals():
    noted = []

    def work():
        with Interrupts() as interrupts:
            noted.append(interrupts.requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert noted == [False]

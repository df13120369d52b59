import signal
import subprocess
import sys

import pytest

from jaxconv.runtime.cli import one_line_errors
from jaxconv.runtime.errors import InputError, Stopped


def test_an_input_error_is_one_line_and_exit_code_2(capsys):
    @one_line_errors
    def main() -> None:
        raise InputError("--flag is wrong: mend it")

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", "error: --flag is wrong: mend it\n")


def test_other_errors_are_left_alone():
    @one_line_errors
    def main() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        main()


@pytest.mark.parametrize(
    "error, code, line",
    [
        (Stopped(signal.SIGTERM, "all is saved"), 143, "SIGTERM: all is saved\n"),
        (Stopped(signal.SIGINT, "all is saved"), 130, "SIGINT: all is saved\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_interrupt_is_one_line_and_a_shell_s_exit_code(error, code, line, capsys):
    @one_line_errors
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    assert capsys.readouterr() == ("", line)


def test_a_closed_pipe_is_no_complaint():
    """Neither where the command prints nor where what it printed is flushed."""
    for ending in ("", "; print('more' * 100_000)", "; sys.exit(1)"):
        code = f"import sys; from jaxconv.runtime.cli import one_line_errors\ndef main(): print('a line'){ending}\n"
        command = [sys.executable, "-c", f"{code}one_line_errors(main)()"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141

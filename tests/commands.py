"""How commands end at bad input."""

from collections.abc import Callable

import pytest


def fails(main: Callable, capsys: pytest.CaptureFixture, *arguments: object) -> str:
    """The one line of a command that ends with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error

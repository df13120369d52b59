import pytest

from jaxconv.errors import InputError, one_line_errors


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

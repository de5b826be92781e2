"""What tests share about options that a command refuses."""

import pytest


def refused(capsys, command, *arguments):
    """Call a command that is to refuse its options; gives the one line that it prints."""
    with pytest.raises(SystemExit) as stopped:
        command(*arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error

"""The command `tollens`, run in this process, so that planted faults reach it."""

import sys
import traceback
from collections.abc import Callable

import pytest

from falsifiers.ran import Ran
from tollens import cli


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """Call it with the arguments after `tollens`."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["tollens", *map(str, arguments)])
        capsys.readouterr()
        code = exit_code()
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run


def exit_code() -> int:
    """How `tollens` ends; 70 with a traceback on stderr where the interpreter would print one."""
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception:
        traceback.print_exc()
        return 70
    return 0


tollens = command  # its name where several commands are spoken of

"""The command `tollens`, run in this process, so that planted faults reach it."""

import sys
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
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0

"""The engine's command line, run in this process, so that planted faults reach it."""

import sys

import pytest

from engine import cli
from falsifiers.ran import Ran


class Command:
    """Call it with the arguments after `python -m engine`."""

    def __init__(self, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: object) -> Ran:
        self._monkeypatch.setattr(sys, "argv", ["engine", *map(str, arguments)])
        self._capsys.readouterr()
        code = exit_code()
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)


def exit_code() -> int:
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0

"""The judged samples of a run in a file of JSON lines, which an interrupted run goes on with.

Knows rows; knows nothing of models or sandboxes. The first line says what the run is: a file of
another run is refused, not mixed. Each row is written when it is known; one that was cut off by a
crash is dropped.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engine.errors import FormatError
from engine.evaluation.problems import parse


@dataclass(frozen=True)
class Row:
    """One completion and its verdict."""

    task_id: str
    sample: int
    completion: str
    passed: bool
    reason: str
    seconds: float | None


class Ledger:
    """The rows so far, by problem and sample; without a path they are only remembered."""

    def __init__(self, path: Path | None, run: Mapping[str, Any]) -> None:
        self.rows: dict[tuple[str, int], Row] = {}
        self._path, self._run = path, dict(run)
        if path is not None:
            self._open(path)

    def add(self, row: Row) -> None:
        self.rows[row.task_id, row.sample] = row
        if self._path is not None:
            self._write(self._path, "a", [asdict(row)])

    def _open(self, path: Path) -> None:
        try:
            lines = path.read_text("utf-8").split("\n") if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: found {error}, expected JSON lines") from error
        whole = lines[:-1]  # what follows the last line's end was cut off
        if not whole:
            self._write(path, "w", [{"run": self._run}])
            return
        where = f"{path}, line 1"
        require_same_run(where, self._run, parse(where, whole[0]).get("run"))
        for number, line in enumerate(whole[1:], start=2):
            row = _row(f"{path}, line {number}", line)
            self.rows[row.task_id, row.sample] = row
        if lines[-1]:
            os.truncate(path, path.stat().st_size - len(lines[-1].encode()))

    def _write(self, path: Path, mode: str, lines: list[Mapping[str, Any]]) -> None:
        text = "".join(json.dumps(each) + "\n" for each in lines)
        try:
            with path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise FormatError(f"{path}: found {error}, expected to write there") from error


def require_same_run(where: str, here: Mapping[str, Any], there: object) -> None:
    """Refuse what another run has written; `there` is what it says of its run."""
    if not isinstance(there, dict):
        raise FormatError(f"{where}: found no run, expected what an earlier one wrote")
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            raise FormatError(
                f"{where}: found {name} {there.get(name)!r:.80}, expected {here.get(name)!r:.80}"
                " as in this run; choose another --out"
            )


def _row(where: str, line: str) -> Row:
    found = parse(where, line)
    expected = {each.name for each in fields(Row)}
    if found.keys() != expected or type(found["passed"]) is not bool:
        raise FormatError(f"{where}: found {line!r:.60}, expected a judged sample")
    return Row(**found)

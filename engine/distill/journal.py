"""What a run writes down: `dispatch.json` before it starts, a line of `metrics.jsonl` a step.

Knows files of JSON; knows nothing of how the numbers came about.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import EngineError, FormatError
from engine.safetensors import read_json

DISPATCH, METRICS = "dispatch.json", "metrics.jsonl"


def write_dispatch(run: Path, dispatch: Mapping[str, Any]) -> None:
    """Everything that the run is a function of, for a reader and for `--resume`."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        partial = run / f".{DISPATCH}.partial"
        partial.write_text(json.dumps(dispatch, indent=2, ensure_ascii=False) + "\n", "utf-8")
        os.replace(partial, run / DISPATCH)
    except OSError as error:
        raise EngineError(f"{run}: found {error.strerror}, expected to write there") from error


def read_dispatch(run: Path) -> dict[str, Any]:
    """What `write_dispatch` wrote; `FormatError` where there is no run."""
    return read_json(run / DISPATCH)


class Journal:
    """Appends lines to `metrics.jsonl`, after those up to `step`: later ones were never saved."""

    def __init__(self, run: Path, step: int = 0) -> None:
        self._path = run / METRICS
        kept = [row for row in read_metrics(run) if row["step"] <= step] if step else []
        try:
            run.mkdir(parents=True, exist_ok=True)
            partial = run / f".{METRICS}.partial"
            partial.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
            os.replace(partial, self._path)
            self._file = self._path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise EngineError(
                f"{self._path}: found {error.strerror}, expected to write there"
            ) from error

    def write(self, row: Mapping[str, Any]) -> None:
        """One line; whoever follows the file sees it at once."""
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        self._file.close()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run so far; a last line that was cut off is none."""
    return list(_rows(run / METRICS))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text("utf-8").splitlines(keepends=True)
    except OSError as error:
        raise FormatError(f"{path}: found {error.strerror}, expected a run's metrics") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                return
            raise FormatError(f"{path}:{number}: found {error}, expected a line of JSON") from error
        yield row

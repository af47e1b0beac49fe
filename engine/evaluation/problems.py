"""HumanEval's problems, from its JSON lines; knows their fields and runs nothing of them."""

import gzip
import json
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import FormatError
from engine.evaluation.sandbox import Trial

FIELDS = ("task_id", "prompt", "entry_point", "test")


@dataclass(frozen=True)
class Problem:
    """A function to complete. `prompt` is its beginning, `test` defines `check(candidate)`."""

    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str = ""

    def trial(self, completion: str) -> Trial:
        """What the sandbox is to judge."""
        return Trial(self.prompt + completion, self.entry_point, self.prompt, self.test)


def read_problems(path: Path) -> list[Problem]:
    """All of a file, gzipped or not; `FormatError` names the line of a bad one."""
    found: dict[str, Problem] = {}
    for where, row in read_lines(path):
        problem = _problem(where, row)
        if problem.task_id in found:
            raise FormatError(f"{where}: found {problem.task_id} again, expected each once")
        found[problem.task_id] = problem
    if not found:
        raise FormatError(f"{path}: found no line, expected problems")
    return list(found.values())


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each JSON object of a file, with the place to name it by; empty lines do not count."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: found {error}, expected JSON lines, gzipped or not") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, parse(where, line)


def parse(where: str, line: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: found no JSON ({error}), expected an object") from error
    if not isinstance(row, dict):
        raise FormatError(f"{where}: found {line!r:.40}, expected an object")
    return row


def _problem(where: str, row: dict[str, Any]) -> Problem:
    unknown = row.keys() - {*FIELDS, "canonical_solution"}
    if unknown:
        raise FormatError(f"{where}: found {min(unknown)!r:.40}, expected {', '.join(FIELDS)}")
    for name in (*FIELDS, "canonical_solution"):
        if not isinstance(row.get(name, None if name in FIELDS else ""), str):
            raise FormatError(f"{where}: found {row.get(name)!r:.40}, expected a text as {name!r}")
    problem = Problem(**row)
    for name in ("prompt", "test"):
        require_python(where, name, getattr(problem, name))
    if "def check(" not in problem.test:
        raise FormatError(f"{where}: found no check in 'test', expected `def check(candidate)`")
    if not problem.entry_point.isidentifier():
        raise FormatError(f"{where}: found {problem.entry_point!r:.40}, expected a name to call")
    return problem


def require_python(where: str, name: str, text: str) -> None:
    """Refuse what does not compile by itself; nothing of it runs."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes in somebody else's docstrings
            compile(text, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormatError(
            f"{where}: found {error} in {name!r}, expected Python that compiles by itself"
        ) from error

"""What the commands share: options, how they print, and the contracts that they are given."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tollens.errors import ProjectError
from tollens.project import Project, contract_paths, find_project, resolve


class Format(StrEnum):
    TEXT = "text"
    JSON = "json"


AsFormat = Annotated[Format, typer.Option("--format", help="text for people, json for programs")]
Paths = Annotated[
    list[Path] | None, typer.Argument(help="contracts or folders; the project's if omitted")
]


def fail(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    raise SystemExit(code)


def print_lines(lines: Iterable[str]) -> None:
    text = "\n".join(lines)
    if text:
        typer.echo(text)


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector's passes over thousands of contracts, which live to the end anyway."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def print_json(value: Any) -> None:
    typer.echo(json_text(value))


def json_text(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, default=str)


def write_text(path: Path, text: str) -> None:
    """Write what was asked for. Raises ProjectError where the path cannot be written."""
    try:
        path.write_bytes(text.encode())
    except OSError as error:
        raise ProjectError(f"{path}: {error.strerror}; expected a file to write") from error


def given_contracts(paths: list[Path] | None) -> tuple[Project, list[Path]]:
    """The project of what is given, and its contract files; all of the project's if none are."""
    project = find_project((paths[0] if paths else Path.cwd()).absolute())
    return project, contract_paths(paths or [project.root / project.contracts])


def evidence_paths(project: Project, paths: list[Path] | None) -> list[Path]:
    """The evidence files that are named by files and folders; the project's own if none are."""
    found: dict[Path, None] = {}
    for path in paths or [project.root / project.evidence]:
        files = [path] if path.is_file() else sorted(path.rglob("evidence.json"))
        if not files:
            do = "record some with `pytest --contract contracts`"
            raise ProjectError(f"{path}: no evidence there; expected a file or folder; {do}")
        found |= dict.fromkeys(map(resolve, files))
    return list(found)

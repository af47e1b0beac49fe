"""What the commands share: options, how they print, and the contracts that they are given."""

from __future__ import annotations

import json
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tollens.errors import ProjectError
from tollens.project import Project, contract_paths, find_project

WIDTH = 80  # columns of a text


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
    for line in lines:
        typer.echo(line)


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
    """The project of what is given, and its contract files; the project's own if nothing is."""
    project = find_project((paths[0] if paths else Path.cwd()).absolute())
    return project, contract_paths(paths or [project.root / project.contracts])

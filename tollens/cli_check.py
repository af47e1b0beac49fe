"""`tollens check`: what is wrong, as text, JSON, SARIF or GitHub's workflow commands."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tollens import baseline as accepted
from tollens import sarif
from tollens.cli_options import Paths, given_contracts, print_json, print_lines
from tollens.errors import ContractError, Finding, ProjectError, TollensError
from tollens.fingerprints import Named, named
from tollens.inspection import Inspection
from tollens.lint import check
from tollens.past import in_repository, project_at
from tollens.project import Project, read_contracts
from tollens.workflow_commands import command


class CheckFormat(StrEnum):
    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"


AsCheckFormat = Annotated[
    CheckFormat,
    typer.Option("--format", help="text; json; github, for its annotations; sarif 2.1.0"),
]
BaselineFile = Annotated[
    Path | None, typer.Option("--baseline", metavar="FILE", help="findings accepted for a time")
]
Update = Annotated[
    bool,
    typer.Option(
        "--update",
        help="take out of the baseline what is gone or past its day; start a missing one",
    ),
]
Since = Annotated[
    str | None, typer.Option("--diff", metavar="REF", help="only findings that REF did not have")
]


def check_command(
    paths: Paths = None,
    form: AsCheckFormat = CheckFormat.TEXT,
    baseline: BaselineFile = None,
    update: Update = False,
    since: Since = None,
) -> None:
    """Check contracts: schema, bindings, saboteurs, evidence and its freshness.

    \b
    Examples:
      tollens check
      tollens check contracts/moe-router-v1.yaml --format json
      tollens check --format sarif > tollens.sarif
      tollens check --diff origin/main --format github
      tollens check --baseline accepted.yaml --update
    """
    if update and (baseline is None or paths or since):
        raise ProjectError("--update goes with --baseline, and without paths and --diff")
    project, files = given_contracts(paths)
    found = named(findings(project, files, whole=not paths))
    if baseline is not None:
        found = _accept(project, baseline, found, update, whole=not paths)
    if since is not None:
        before = _fingerprints_at(project, since)
        found = [each for each in found if each.fingerprint not in before]
    PRINT[form](project, files, found)
    raise typer.Exit(1 if any(each.fails for each in found) else 0)


def findings(project: Project, files: Sequence[Path], whole: bool) -> list[Finding]:
    """What is wrong with the contracts; with `whole`, which are all, with the project too."""
    read = read_contracts(project, files)
    whole = whole and not read.findings
    return [*read.findings, *check(Inspection(project), read.loaded, whole, read.foreign)]


def _accept(
    project: Project, path: Path, found: list[Named], update: bool, whole: bool
) -> list[Named]:
    today = datetime.now(UTC).date()
    if update and not path.exists():
        accepted.start(path, found, today)
    if not path.exists():
        raise ProjectError(f"{path}: no such file; expected a baseline, which --update starts")
    try:
        shown = Path(os.path.relpath(path.resolve(), project.root)).as_posix()
        baseline = accepted.read_baseline(path, shown)
    except ContractError as error:
        return [*found, *named(error.findings)]
    if update:
        baseline = accepted.shrink(baseline, found, today)
    return accepted.accept(baseline, found, today, whole)


def _fingerprints_at(project: Project, revision: str) -> set[str]:
    with project_at(project, revision) as past:
        try:
            found = findings(past, past.contract_files(), whole=True)
        except TollensError as error:
            typer.echo(f"tollens: nothing could be checked at {revision}: {error}", err=True)
            return set()
    return {each.fingerprint for each in named(found)}


def _print_text(project: Project, files: Sequence[Path], found: Sequence[Named]) -> None:
    print_lines(str(each.finding) for each in found if not each.accepted)
    print_lines([_summary(files, found)])


def _print_json(project: Project, files: Sequence[Path], found: Sequence[Named]) -> None:
    rows = [{**each.finding.as_json(), "fingerprint": each.fingerprint} for each in found]
    pairs = list(zip(found, rows, strict=True))
    excused = [{**row, "reason": each.accepted} for each, row in pairs if each.accepted]
    print_json({"findings": [row for each, row in pairs if not each.accepted], "accepted": excused})


def _print_github(project: Project, files: Sequence[Path], found: Sequence[Named]) -> None:
    shown = _in_repository(project, found)
    print_lines(command(each.finding) for each in shown if not each.accepted)
    print_lines([_summary(files, found)])


def _print_sarif(project: Project, files: Sequence[Path], found: Sequence[Named]) -> None:
    shown = _in_repository(project, found)
    print_json(sarif.log(shown, importlib.metadata.version("tollens")))


def _in_repository(project: Project, found: Sequence[Named]) -> list[Named]:
    """The findings with the paths that GitHub knows the files by."""
    way = in_repository(project.root)
    return [
        replace(each, finding=replace(each.finding, path=way(each.finding.path))) for each in found
    ]


def _summary(files: Sequence[Path], found: Sequence[Named]) -> str:
    errors = sum(each.fails for each in found)
    excused = sum(bool(each.accepted) for each in found)
    warnings = len(found) - errors - excused
    counted = f"{len(files)} contract(s): {errors} error(s), {warnings} warning(s)"
    return f"{counted}, {excused} accepted" if excused else counted


PRINT: dict[CheckFormat, Callable[[Project, Sequence[Path], Sequence[Named]], None]] = {
    CheckFormat.TEXT: _print_text,
    CheckFormat.JSON: _print_json,
    CheckFormat.GITHUB: _print_github,
    CheckFormat.SARIF: _print_sarif,
}

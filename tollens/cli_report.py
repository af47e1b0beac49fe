"""`tollens report`: the reviewer's page, the comment for a pull request, or the same as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from tollens import unbound
from tollens.cli_options import Paths, given_contracts, json_text, print_lines, write_text
from tollens.contract import Loaded
from tollens.inspection import Inspection
from tollens.project import load_contracts
from tollens.review import ContractView, FalsifierView, Review, review
from tollens.revisions import fork
from tollens.since import Since, since


class ReportFormat(StrEnum):
    HTML = "html"
    MARKDOWN = "markdown"
    JSON = "json"


def report(
    paths: Paths = None,
    form: Annotated[
        ReportFormat,
        typer.Option("--format", help="html, a page; markdown, a pull request's comment; json"),
    ] = ReportFormat.HTML,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="where to write; report.html, else standard output"),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="tell also what changed since HEAD left this branch or commit"),
    ] = None,
) -> None:
    """Report where the project stands, the worst first, for a reviewer.

    Exits with 0 once it is written, whatever it says; `tollens check` and `tollens status` judge.

    \b
    Examples:
      tollens report -o report.html
      tollens report --format markdown --base main
      tollens report contracts/moe-router-v1.yaml --format json
    """
    project, files = given_contracts(paths)
    inspection = Inspection(project)
    plots = form is ReportFormat.HTML
    contracts = load_contracts(project, files)
    found = review(inspection, contracts.loaded, plots, _with_progress)
    found = replace(found, beside=unbound.beside(contracts.foreign))
    changes = since(project, found, fork(project.root, base) if base else "")
    text = _text(inspection, found, changes, form)
    if form is ReportFormat.HTML or out:
        path = out or Path("report.html")
        write_text(path, text)
        print_lines([f"{path}: {len(text.encode()):,} bytes", found.summary])
    else:
        print_lines([text.rstrip("\n")])


def _with_progress(contracts: Sequence[Loaded]) -> Iterable[Loaded]:
    """The contracts, with a bar on a terminal's standard error while they are looked at."""
    console = Console(stderr=True)
    quiet = not console.is_terminal
    return track(contracts, "contracts", console=console, transient=True, disable=quiet)


def _text(inspection: Inspection, found: Review, changes: Since, form: ReportFormat) -> str:
    if form is ReportFormat.HTML:
        from tollens.page import render  # a template engine is read only where a page is made

        return render(inspection.project, found, changes)
    if form is ReportFormat.MARKDOWN:
        from tollens.comment import comment

        return comment(found, changes)
    return json_text(as_json(found, changes))


def as_json(found: Review, changes: Since) -> dict[str, Any]:
    """The report for programs."""
    return {
        "project": found.project,
        "date": found.date,
        "commit": found.commit,
        "dirty": found.dirty,
        "summary": found.summary,
        "contracts": [_contract(each) for each in found.contracts],
        "since": changes.as_json(),
    }


def _contract(each: ContractView) -> dict[str, Any]:
    contract = each.loaded.contract
    return {
        "id": contract.id,
        "version": contract.version,
        "title": contract.title,
        "depends_on": contract.depends_on,
        "status": each.status,
        "summary": each.summary,
        "problem": each.problem,
        "gates": dict(each.gates),
        "falsifiers": [_falsifier(falsifier) for falsifier in each.falsifiers],
        "history": [
            entry.model_dump(mode="json", by_alias=True) for entry in contract.status_history
        ],
    }


def _falsifier(each: FalsifierView) -> dict[str, Any]:
    return {
        "id": each.falsifier.id,
        "rule": each.falsifier.rule,
        "verdict": each.verdict,
        "discharge": each.discharge,
        "level": each.level,
        "blocker_gone": each.blocker_gone,
        "results": [
            {
                **view.result.model_dump(
                    mode="json", exclude={"falsifier", "digests", "tests", "run"}
                ),
                "stale": view.stale,
                "run": view.run.model_dump(mode="json", exclude={"sources", "packages"}),
            }
            for view in each.results
        ],
        "kills": [vars(kill) for kill in each.kills],
    }

"""`tollens status`: where each contract stands today; with --watch, again whenever that changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from tollens import unbound
from tollens.cli_options import AsFormat, Format, Paths, given_contracts, print_json, print_lines
from tollens.dialect import Foreign
from tollens.errors import ProjectError, TollensError
from tollens.lint import Inspection
from tollens.project import Project, load_both
from tollens.standing import Standing
from tollens.verdicts import Discharge, Status, denominator
from tollens.watching import View, watch


def status(
    paths: Paths = None,
    form: AsFormat = Format.TEXT,
    again: Annotated[
        bool, typer.Option("--watch", help="show it again on each change, until Ctrl-C")
    ] = False,
) -> None:
    """Show where each contract stands today: status, discharges, gates.

    Exits with 1 where a contract is FALSIFIED; `tollens check` finds everything else. With --watch
    the worst comes first, what is discharged is left out, and Ctrl-C ends it with the exit code of
    what was last shown.

    \b
    Examples:
      tollens status
      tollens status contracts/chat-template-v1.yaml --format json
      tollens status --watch
    """
    if again and form is Format.JSON:
        raise ProjectError("--watch with --format json; expected one of them")
    if again:
        project = given_contracts(paths)[0]
        raise typer.Exit(watch(lambda: _view(project, paths), _folders(project)))
    looked = _look(paths)
    if form is Format.JSON:
        shown = [_as_json(each) for each in looked.standings]
        print_json({"contracts": shown + [unbound.as_json(each) for each in looked.foreign]})
    else:
        print_lines(line for each in looked.standings for line in _lines(each))
        print_lines(line for each in looked.foreign for line in unbound.lines(each))
    raise typer.Exit(_code(looked.standings))


def _code(standings: Iterable[Standing]) -> int:
    return int(any(each.status is Status.FALSIFIED for each in standings))


@dataclass(frozen=True)
class Looked:
    """The standings of what is given, contracts in other dialects, and the files beneath it all."""

    standings: list[Standing]
    foreign: list[Foreign]
    rest: set[Path]


def _look(paths: list[Path] | None) -> Looked:
    project, files = given_contracts(paths)
    inspection, rest = Inspection(project), set(files)
    contracts = load_both(project, files)
    standings = []
    for each in contracts.loaded:
        standings.append(inspection.standing(each))
        evidence = project.evidence_path(each.contract.id)
        read = {path for files in inspection.today(each).files.values() for path in files}
        rest |= {evidence, evidence.parent, *(project.root / path for path in read)}
    return Looked(standings, list(contracts.foreign), rest)


def _folders(project: Project) -> set[Path]:
    """Folders whose time changes where a file is added or removed."""
    root = project.root
    return {root / project.contracts, root / project.evidence, root / project.falsifiers}


def _view(project: Project, paths: list[Path] | None) -> View:
    """What is shown while watching; an error is shown too, since the next change may mend it."""
    stamp = f"{datetime.now():%H:%M:%S}"
    try:
        looked = _look(paths)
    except TollensError as error:
        watched = {*_folders(project), *project.contract_files()}
        return View([stamp, *str(error).splitlines()], 1, frozenset(watched))
    standings = sorted(looked.standings, key=lambda each: list(Status).index(each.status))
    verdicts = [falsifier.verdict for each in standings for falsifier in each.falsifiers]
    head = f"{stamp}  {denominator(verdicts)}; {len(standings)} contract(s)"
    lines = [head, *(line for each in standings for line in _open_lines(each))]
    lines += [line for each in looked.foreign for line in unbound.lines(each)]
    return View(lines, _code(standings), frozenset(looked.rest | _folders(project)))


def _open_lines(standing: Standing) -> Iterator[str]:
    """The contract, and what of it is not discharged."""
    discharged = f"  {Discharge.DISCHARGED} "
    yield from (line for line in _lines(standing) if not line.startswith((discharged, "  passed ")))


def _lines(standing: Standing) -> Iterator[str]:
    contract = standing.contract
    verdicts = [each.verdict for each in standing.falsifiers]
    yield f"{contract.id} {contract.version}  {standing.status}"
    yield f"  {denominator(verdicts)}"
    for each in standing.falsifiers:
        stale = "  stale" if each.stale and not each.results else ""
        yield f"  {each.discharge:<23}  {each.falsifier.id}{stale}"
    for gate, passed in standing.gates.items():
        yield f"  {'passed' if passed else 'not passed':<23}  {gate}"


def _as_json(standing: Standing) -> dict[str, Any]:
    return {
        "id": standing.contract.id,
        "version": standing.contract.version,
        "status": standing.status,
        "gates": standing.gates,
        "falsifiers": [
            {
                "id": each.falsifier.id,
                "verdict": each.verdict,
                "discharge": each.discharge,
                "level": each.level,
                "stale": sorted(each.stale),
                "kills": {name: kill.outcome for name, kill in each.kills.items()},
            }
            for each in standing.falsifiers
        ],
    }

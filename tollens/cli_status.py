"""`tollens status`: where each contract stands today; with --watch, again whenever that changes."""

from __future__ import annotations

import gc
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
from tollens.inspection import Inspection
from tollens.project import Contracts, Project, load_contracts
from tollens.standing import Standing
from tollens.verdicts import Discharge, Status, denominator
from tollens.watching import View, watch
from tollens.wrapping import wrap


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
        gc.enable()  # off for what ends soon, which this does not
        raise typer.Exit(watch(lambda last: _view(project, paths, last), _below(project)))
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
    """The contracts that were given, in our dialect and in another, and where ours stand."""

    inspection: Inspection
    contracts: Contracts
    standings: list[Standing]

    @property
    def foreign(self) -> list[Foreign]:
        return self.contracts.foreign

    def rest(self) -> set[Path]:
        """The contracts' own files, and those that their evidence has to be of."""
        given = [each.path for each in self.contracts.loaded]
        given += [each.path for each in self.foreign]
        days = map(self.inspection.today, self.contracts.loaded)
        read = {path for day in days for files in day.files.values() for path in files}
        root = self.inspection.project.root
        return {*given, *(root / path for path in read)}


def _look(paths: list[Path] | None) -> Looked:
    project, files = given_contracts(paths)
    inspection, contracts = Inspection(project), load_contracts(project, files)
    return Looked(inspection, contracts, list(map(inspection.standing, contracts.loaded)))


def _below(project: Project) -> set[Path]:
    """The project's folders, whose time changes as files come and go, and all that is in them."""
    names = (project.contracts, project.evidence, project.falsifiers, project.saboteurs)
    tops = [project.root / name for name in names]
    found = {path for top in tops for path in (top, *top.rglob("*"))}
    return {path for path in found if "__pycache__" not in path.parts}


def _view(project: Project, paths: list[Path] | None, last: frozenset[Path]) -> View:
    """What is shown while watching; an error too, since a change of what rested before may mend it.

    `last` is what the view before this one rested on.
    """
    stamp = f"{datetime.now():%H:%M:%S}"
    try:
        looked = _look(paths)
        rest = looked.rest()
    except (TollensError, OSError) as error:  # a file may go while it is read
        told = [line for row in str(error).splitlines() for line in wrap(row, rest="  ")]
        return View([stamp, *told], 1, frozenset(last | _below(project)))
    standings = sorted(looked.standings, key=lambda each: list(Status).index(each.status))
    verdicts = [falsifier.verdict for each in standings for falsifier in each.falsifiers]
    head = f"{stamp}  {denominator(verdicts)}; {len(standings)} contract(s)"
    lines = [head, *(line for each in standings for line in _open_lines(each))]
    lines += [line for each in looked.foreign for line in unbound.lines(each)]
    return View(lines, _code(standings), frozenset(rest | _below(project)))


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

"""Everything that `tollens check` finds wrong, as findings; runs no test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from tollens.contract import Falsifier, Loaded, across
from tollens.dialect import Foreign
from tollens.dialect import findings as findings_in_prose
from tollens.digests import Today
from tollens.errors import EvidenceError, Finding, ProjectError, Severity
from tollens.evidence import Evidence
from tollens.history import moved_claims
from tollens.inspection import Inspection
from tollens.outcomes import sha256_of
from tollens.project import Project
from tollens.rules import RULES
from tollens.source import Location
from tollens.standing import FalsifierStanding, live, recorded, why_stale
from tollens.verdicts import Kill, Level, Status, Verdict

MODELINE = "# yaml-language-server: $schema="


def check(
    inspection: Inspection, loaded: list[Loaded], whole: bool, foreign: Iterable[Foreign] = ()
) -> Iterator[Finding]:
    """All findings; `whole` says that these are all the project's contracts."""
    yield from across(loaded, [path.stem for path in inspection.project.contract_files()])
    for each in loaded:
        yield from _contract(inspection, each)
    for other in foreign:
        yield from findings_in_prose(other)
    if whole:
        yield from _whole_project(inspection, loaded)


def _contract(inspection: Inspection, loaded: Loaded) -> Iterator[Finding]:
    if found := _modeline(loaded):
        yield replace(_found(loaded, "modeline", (), *found, "warning"), line=1)
    moved = moved_claims(loaded.contract)
    if moved:
        yield _found(loaded, "moved-claims", ("version",), moved)
    for i, falsifier in enumerate(loaded.contract.falsifiers):
        yield from _falsifier(inspection, loaded, falsifier, ("falsifiers", i))
    try:
        yield from _evidence(inspection, loaded)
    except ProjectError as error:
        yield _found(loaded, "subject", ("subject",), str(error))
    except EvidenceError as error:
        yield _found(loaded, "evidence", (), str(error))


def _modeline(loaded: Loaded) -> tuple[str, str] | None:
    """What the first line is and should be, where it points editors at no schema."""
    first = loaded.source.text.removeprefix("\ufeff").partition("\n")[0].rstrip()
    if not first.startswith(MODELINE):
        return "another first line", MODELINE
    schema = first.removeprefix(MODELINE)
    if "://" in schema or (loaded.path.parent / schema).is_file():
        return None
    return f"{schema}, which is not there", "a file, by its path from the contract's folder"


def _falsifier(
    inspection: Inspection, loaded: Loaded, falsifier: Falsifier, at: Location
) -> Iterator[Finding]:
    if falsifier.id not in inspection.marks:
        yield _found(loaded, "unbound", (*at, "id"), f"{falsifier.id} without a test")
    if not falsifier.kills:
        yield _found(loaded, "no-saboteur", at, f"{falsifier.id} without saboteurs")
    for j, name in enumerate(falsifier.kills):
        saboteur = inspection.saboteurs.get(name)
        if saboteur is None:
            where = inspection.project.saboteurs
            yield _found(loaded, "saboteur", (*at, "kills", j), name, f"a saboteur in {where}")
        elif not saboteur.summary:
            found = f"{name} without a docstring ({saboteur.path}:{saboteur.line})"
            yield _found(loaded, "saboteur", (*at, "kills", j), found)


def _evidence(inspection: Inspection, loaded: Loaded) -> Iterator[Finding]:
    evidence = inspection.evidence(loaded)
    now = inspection.today(loaded)
    standing = live(loaded.contract, evidence, now, inspection.digests)
    for i, each in enumerate(standing.falsifiers):
        at: Location = ("falsifiers", i, "id")
        for found in _freshness(inspection, loaded, each, evidence, now):
            yield replace(found, line=loaded.source.line(at))
        yield from _verdict(inspection, loaded, each, at)
    yield from consistency(inspection.project, loaded, evidence)


def _freshness(
    inspection: Inspection,
    loaded: Loaded,
    each: FalsifierStanding,
    evidence: Evidence | None,
    now: Today,
) -> Iterator[Finding]:
    name, root = each.falsifier.id, inspection.project.root
    required = _severity(each.falsifier, each.falsifier.level)
    if evidence is None or not (each.results or each.stale):
        yield _found(loaded, "no-evidence", (), f"{name} without evidence", severity=required)
        return
    for level, result in each.stale.items():
        why = why_stale(root, result, evidence, loaded.contract, now)
        severity = _severity(each.falsifier, level)
        yield _found(loaded, "stale", (), f"{name} at level {level}: {why}", severity=severity)
    unproven = [kill for kill in each.falsifier.kills if kill not in each.kills]
    if unproven and Verdict.CORROBORATED in each.verdicts.values():
        found = f"{name} has yet to kill {', '.join(unproven)}"
        yield _found(loaded, "unproven", (), found, severity=required)


def _severity(falsifier: Falsifier, level: Level) -> Severity:
    return "error" if falsifier.strict_freshness(level) else "warning"


def _verdict(
    inspection: Inspection, loaded: Loaded, each: FalsifierStanding, at: Location
) -> Iterator[Finding]:
    for level, result in each.results.items():
        if result.verdict.fails_run:
            found = f"{each.falsifier.id} {result.verdict} at level {level}: {result.reason}"
            yield _found(loaded, "refuted", at, found)
        if result.verdict is Verdict.BLOCKED and inspection.blocker_gone(each):
            found = f"{each.falsifier.id} recorded as blocked: {result.reason}"
            yield _found(loaded, "blocker-gone", at, found, severity="warning")
    for name, kill in each.kills.items():
        if kill.outcome is Kill.ERROR:
            found = f"{each.falsifier.id} under {name}: {kill.reason}"
            yield _found(loaded, "refuted", at, found)


def consistency(project: Project, loaded: Loaded, evidence: Evidence | None) -> Iterator[Finding]:
    """Whether history and attachments agree with the evidence file and with themselves."""
    entries = loaded.contract.status_history
    for i, (before, after) in enumerate(zip(entries, entries[1:], strict=False), 1):
        if after.from_ is not before.to or after.date < before.date:
            found = f"from {after.from_} on {after.date}"
            expected = f"from {before.to}, not before {before.date}"
            yield _found(loaded, "history", ("status_history", i), found, expected)
    status = recorded(loaded.contract, evidence).status
    said = entries[-1].to if entries else Status.PROPOSED
    moved = moved_claims(loaded.contract) or (
        entries and entries[-1].version != loaded.contract.version
    )
    if said is not status and not moved:
        at: Location = ("status_history", len(entries) - 1) if entries else ()
        yield _found(loaded, "history", at, f"status {said}", f"{status}, from the evidence")
    folder = project.evidence_path(loaded.contract.id).parent
    for result in evidence.predicate.results if evidence else ():
        for attachment in result.attachments:
            path = folder / attachment.path
            if not path.is_file() or sha256_of(path) != attachment.sha256:
                found = f"{project.shown(path)} is missing or altered"
                yield _found(loaded, "evidence", (), found, f"sha256 {attachment.sha256}")


def _whole_project(inspection: Inspection, loaded: Iterable[Loaded]) -> Iterator[Finding]:
    falsifiers = [each for one in loaded for each in one.contract.falsifiers]
    declared = {each.id for each in falsifiers}
    for mark in inspection.bindings:
        if mark.falsifier not in declared:
            found = f"falsifies {mark.falsifier}"
            yield _elsewhere("dangling", mark.path, mark.line, found, "error")
    killed = {name for each in falsifiers for name in each.kills}
    for name, saboteur in inspection.saboteurs.items():
        if name not in killed:
            yield _elsewhere("unused-saboteur", saboteur.path, saboteur.line, name, "warning")
    ids = {each.contract.id for each in loaded}
    for path in sorted((inspection.project.root / inspection.project.evidence).glob("*/*.json")):
        if path.parent.name not in ids:
            shown = inspection.project.shown(path)
            yield _elsewhere("orphan", shown, 1, f"evidence of {path.parent.name}", "warning")


def _found(
    loaded: Loaded,
    rule: str,
    at: Location,
    found: str,
    expected: str = "",
    severity: Severity = "error",
) -> Finding:
    finding = loaded.source.finding(rule, at, found, expected)
    hint = RULES[rule][1].replace("CONTRACT", loaded.source.path)
    return replace(finding, severity=severity, hint=hint)


def _elsewhere(rule: str, path: str, line: int, found: str, severity: Severity) -> Finding:
    return Finding(rule, path, line, found, hint=RULES[rule][1], severity=severity)

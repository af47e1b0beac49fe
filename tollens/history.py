"""Records a run: merges its outcomes into the evidence and appends to the status history.

The only writer of evidence files and of `status_history`. Knows no pytest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from tollens import evidence as evidence_file
from tollens.circumstances import utc_now
from tollens.contract import Contract, HistoryEntry, Loaded, load
from tollens.digests import Today
from tollens.errors import EvidenceError, RecordError
from tollens.evidence import (
    About,
    Artifact,
    Attachment,
    ClaimDigests,
    Evidence,
    KillDigests,
    KillResult,
    Result,
    Run,
    measure_result,
    write_atomically,
)
from tollens.outcomes import Outcome, sha256_of
from tollens.project import Project
from tollens.splice import append
from tollens.standing import Standing, live, recorded
from tollens.verdicts import Discharge, Kill, Status, Verdict, denominator


@dataclass(frozen=True)
class Recordable:
    """Everything that a run has to say of one contract."""

    path: Path
    shown: str
    contract: Contract
    today: Today
    saboteurs: Mapping[str, str]
    outcomes: Sequence[Outcome]
    kills: Mapping[tuple[str, str], tuple[Kill, str]]
    run: Run


@dataclass(frozen=True)
class Recorded:
    """What a recording did, or would do: where the contract stands, and what was written."""

    standing: Standing
    evidence: Evidence
    wrote_evidence: bool = False
    entry: HistoryEntry | None = None
    before: Evidence | None = None


def record(project: Project, recordable: Recordable, *, always: bool = False) -> Recorded:
    """Write what changed, under the contract's lock, and say what was written.

    Raises RecordError where the claims changed without a new version, or where another process
    changed the contract under the run; then nothing is written.
    """
    lock = project.cache() / "locks" / f"{recordable.contract.id}.lock"
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        loaded = load(recordable.path, recordable.shown)
        if loaded.contract.claims != recordable.contract.claims:
            raise RecordError(f"{recordable.shown}: its claims changed during the run")
        refuse_moved_claims(loaded.contract, recordable.shown)
        return _record(project, recordable, loaded, always)


def _record(project: Project, new: Recordable, loaded: Loaded, always: bool) -> Recorded:
    contract = loaded.contract
    path = project.evidence_path(contract.id)
    old, previous = read_replaceable(path)
    merged = merge(old, new, previous)
    changed = always and bool(new.outcomes) or _differs(old, merged, new)
    kept = merged if changed or old is None else old
    standing = recorded(contract, kept)
    sha256 = previous if old is not None else None
    if changed:
        data = evidence_file.dump(kept)
        sha256 = hashlib.sha256(data).hexdigest()
        _keep_attachments(project, new)
        write_atomically(path, data)
    evidence = project.shown(path)
    entry = transition(contract, standing, evidence, sha256, new.run) if sha256 else None
    if entry is not None:
        write_atomically(new.path, append(loaded.source, _as_written(entry)).encode())
    return Recorded(live(contract, kept, new.today, new.saboteurs), kept, changed, entry)


def read_replaceable(path: Path) -> tuple[Evidence | None, str | None]:
    """The evidence at `path` and its sha256. An altered file counts as none, and is replaced."""
    if not path.exists():
        return None, None
    previous = sha256_of(path)
    try:
        return evidence_file.read(path), previous
    except EvidenceError:
        return None, previous


def refuse_moved_claims(contract: Contract, shown: str) -> None:
    """The bar may not move quietly: other claims under a recorded version are refused."""
    moved = moved_claims(contract)
    if moved:
        raise RecordError(f"{shown}: {moved}")


def moved_claims(contract: Contract) -> str | None:
    """Why the claims may not be recorded under their version, if they may not."""
    for entry in contract.status_history:
        if entry.version == contract.version and entry.claims != contract.claims:
            return (
                f"the claims differ from those recorded as version {entry.version} on "
                f"{entry.date}; raise the version (`tollens diff` names the bump)"
            )
    return None


def merge(old: Evidence | None, new: Recordable, previous: str | None) -> Evidence:
    """The old evidence with the run's outcomes in it; nothing of others' results is lost."""
    run_id = run_identity(new.run)
    results = {each.key: each for each in old.predicate.results} if old else {}
    for outcome in sorted(new.outcomes, key=lambda outcome: not outcome.verdict.executed):
        blocked = outcome.verdict is Verdict.BLOCKED
        if outcome.verdict.executed or (
            blocked and not _was_executed(outcome.falsifier, results.values())
        ):
            result = _result(outcome, new, run_id)
            results = {key: each for key, each in results.items() if not _superseded(each, result)}
            results[result.key] = result
    severity = {each.key: each for each in old.predicate.severity} if old else {}
    for (falsifier, saboteur), (kill, reason) in new.kills.items():
        killed = _kill(falsifier, saboteur, kill, reason, new, run_id)
        severity[killed.key] = killed
    known = {falsifier.id: falsifier for falsifier in new.contract.falsifiers}
    kept = [each for each in results.values() if each.falsifier in known]
    severe = [
        each
        for each in severity.values()
        if each.falsifier in known and each.saboteur in known[each.falsifier].kills
    ]
    return evidence_file.statement(
        About(id=new.contract.id, version=new.contract.version, claims=new.contract.claims),
        dict.fromkeys(new.contract.subject, new.today.subject),
        [_vacuous_if_survived(each, severe) for each in kept],
        {**(old.predicate.runs if old else {}), run_id: new.run},
        severe,
        previous,
    )


def _was_executed(falsifier: str, results: Iterable[Result]) -> bool:
    return any(each.falsifier == falsifier and each.verdict.executed for each in results)


def _vacuous_if_survived(result: Result, severity: Iterable[KillResult]) -> Result:
    """A corroboration is void where a saboteur survived the same claim, test and subject."""
    survivors = [
        each.saboteur
        for each in severity
        if each.falsifier == result.falsifier
        and each.outcome is Kill.SURVIVED
        and each.digests.without_saboteur() == result.digests
    ]
    if not survivors or result.verdict is not Verdict.CORROBORATED:
        return result
    reason = f"it did not kill {', '.join(survivors)}"
    return result.model_copy(update={"verdict": Verdict.VACUOUS, "reason": reason})


def _superseded(old: Result, new: Result) -> bool:
    """A blocked result gives way to one that ran, at whatever level."""
    return old.falsifier == new.falsifier and old.verdict is Verdict.BLOCKED


def _result(outcome: Outcome, new: Recordable, run_id: str) -> Result:
    tests = " ".join(outcome.tests[:1])
    return Result(
        falsifier=outcome.falsifier,
        level=outcome.level,
        verdict=outcome.verdict,
        measures={name: measure_result(each) for name, each in sorted(outcome.measures.items())},
        reason=outcome.reason,
        tests=list(outcome.tests),
        digests=ClaimDigests(**new.today.falsifiers[outcome.falsifier].as_json()),
        seconds=round(outcome.seconds, 3),
        run=run_id,
        attachments=[
            Attachment(name=a.name, path=_attachment_path(a.sha256, a.name), sha256=a.sha256)
            for a in outcome.attachments
        ],
        artifact=Artifact(**vars(outcome.artifact)) if outcome.artifact else None,
        reproduce=f"pytest --contract {new.shown} {tests}".strip(),
    )


def _kill(
    falsifier: str, saboteur: str, kill: Kill, reason: str, new: Recordable, run_id: str
) -> KillResult:
    digests = new.today.falsifiers[falsifier].as_json()
    return KillResult(
        falsifier=falsifier,
        saboteur=saboteur,
        outcome=kill,
        reason=reason,
        digests=KillDigests(**digests, saboteur=new.saboteurs[saboteur]),
        run=run_id,
    )


def run_identity(run: Run) -> str:
    return hashlib.sha256(run.model_dump_json().encode()).hexdigest()[:12]


def _differs(old: Evidence | None, merged: Evidence, new: Recordable) -> bool:
    """Whether there is anything to write: a verdict, a kill, a stale or a missing result."""
    if old is None:
        return bool(merged.predicate.results)
    return _gist(old) != _gist(merged)


def _gist(evidence: Evidence) -> tuple[Any, ...]:
    """What makes evidence different, leaving out measures, times and runs."""
    results = {
        each.key: (each.verdict, each.digests, each.verdict is Verdict.BLOCKED and each.reason)
        for each in evidence.predicate.results
    }
    severity = {each.key: (each.outcome, each.digests) for each in evidence.predicate.severity}
    return evidence.predicate.contract, results, severity


def transition(
    contract: Contract, standing: Standing, evidence: str, sha256: str, run: Run
) -> HistoryEntry | None:
    """The entry that the history needs, or None where nothing moved."""
    last = contract.status_history[-1] if contract.status_history else None
    moved = moved_discharges(contract, standing)
    same = last and last.to is standing.status and last.version == contract.version
    if same and not moved:
        return None
    return HistoryEntry.model_validate(
        {
            "date": utc_now(),
            "version": contract.version,
            "from": last.to if last else Status.PROPOSED,
            "to": standing.status,
            "evidence": evidence,
            "sha256": sha256,
            "claims": contract.claims,
            "commit": run.commit,
            "dirty": run.dirty,
            "summary": denominator([each.verdict for each in standing.falsifiers]),
            "verdicts": moved,
        }
    )


def moved_discharges(contract: Contract, standing: Standing) -> dict[str, Discharge]:
    """Discharges that differ from what the history last said of each falsifier."""
    said: dict[str, Discharge] = {}
    for entry in contract.status_history:
        said |= entry.verdicts
    return {
        name: discharge
        for name, discharge in standing.discharges.items()
        if said.get(name, Discharge.OPEN) is not discharge
    }


def _as_written(entry: HistoryEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json", by_alias=True)


def _attachment_path(sha256: str, name: str) -> str:
    return f"attachments/{sha256[:12]}-{name}"


def _keep_attachments(project: Project, new: Recordable) -> None:
    folder = project.evidence_path(new.contract.id).parent
    for outcome in new.outcomes:
        for each in outcome.attachments:
            data = (project.cache() / "attachments" / each.sha256).read_bytes()
            write_atomically(folder / _attachment_path(each.sha256, each.name), data)


def preview(project: Project, new: Recordable) -> Recorded:
    """Where the contract would stand with this run's outcomes; writes nothing."""
    old, previous = read_replaceable(project.evidence_path(new.contract.id))
    merged = merge(old, new, previous)
    standing = live(new.contract, merged, new.today, new.saboteurs)
    return Recorded(standing, merged, before=old)


def disagreements(new: Recordable, previewed: Recorded) -> list[str]:
    """Where the run's executed verdicts differ from the evidence as it is on disk."""
    old = previewed.before.predicate.results if previewed.before else []
    said = {each.key: each.verdict for each in old}
    says = {each.key: each.verdict for each in previewed.evidence.predicate.results}
    return [
        f"{key[0]}: {says[key]} here, {said.get(key, 'nothing')} in the evidence (level {key[1]})"
        for key in ((outcome.falsifier, outcome.level) for outcome in new.outcomes)
        if key in says and says[key].executed and says[key] is not said.get(key)
    ]

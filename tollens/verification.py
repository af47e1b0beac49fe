"""Verifies evidence files: schema, digests, attachments, and the history's chain through git."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tollens.contract import Loaded
from tollens.errors import EvidenceError
from tollens.evidence import Evidence, parse, read
from tollens.lint import consistency
from tollens.project import Project
from tollens.revisions import contents, past
from tollens.signing import refusals

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


@dataclass(frozen=True)
class Verified:
    """One evidence file: what is wrong with it, and what could not be looked up."""

    path: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.problems


def verify(
    project: Project,
    path: Path,
    loaded: Loaded | None,
    history: bool,
    trusted: Mapping[str, Ed25519PublicKey] | None = None,
) -> Verified:
    """Verify one evidence file against itself and its contract.

    With `history` against git too, and its signature where there are keys to trust.
    """
    shown = project.shown(path)
    try:
        evidence = read(path, shown)
    except EvidenceError as error:
        return Verified(shown, (str(error),))
    if evidence is None:
        return Verified(shown, ("no such file",))
    if loaded is None:
        return Verified(shown, (f"no contract {evidence.predicate.contract.id}",))
    problems = [finding.found for finding in consistency(project, loaded, evidence)]
    if path != project.evidence_path(loaded.contract.id):
        problems.append(f"it is the evidence of {loaded.contract.id}, in another's place")
    if trusted is not None:
        problems += refusals(path, trusted)
    notes: list[str] = []
    if history:
        broken, notes = _chain(project, path, evidence, loaded)
        problems += broken
    return Verified(shown, tuple(problems), tuple(notes))


def _chain(
    project: Project, path: Path, evidence: Evidence, loaded: Loaded
) -> tuple[list[str], list[str]]:
    """Follow `previous` from the current evidence, and look up what each entry names."""
    shown = project.shown(path)
    names = past(project.root, shown).get(shown, [])
    versions = [path.read_bytes(), *(data for _, data in contents(project.root, names))]
    kept = {hashlib.sha256(data).hexdigest(): data for data in versions}
    problems, notes = [], []
    previous = evidence.predicate.previous
    seen = 1
    while previous is not None and previous in kept:
        try:
            previous = parse(kept[previous], f"evidence {previous[:12]}").predicate.previous
        except EvidenceError as error:
            problems.append(str(error))
            break
        seen += 1
    if previous is not None and not problems:
        notes.append(f"the chain of {seen} ends at {previous[:12]}, which git does not hold")
    for entry in loaded.contract.status_history:
        if entry.sha256 not in kept:
            notes.append(f"the entry of {entry.date} names evidence that git does not hold")
            continue
        said = parse(kept[entry.sha256], f"evidence of {entry.date}").predicate.contract
        if (said.version, said.claims) != (entry.version, entry.claims):
            problems.append(f"the entry of {entry.date} names evidence of other claims")
    return problems, notes

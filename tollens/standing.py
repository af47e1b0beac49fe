"""Where a contract stands: its evidence, seen against today's sources; pure but for git's log.

Two views: *recorded* (what the evidence file says by itself, given the contract) and *live*
(evidence whose claim, test or subject has changed since counts as none).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tollens.contract import Contract, Falsifier
from tollens.digests import Today, git
from tollens.evidence import Evidence, KillResult, Result
from tollens.verdicts import (
    Discharge,
    Kill,
    Level,
    Status,
    Verdict,
    corroborated_level,
    discharge,
    status,
    worst,
)

T = TypeVar("T", Result, KillResult)


@dataclass(frozen=True)
class FalsifierStanding:
    """One falsifier: its fresh results and kills, and why others do not count."""

    falsifier: Falsifier
    results: Mapping[Level, Result]
    kills: Mapping[str, KillResult]
    stale: Mapping[Level, Result] = field(default_factory=dict)

    @property
    def verdicts(self) -> dict[Level, Verdict]:
        return {level: result.verdict for level, result in self.results.items()}

    @property
    def verdict(self) -> Verdict:
        return worst(self.verdicts.values())

    @property
    def discharge(self) -> Discharge:
        fates = [
            self.kills[name].outcome if name in self.kills else Kill.ERROR
            for name in self.falsifier.kills
        ]
        return discharge(self.verdicts, self.falsifier.level, fates)

    @property
    def level(self) -> Level | None:
        return corroborated_level(self.verdicts)


@dataclass(frozen=True)
class Standing:
    """A contract's status with what it follows from."""

    contract: Contract
    falsifiers: tuple[FalsifierStanding, ...]

    @property
    def status(self) -> Status:
        return status(
            [(each.discharge, each.level, each.falsifier.level) for each in self.falsifiers]
        )

    @property
    def discharges(self) -> dict[str, Discharge]:
        return {each.falsifier.id: each.discharge for each in self.falsifiers}

    @property
    def gates(self) -> dict[str, bool]:
        """Gate name → whether all that it requires are DISCHARGED."""
        discharges = self.discharges
        return {
            gate.id: all(discharges[name] is Discharge.DISCHARGED for name in gate.requires)
            for gate in self.contract.gates
        }

    def __getitem__(self, name: str) -> FalsifierStanding:
        return next(each for each in self.falsifiers if each.falsifier.id == name)


def recorded(contract: Contract, evidence: Evidence | None) -> Standing:
    """What follows from the evidence file alone; results of another claim count as none."""
    return Standing(
        contract,
        tuple(_falsifier(contract, each, evidence, None, {}) for each in contract.falsifiers),
    )


def live(
    contract: Contract, evidence: Evidence | None, today: Today, saboteurs: Mapping[str, str]
) -> Standing:
    """What counts today: results and kills whose digests are today's.

    `saboteurs` maps the name of each saboteur to the digest of its source.
    """
    return Standing(
        contract,
        tuple(
            _falsifier(contract, each, evidence, today, saboteurs) for each in contract.falsifiers
        ),
    )


def _falsifier(
    contract: Contract,
    falsifier: Falsifier,
    evidence: Evidence | None,
    today: Today | None,
    saboteurs: Mapping[str, str],
) -> FalsifierStanding:
    results = _of(falsifier, evidence.predicate.results if evidence else ())
    severity = _of(falsifier, evidence.predicate.severity if evidence else ())
    kills = [each for each in severity if each.saboteur in falsifier.kills]
    if today is None:
        claim = contract.claim(falsifier) if results else ""
        fresh = [each for each in results if each.digests.claim == claim]
        proven = [each.digests for each in fresh]
        fresh_kills = [each for each in kills if each.digests.without_saboteur() in proven]
    else:
        now = today.falsifiers[falsifier.id]
        fresh = [each for each in results if each.digests.same(now)]
        fresh_kills = [
            each
            for each in kills
            if each.digests.without_saboteur().same(now)
            and each.digests.saboteur == saboteurs.get(each.saboteur)
        ]
    return FalsifierStanding(
        falsifier,
        {each.level: each for each in fresh},
        {each.saboteur: each for each in fresh_kills},
        {each.level: each for each in results if each not in fresh},
    )


def _of(falsifier: Falsifier, all_results: Iterable[T]) -> list[T]:
    return [each for each in all_results if each.falsifier == falsifier.id]


def why_stale(
    root: Path, result: Result | KillResult, evidence: Evidence, contract: Contract, today: Today
) -> str:
    """What changed since a result was recorded, and in how many commits."""
    falsifier = contract.falsifier(result.falsifier)
    claim = result.digests.claim != contract.claim(falsifier)
    run = evidence.predicate.runs[result.run]
    now = today.files[falsifier.id]
    files = sorted(path for path in now if run.sources.get(path) != now[path])
    changes = ["the claim"] * claim + files or ["the set of files that it rests on"]
    shown = ", ".join(changes[:3]) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")
    return f"changed since: {shown}{_commits_ago(root, run.commit, files)}"


def _commits_ago(root: Path, commit: str | None, files: Collection[str]) -> str:
    if commit is None or not files:
        return ""
    count = git(root, "rev-list", "--count", f"{commit}..HEAD", "--", *files)
    if count is None:
        return ""
    since = f"{count} commit{'s' if count != '1' else ''} since"
    return " (not committed)" if count == "0" else f" ({since})"

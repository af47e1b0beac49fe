"""The project as a reviewer sees it: what stands, what does not, and why; the worst comes first.

Gathers from contracts, evidence, sources and git; knows no markup. A contract whose evidence
cannot be used is shown with its problem, and nothing of it counts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tollens.circumstances import commit, utc_now
from tollens.contract import Falsifier, Loaded
from tollens.digests import Today
from tollens.errors import EvidenceError, ProjectError
from tollens.evidence import Evidence, Result, Run
from tollens.inspection import Inspection
from tollens.measured import Key, Point, series
from tollens.standing import FalsifierStanding, Standing, live, recorded, why_stale
from tollens.verdicts import Discharge, Kill, Level, Status, Verdict, denominator

WORST = (
    Discharge.FALSIFIED,
    Discharge.OPEN,
    Discharge.PARTIAL_ALGORITHM_LEVEL,
    Discharge.BLOCKER_FIXTURE_ABSENT,
    Discharge.DISCHARGED,
)
UNPROVEN = "unproven"  # a saboteur that nothing recorded today was killed under


@dataclass(frozen=True)
class ResultView:
    """What one level says of a falsifier; `stale` says why it counts as none, or nothing."""

    result: Result
    run: Run
    stale: str

    @property
    def shown_verdict(self) -> str:
        return "STALE" if self.stale else self.result.verdict


@dataclass(frozen=True)
class KillView:
    """A saboteur of a falsifier: what it breaks, and what became of it."""

    name: str
    outcome: str
    reason: str
    summary: str


@dataclass(frozen=True)
class FalsifierView:
    """One falsifier today; `place` is its index in the contract."""

    falsifier: Falsifier
    place: int
    verdict: Verdict
    discharge: Discharge
    level: Level | None
    results: tuple[ResultView, ...]
    kills: tuple[KillView, ...]
    blocker_gone: bool
    series: Mapping[Key, list[Point]]

    @property
    def stale(self) -> tuple[ResultView, ...]:
        return tuple(each for each in self.results if each.stale)

    @property
    def badness(self) -> tuple[int, int, int]:
        """Smaller is worse."""
        stale = bool(self.stale) or self.blocker_gone
        return WORST.index(self.discharge), -self.verdict.rank, -stale


@dataclass(frozen=True)
class ContractView:
    """One contract today; `problem` says why its evidence cannot be used, or nothing."""

    loaded: Loaded
    evidence: Evidence | None
    status: Status
    falsifiers: tuple[FalsifierView, ...]
    gates: Mapping[str, bool]
    problem: str = ""

    @property
    def summary(self) -> str:
        return denominator([each.verdict for each in self.falsifiers])

    @property
    def discharged(self) -> int:
        return sum(each.discharge is Discharge.DISCHARGED for each in self.falsifiers)

    @property
    def badness(self) -> tuple[int, int, str]:
        """Smaller is worse."""
        open_ones = len(self.falsifiers) - self.discharged
        return list(Status).index(self.status), -open_ones, self.loaded.contract.id


@dataclass(frozen=True)
class Review:
    """All contracts, the worst first, with the commit and the time that they were looked at."""

    project: str
    date: str
    commit: str | None
    dirty: bool
    contracts: tuple[ContractView, ...]
    beside: str = ""  # what else was given, and is not shown

    @property
    def falsifiers(self) -> list[FalsifierView]:
        return [each for contract in self.contracts for each in contract.falsifiers]

    @property
    def summary(self) -> str:
        found = denominator([each.verdict for each in self.falsifiers])
        return f"{found}; {len(self.contracts)} contract(s){self.beside}"


def review(
    inspection: Inspection,
    given: Sequence[Loaded],
    plots: bool = True,
    told: Callable[[Sequence[Loaded]], Iterable[Loaded]] = iter,
) -> Review:
    """Look at every contract given; `plots` also reads what earlier runs measured.

    `told` goes through the contracts, and may tell how far it is.
    """
    project = inspection.project
    past = series(project, [each.contract.id for each in given]) if plots else {}
    views = [_contract(inspection, each, past.get(each.contract.id, {})) for each in told(given)]
    head, dirty = commit(project.root, (project.evidence, project.contracts))
    found = tuple(sorted(views, key=lambda view: view.badness))
    return Review(_name(project.root), utc_now(), head, dirty, found)


def _name(root: Path) -> str:
    """The name in the project's pyproject.toml, or else its folder's."""
    try:
        return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["name"])
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError):
        return root.name


def _contract(
    inspection: Inspection, loaded: Loaded, past: Mapping[Key, list[Point]]
) -> ContractView:
    contract = loaded.contract
    try:
        evidence, now = inspection.evidence(loaded), inspection.today(loaded)
    except (EvidenceError, ProjectError) as error:
        nothing = recorded(contract, None)
        found = _falsifiers(inspection, loaded, nothing, None, None, {})
        return ContractView(loaded, None, nothing.status, found, nothing.gates, str(error))
    standing = live(contract, evidence, now, inspection.digests)
    found = _falsifiers(inspection, loaded, standing, evidence, now, past)
    return ContractView(loaded, evidence, standing.status, found, standing.gates)


def _falsifiers(
    inspection: Inspection,
    loaded: Loaded,
    standing: Standing,
    evidence: Evidence | None,
    now: Today | None,
    past: Mapping[Key, list[Point]],
) -> tuple[FalsifierView, ...]:
    found = [
        FalsifierView(
            falsifier=each.falsifier,
            place=i,
            verdict=each.verdict,
            discharge=each.discharge,
            level=each.level,
            results=tuple(_results(inspection, loaded, each, evidence, now)),
            kills=tuple(_kills(inspection, each)),
            blocker_gone=inspection.blocker_gone(each),
            series={key: points for key, points in past.items() if key[0] == each.falsifier.id},
        )
        for i, each in enumerate(standing.falsifiers)
    ]
    return tuple(sorted(found, key=lambda view: view.badness))


def _results(
    inspection: Inspection,
    loaded: Loaded,
    each: FalsifierStanding,
    evidence: Evidence | None,
    now: Today | None,
) -> Iterator[ResultView]:
    if evidence is None or now is None:
        return
    both = {**each.stale, **each.results}
    for level in sorted(both, key=lambda level: level.rank):
        result = both[level]
        root, contract = inspection.project.root, loaded.contract
        fresh = level in each.results
        why = "" if fresh else why_stale(root, result, evidence, contract, now)
        yield ResultView(result, evidence.predicate.runs[result.run], why)


def _kills(inspection: Inspection, each: FalsifierStanding) -> Iterator[KillView]:
    for name in each.falsifier.kills:
        known = inspection.saboteurs.get(name)
        kill = each.kills.get(name)
        outcome, reason = (kill.outcome, kill.reason) if kill else (UNPROVEN, "")
        yield KillView(name, outcome, reason, known.summary if known else "undefined")


def reasons(f: FalsifierView) -> Iterator[tuple[str, str]]:
    """(word, particulars) of why a falsifier needs attention."""
    if f.verdict.fails_run:
        told = [each.result.reason for each in f.results if each.result.verdict is f.verdict]
        yield f.verdict, "; ".join(filter(None, told))
    for each in f.stale:
        yield f"stale at level {each.result.level}", each.stale
    if f.blocker_gone:
        yield "the blocker is gone", "recorded as blocked, and its need is met now"
    for kill in f.kills:
        if kill.outcome in (Kill.SURVIVED, Kill.ERROR):
            yield f"saboteur {kill.outcome}", f"{kill.name}: {kill.reason or kill.summary}"
    if not f.results:
        yield "no evidence", ""

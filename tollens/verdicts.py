"""The words of the harness and the rules between them; pure, knows no files and no pytest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum


class Verdict(StrEnum):
    """What one run says of one falsifier, from best to worst."""

    CORROBORATED = "CORROBORATED"
    BLOCKED = "BLOCKED"
    NOT_RUN = "NOT_RUN"
    INCONCLUSIVE = "INCONCLUSIVE"
    VACUOUS = "VACUOUS"
    ERROR = "ERROR"
    FALSIFIED = "FALSIFIED"

    @property
    def rank(self) -> int:
        return list(Verdict.__members__).index(self.name)

    @property
    def fails_run(self) -> bool:
        """Whether it makes the run exit with 1; a blocked one is told, and is no pass."""
        return self.rank >= Verdict.INCONCLUSIVE.rank

    @property
    def executed(self) -> bool:
        return self not in (Verdict.BLOCKED, Verdict.NOT_RUN)


class Level(StrEnum):
    """How real the thing observed was, from least to most."""

    ALGORITHM = "algorithm"
    FUNCTIONAL = "functional"
    RUNTIME = "runtime"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


class Discharge(StrEnum):
    """What the fresh evidence says of one falsifier."""

    OPEN = "OPEN"
    FALSIFIED = "FALSIFIED"
    BLOCKER_FIXTURE_ABSENT = "BLOCKER_FIXTURE_ABSENT"
    PARTIAL_ALGORITHM_LEVEL = "PARTIAL_ALGORITHM_LEVEL"
    DISCHARGED = "DISCHARGED"


class Status(StrEnum):
    """What the fresh evidence says of a contract."""

    FALSIFIED = "FALSIFIED"
    PROPOSED = "PROPOSED"
    PARTIAL_ALGORITHM_LEVEL = "PARTIAL_ALGORITHM_LEVEL"
    ACTIVE_ALGORITHM_LEVEL = "ACTIVE_ALGORITHM_LEVEL"
    ACTIVE_FUNCTIONAL = "ACTIVE_FUNCTIONAL"
    ACTIVE_RUNTIME = "ACTIVE_RUNTIME"


class Kill(StrEnum):
    """What became of one saboteur under one falsifier."""

    KILLED = "killed"
    SURVIVED = "survived"
    ERROR = "error"


ACTIVE_AT = {
    Level.RUNTIME: Status.ACTIVE_RUNTIME,
    Level.FUNCTIONAL: Status.ACTIVE_FUNCTIONAL,
    Level.ALGORITHM: Status.ACTIVE_ALGORITHM_LEVEL,
}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several outcomes; NOT_RUN where there is none."""
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.NOT_RUN)


def discharge(
    results: Mapping[Level, Verdict], required: Level, kills: Collection[Kill]
) -> Discharge:
    """Discharge of a falsifier from its fresh results by level and the fate of its saboteurs.

    A falsifier without saboteurs has not shown that it can fail and is never DISCHARGED.
    """
    if Verdict.FALSIFIED in results.values():
        return Discharge.FALSIFIED
    level = corroborated_level(results)
    if level is not None:
        proven = bool(kills) and all(kill is Kill.KILLED for kill in kills)
        reached = level.rank >= required.rank and proven
        return Discharge.DISCHARGED if reached else Discharge.PARTIAL_ALGORITHM_LEVEL
    if results and set(results.values()) == {Verdict.BLOCKED}:
        return Discharge.BLOCKER_FIXTURE_ABSENT
    return Discharge.OPEN


def corroborated_level(results: Mapping[Level, Verdict]) -> Level | None:
    """The highest level at which the results corroborate."""
    levels = [level for level, verdict in results.items() if verdict is Verdict.CORROBORATED]
    return max(levels, key=lambda level: level.rank, default=None)


def status(falsifiers: Collection[tuple[Discharge, Level | None, Level]]) -> Status:
    """Status of a contract from (discharge, corroborated level, required level) of each falsifier.

    ACTIVE at a level needs one falsifier corroborated there, and every other one there too or
    discharged at the lower level that it asks for.
    """
    if any(discharge is Discharge.FALSIFIED for discharge, _, _ in falsifiers):
        return Status.FALSIFIED
    reached = [level for _, level, _ in falsifiers if level is not None]
    if not reached:
        return Status.PROPOSED
    for level, active in ACTIVE_AT.items():
        if level in reached and all(_holds_at(level, *each) for each in falsifiers):
            return active
    return Status.PARTIAL_ALGORITHM_LEVEL


def _holds_at(at: Level, discharge: Discharge, reached: Level | None, required: Level) -> bool:
    if reached is None:
        return False
    return reached.rank >= at.rank or (
        discharge is Discharge.DISCHARGED and required.rank < at.rank
    )


def denominator(verdicts: Collection[Verdict]) -> str:
    """`3 of 5 corroborated, 1 blocked, 1 not run`: a summary never hides what it is out of."""
    counts = [(verdict, list(verdicts).count(verdict)) for verdict in Verdict]
    parts = [f"{counts[0][1]} of {len(verdicts)} corroborated"]
    parts += [f"{n} {verdict.lower().replace('_', ' ')}" for verdict, n in counts[1:] if n]
    return ", ".join(parts)

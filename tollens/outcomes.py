"""What a test says of a falsifier, and how several tests fold into one outcome.

Knows nothing of pytest: trials arrive as plain data, so that they can cross process borders.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tollens.bounds import Judged
from tollens.verdicts import Kill, Level, Verdict, worst


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Attached:
    """A file that a test added to the evidence, kept in the cache under its digest."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Observed:
    """The named real artefact that a trial observed."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Trial:
    """One test (one parameter set) under one falsifier."""

    falsifier: str
    test: str
    verdict: Verdict
    reason: str
    level: Level
    seconds: float
    measures: Mapping[str, Judged]
    attachments: tuple[Attached, ...] = ()
    artifact: Observed | None = None
    kills: Mapping[str, tuple[Kill, str]] = field(default_factory=dict)

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Trial:
        data: dict[str, Any] = json.loads(text)
        return cls(
            falsifier=data["falsifier"],
            test=data["test"],
            verdict=Verdict(data["verdict"]),
            reason=data["reason"],
            level=Level(data["level"]),
            seconds=data["seconds"],
            measures={name: _judged(each) for name, each in data["measures"].items()},
            attachments=tuple(Attached(**each) for each in data["attachments"]),
            artifact=Observed(**data["artifact"]) if data["artifact"] else None,
            kills={name: (Kill(kill), why) for name, (kill, why) in data["kills"].items()},
        )


def _judged(data: dict[str, Any]) -> Judged:
    interval = tuple(data["interval"]) if data["interval"] else None
    return Judged(**{**data, "interval": interval, "verdict": Verdict(data["verdict"])})


@dataclass(frozen=True)
class Outcome:
    """All trials of one falsifier at one level in one run; the worst of them counts."""

    falsifier: str
    level: Level
    verdict: Verdict
    reason: str
    tests: tuple[str, ...]
    seconds: float
    measures: Mapping[str, Judged]
    attachments: tuple[Attached, ...]
    artifact: Observed | None


def fold(trials: Iterable[Trial]) -> list[Outcome]:
    """Outcomes by falsifier and level, the same in whatever order the tests ran."""
    groups: dict[tuple[str, Level], list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.test):
        groups.setdefault((trial.falsifier, trial.level), []).append(trial)
    return [_fold(group) for group in groups.values()]


def _fold(trials: list[Trial]) -> Outcome:
    verdict = worst(trial.verdict for trial in trials)
    decisive = next(trial for trial in trials if trial.verdict is verdict)
    names = dict.fromkeys(name for trial in trials for name in trial.measures)
    return Outcome(
        falsifier=decisive.falsifier,
        level=decisive.level,
        verdict=verdict,
        reason=decisive.reason,
        tests=tuple(sorted({trial.test for trial in trials if trial.test})),
        seconds=sum(trial.seconds for trial in trials),
        measures={name: _worst_measure(name, trials) for name in names},
        attachments=tuple(dict.fromkeys(each for t in trials for each in t.attachments)),
        artifact=next((t.artifact for t in trials if t.artifact), None),
    )


def _worst_measure(name: str, trials: list[Trial]) -> Judged:
    return min((t.measures[name] for t in trials if name in t.measures), key=_goodness)


def _goodness(judged: Judged) -> tuple[int, float]:
    return -judged.verdict.rank, judged.margin if judged.margin is not None else 0.0


def fold_kills(trials: Iterable[Trial]) -> dict[tuple[str, str], tuple[Kill, str]]:
    """Fate of each (falsifier, saboteur): killed if any of the falsifier's tests killed it."""
    order = (Kill.KILLED, Kill.SURVIVED, Kill.ERROR)
    fates: dict[tuple[str, str], tuple[Kill, str]] = {}
    for trial in sorted(trials, key=lambda trial: trial.test):
        for name, fate in trial.kills.items():
            known = fates.get((trial.falsifier, name), fate)
            fates[trial.falsifier, name] = min(known, fate, key=lambda each: order.index(each[0]))
    return fates

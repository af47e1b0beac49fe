"""What should stand after a run is recorded: the tables of verdicts, told a second time.

An oracle for merging, discharge and status that shares no code with the harness: words are text,
and the rules are those of the tables in the documentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LEVELS = ("algorithm", "functional", "runtime")
ACTIVE = {
    "algorithm": "ACTIVE_ALGORITHM_LEVEL",
    "functional": "ACTIVE_FUNCTIONAL",
    "runtime": "ACTIVE_RUNTIME",
}


def discharge_of(verdicts: Mapping[str, str], required: str, fates: Iterable[str]) -> str:
    """Discharge from level → verdict of the fresh results and the fates of the saboteurs."""
    said, fates = list(verdicts.values()), list(fates)
    if "FALSIFIED" in said:
        return "FALSIFIED"
    if "CORROBORATED" in said:
        enough = LEVELS[LEVELS.index(required) :]
        reached = any(verdicts.get(level) == "CORROBORATED" for level in enough)
        all_killed = fates != [] and fates.count("killed") == len(fates)
        return "DISCHARGED" if reached and all_killed else "PARTIAL_ALGORITHM_LEVEL"
    return "BLOCKER_FIXTURE_ABSENT" if said and set(said) <= {"BLOCKED"} else "OPEN"


def status_of(falsifiers: list[tuple[str, Mapping[str, str], str]]) -> str:
    """Status from (discharge, level → verdict, required level) of each falsifier."""
    if any(discharge == "FALSIFIED" for discharge, _, _ in falsifiers):
        return "FALSIFIED"
    tops = [highest(verdicts) for _, verdicts, _ in falsifiers]
    if set(tops) == {None}:
        return "PROPOSED"
    for level in reversed(LEVELS):
        holds = [
            top is not None
            and (
                LEVELS.index(top) >= LEVELS.index(level)
                or (discharge == "DISCHARGED" and LEVELS.index(required) < LEVELS.index(level))
            )
            for top, (discharge, _, required) in zip(tops, falsifiers, strict=True)
        ]
        if all(holds) and level in tops:
            return ACTIVE[level]
    return "PARTIAL_ALGORITHM_LEVEL"


def highest(verdicts: Mapping[str, str]) -> str | None:
    """The highest level at which the results corroborate."""
    reached = [level for level in LEVELS if verdicts.get(level) == "CORROBORATED"]
    return reached[-1] if reached else None


@dataclass
class Ledger:
    """Everything that was said of one contract, and what follows from it.

    `kills` maps each falsifier to the saboteurs that it must kill. A result counts while the
    version under which it was said is today's.
    """

    required: Mapping[str, str]
    kills: Mapping[str, list[str]] = field(default_factory=dict)
    version: str = "1.0.0"
    results: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    fates: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    history: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)

    def say(self, falsifier: str, level: str, verdict: str) -> None:
        """Take in one outcome; several of one run are said with the blocked ones last."""
        others = [key for key in self.results if key[0] == falsifier]
        blocked = [key for key in others if self.results[key][0] == "BLOCKED"]
        if verdict == "NOT_RUN" or (verdict == "BLOCKED" and len(others) > len(blocked)):
            return
        for key in blocked:
            del self.results[key]
        self.results[falsifier, level] = verdict, self.version

    def tell(self, falsifier: str, saboteur: str, fate: str) -> None:
        """Take in the fate of a saboteur; one that survived voids what was corroborated."""
        self.fates[falsifier, saboteur] = fate, self.version

    def settle(self) -> None:
        """Void what is corroborated while a saboteur of the same version survives."""
        for (falsifier, level), (verdict, version) in self.results.items():
            survived = any(
                key[0] == falsifier and said == ("survived", version)
                for key, said in self.fates.items()
            )
            if verdict == "CORROBORATED" and survived:
                self.results[falsifier, level] = "VACUOUS", version

    def fresh(self, falsifier: str) -> dict[str, str]:
        return {
            level: verdict
            for (name, level), (verdict, version) in self.results.items()
            if name == falsifier and version == self.version
        }

    def discharges(self) -> dict[str, str]:
        return {
            name: discharge_of(self.fresh(name), level, self._fates(name))
            for name, level in self.required.items()
        }

    def _fates(self, falsifier: str) -> list[str]:
        said = [self.fates.get((falsifier, name)) for name in self.kills.get(falsifier, [])]
        return [each[0] if each and each[1] == self.version else "untold" for each in said]

    def status(self) -> str:
        return status_of(
            [
                (discharge, self.fresh(name), self.required[name])
                for name, discharge in self.discharges().items()
            ]
        )

    def entry(self) -> list[tuple[str, str, str, dict[str, str]]]:
        """The entry (version, from, to, moved discharges) that the history needs now, if any."""
        said = dict.fromkeys(self.required, "OPEN")
        for *_, moved in self.history:
            said |= moved
        version, _, last, _ = self.history[-1] if self.history else ("", "", "PROPOSED", {})
        status, discharges = self.status(), self.discharges()
        moved = {name: now for name, now in discharges.items() if now != said[name]}
        if (version, last) == (self.version, status) and not moved or not self.results:
            return []
        self.history.append((self.version, last, status, moved))
        return self.history[-1:]

"""What a reviewer has to know of a change: what stands otherwise than at an earlier commit.

Compares what the evidence files say by themselves, then and now, so that what was stale before is
no one's change; what does not count today is said apart. Loud is whatever lowers the bar or leaves
a claim without support. Knows no markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tollens import contract as contract_file
from tollens import evidence as evidence_file
from tollens.bounds import show
from tollens.contract import Contract
from tollens.difference import Bump, compare, given, needed
from tollens.errors import ContractError, EvidenceError
from tollens.evidence import Evidence, MeasureResult
from tollens.lint import Inspection
from tollens.project import Project
from tollens.review import UNPROVEN, Review, reasons
from tollens.revisions import contents, tree
from tollens.source import parse
from tollens.standing import Standing, recorded
from tollens.verdicts import Kill, Verdict, denominator


@dataclass(frozen=True)
class Line:
    """One thing to know: a word for it, what it is about, and the particulars."""

    word: str
    about: str
    text: str = ""

    def __str__(self) -> str:
        return f"{self.word} {self.about}{': ' if self.text else ''}{self.text}"


def grouped(lines: Iterable[Line]) -> list[tuple[Line, list[str]]]:
    """Lines that say the same, as one line of them and all that they are about."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.word, line.text), []).append(line)
    return [(group[0], [line.about for line in group]) for group in groups.values()]


@dataclass(frozen=True)
class Side:
    """The contracts and the evidence of one side, by contract id; and what could not be read."""

    contracts: Mapping[str, Contract]
    evidence: Mapping[str, Evidence | None]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def standing(self, name: str) -> Standing:
        return recorded(self.contracts[name], self.evidence.get(name))

    @property
    def summary(self) -> str:
        standings = map(self.standing, self.contracts)
        return denominator([each.verdict for one in standings for each in one.falsifiers])


@dataclass(frozen=True)
class Section:
    """Lines of one kind, the worst first."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Since:
    """What does not stand today and, with a `commit`, what changed since it.

    `lowered` is where the bar is lower now; `summary` is what was recorded at the commit.
    """

    commit: str
    summary: str
    alarms: tuple[Line, ...]
    lowered: tuple[Line, ...] = ()
    sections: tuple[Section, ...] = ()

    @property
    def loud(self) -> tuple[Line, ...]:
        """What nobody may overlook."""
        return (*self.lowered, *self.alarms)

    def as_json(self) -> dict[str, Any]:
        return {
            "commit": self.commit or None,
            "summary": self.summary or None,
            "alarms": [vars(line) for line in self.alarms],
            "lowered": [vars(line) for line in self.lowered],
            "sections": {each.title: [vars(line) for line in each.lines] for each in self.sections},
        }


def since(inspection: Inspection, review: Review, commit: str) -> Since:
    """What is loud now and, with a `commit`, what is otherwise than there."""
    alarms = tuple(_alarms(review))
    if not commit:
        return Since("", "", alarms)
    new = _now(review)
    old = _then(inspection, commit, new)
    bar = list(_bar(old, new))
    lowered = tuple(line for bump, line in bar if bump is Bump.MAJOR)
    claims = [line for bump, line in bar if bump is not Bump.MAJOR]
    sections = [
        Section("Verdicts", tuple(_verdicts(old, new))),
        Section("Discharges", tuple(_discharges(old, new))),
        Section("Claims", (*claims, *_added(old, new))),
        Section("Saboteurs", tuple(_kills(old, new))),
        Section("Measures", tuple(_measures(old, new))),
    ]
    shown = tuple(each for each in sections if each.lines)
    return Since(commit, old.summary, alarms, lowered, shown)


def _alarms(review: Review) -> Iterator[Line]:
    for c in review.contracts:
        if c.problem:
            yield Line("unusable evidence", c.loaded.contract.id, c.problem)
    for f in sorted(review.falsifiers, key=lambda each: each.badness):
        for word, text in reasons(f):
            yield Line(word, f.falsifier.id, text)


def _now(review: Review) -> Side:
    contracts = {each.loaded.contract.id: each.loaded.contract for each in review.contracts}
    evidence = {each.loaded.contract.id: each.evidence for each in review.contracts}
    return Side(contracts, evidence)


def _then(inspection: Inspection, commit: str, new: Side) -> Side:
    """The contracts and the evidence as a commit had them; the same evidence is not reread."""
    project = inspection.project
    files = {
        name: path
        for folder in (project.contracts, project.evidence)
        for path, name in tree(project.root, commit, folder).items()
        if Path(path).suffix in (".yaml", ".yml") or Path(path).name == "evidence.json"
    }
    contracts: dict[str, Contract] = {}
    evidence: dict[str, Evidence | None] = {}
    unreadable: dict[str, str] = {}
    for name, data in contents(project.root, files):
        path = Path(files[name])
        try:
            if path.suffix != ".json":
                text = data.decode(errors="replace")
                contracts[path.stem] = contract_file.validate(path, parse(text, str(path))).contract
            elif (project.root / path).is_file() and (project.root / path).read_bytes() == data:
                evidence[path.parent.name] = new.evidence.get(path.parent.name)
            else:
                evidence[path.parent.name] = evidence_file.parse(data, str(path))
        except (ContractError, EvidenceError) as error:
            unreadable[str(path)] = str(error).partition("\n")[0]
    asked = {name: each for name, each in contracts.items() if _asked_for(project, name, new)}
    return Side(asked, evidence, unreadable)


def _asked_for(project: Project, name: str, new: Side) -> bool:
    """Whether a contract of the past is among those looked at, or is there no more."""
    there = {path.stem for path in project.contract_files()}
    return name in new.contracts or name not in there


def _bar(old: Side, new: Side) -> Iterator[tuple[Bump, Line]]:
    """Every change of the claims with the bump that it needs, the weightiest first."""
    for path, why in old.unreadable.items():
        yield Bump.NONE, Line("not compared", path, why)
    for name in sorted(old.contracts.keys() - new.contracts.keys()):
        count = len(old.contracts[name].falsifiers)
        yield Bump.MAJOR, Line("contract removed", name, f"with {count} falsifier(s)")
    changes = []
    for name in sorted(old.contracts.keys() & new.contracts.keys()):
        before, after = old.contracts[name], new.contracts[name]
        found = compare(before, after)
        gave, need = given(before, after), needed(found)
        versions = f"{before.version} -> {after.version}"
        if need > gave:
            text = f"{versions} gives {gave.name.lower()}, the change needs {need.name.lower()}"
            yield Bump.MAJOR, Line("version too low", name, text)
        changes += [
            (each.bump, Line(_word(each.bump), f"{name}: {each.key}", each.what)) for each in found
        ]
    yield from sorted(changes, key=lambda each: -each[0])


def _word(bump: Bump) -> str:
    return "lower bar" if bump is Bump.MAJOR else bump.name.lower()


def _added(old: Side, new: Side) -> Iterator[Line]:
    for name in sorted(new.contracts.keys() - old.contracts.keys()):
        verdicts = [each.verdict for each in new.standing(name).falsifiers]
        yield Line("contract added", name, f"{new.contracts[name].title}; {denominator(verdicts)}")


def _both(old: Side, new: Side) -> Iterator[tuple[Standing, Standing]]:
    for name in sorted(old.contracts.keys() & new.contracts.keys()):
        yield old.standing(name), new.standing(name)


def _verdicts(old: Side, new: Side) -> list[Line]:
    """Verdicts of what was recorded, by falsifier and level, where they differ."""
    found = []
    for before, after in _both(old, new):
        was, now = ({_at(each, level): (verdict, each.results[level].reason)
                     for each in side.falsifiers for level, verdict in each.verdicts.items()}
                    for side in (before, after))  # fmt: skip
        for key in sorted(was.keys() | now.keys()):
            old_verdict, _ = was.get(key, (Verdict.NOT_RUN, ""))
            verdict, reason = now.get(key, (Verdict.NOT_RUN, ""))
            if verdict is not old_verdict:
                told = f", {reason}" if reason else ""
                found.append((-verdict.rank, Line(verdict, key, f"was {old_verdict}{told}")))
    return [line for _, line in sorted(found, key=lambda each: each[0])]


def _at(each: Any, level: str) -> str:
    return f"{each.falsifier.id} at level {level}"


def _discharges(old: Side, new: Side) -> list[Line]:
    found = []
    for before, after in _both(old, new):
        was = before.discharges
        for name, discharge in after.discharges.items():
            if name in was and was[name] is not discharge:
                found.append(Line(discharge, name, f"was {was[name]}"))
        if before.status is not after.status:
            found.append(Line(after.status, after.contract.id, f"was {before.status}"))
    order = ["FALSIFIED", "OPEN", "PROPOSED", "BLOCKER_FIXTURE_ABSENT", "PARTIAL_ALGORITHM_LEVEL"]
    return sorted(found, key=lambda line: [*order, line.word].index(line.word))


def _kills(old: Side, new: Side) -> list[Line]:
    """Fates of saboteurs that differ; those that survived come first."""
    found = []
    for before, after in _both(old, new):
        for each in after.falsifiers:
            known = [one for one in before.falsifiers if one.falsifier.id == each.falsifier.id]
            was = known[0].kills if known else {}
            for name in each.falsifier.kills:
                fate, earlier = (
                    kills[name].outcome if name in kills else UNPROVEN
                    for kills in (each.kills, was)
                )
                if fate != earlier:
                    about = f"{name} under {each.falsifier.id}"
                    found.append(Line(fate, about, f"was {earlier}"))
    order = [Kill.SURVIVED, Kill.ERROR, UNPROVEN, Kill.KILLED]
    return sorted(found, key=lambda line: order.index(line.word))


def _measures(old: Side, new: Side) -> list[Line]:
    """Measures with another value; what lost the largest share of its margin comes first."""
    found = []
    for before, after in _both(old, new):
        was, now = (dict(_values(side)) for side in (before, after))
        for key in sorted(was.keys() & now.keys()):
            if was[key].value != now[key].value:
                word = "moved" if now[key].held else "broken"
                line = Line(word, key, _moved(was[key], now[key]))
                found.append((_lost(was[key], now[key]), line))
    return [line for _, line in sorted(found, key=lambda each: each[0])]


def _values(side: Standing) -> Iterator[tuple[str, MeasureResult]]:
    for each in side.falsifiers:
        for level, result in each.results.items():
            for name, measure in result.measures.items():
                yield f"{_at(each, level)}, {name}", measure


def _lost(was: MeasureResult, now: MeasureResult) -> tuple[bool, float]:
    """Smaller is worse: broken first, then by the share of the margin that is left."""
    if was.margin is None or now.margin is None:
        return now.held, 1.0
    return now.held, (now.margin - was.margin) / (abs(was.margin) or abs(now.margin) or 1.0)


def _moved(was: MeasureResult, now: MeasureResult) -> str:
    margins: Iterable[float] = [each.margin for each in (was, now) if each.margin is not None]
    told = f", margin {' -> '.join(f'{each:+.3g}' for each in margins)}" if margins else ""
    return f"{show(was.value)} -> {show(now.value)}, bound {now.bound}{told}"

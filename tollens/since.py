"""What a reviewer has to know of a change: what stands otherwise than at an earlier commit.

Compares what the evidence files say by themselves, then and now, so that what was stale before is
no one's change; what does not count today is said apart. Loud is whatever lowers the bar or leaves
a claim without support. Knows no markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tollens import moved
from tollens.difference import Bump, compare, given, needed
from tollens.moved import Line
from tollens.project import Project
from tollens.review import Review, reasons
from tollens.sides import Side, now, then
from tollens.verdicts import denominator


def grouped(lines: Iterable[Line]) -> list[tuple[Line, list[str]]]:
    """Lines that say the same, as one line of them and all that they are about."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.word, line.text), []).append(line)
    return [(group[0], [line.about for line in group]) for group in groups.values()]


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


def since(project: Project, review: Review, commit: str) -> Since:
    """What is loud now and, with a `commit`, what is otherwise than there."""
    alarms = tuple(_alarms(review))
    if not commit:
        return Since("", "", alarms)
    new = now(review)
    old = then(project, commit, new)
    bar = list(_bar(old, new))
    lowered = tuple(line for bump, line in bar if bump is Bump.MAJOR)
    claims = [line for bump, line in bar if bump is not Bump.MAJOR]
    sections = [
        Section("Verdicts", tuple(moved.verdicts(old, new))),
        Section("Discharges", tuple(moved.discharges(old, new))),
        Section("Claims", (*claims, *_added(old, new))),
        Section("Saboteurs", tuple(moved.kills(old, new))),
        Section("Measures", tuple(moved.measures(old, new))),
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
    unread = {Path(path).stem for path in old.unreadable}
    for name in sorted(new.contracts.keys() - old.contracts.keys() - unread):
        verdicts = [each.verdict for each in new.standing(name).falsifiers]
        yield Line("contract added", name, f"{new.contracts[name].title}; {denominator(verdicts)}")

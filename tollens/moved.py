"""What the evidence says otherwise on two sides: verdicts, discharges, saboteurs, measures.

Each list has the worst first. Knows no markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tollens.bounds import show
from tollens.evidence import MeasureResult
from tollens.review import UNPROVEN, WORST
from tollens.sides import Side
from tollens.standing import Standing
from tollens.verdicts import Kill, Status, Verdict


@dataclass(frozen=True)
class Line:
    """One thing to know: a word for it, what it is about, and the particulars."""

    word: str
    about: str
    text: str = ""


def _both(old: Side, new: Side) -> Iterator[tuple[Standing, Standing]]:
    for name in sorted(old.contracts.keys() & new.contracts.keys()):
        yield old.standing(name), new.standing(name)


def verdicts(old: Side, new: Side) -> list[Line]:
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


def discharges(old: Side, new: Side) -> list[Line]:
    found = []
    for before, after in _both(old, new):
        was = before.discharges
        for name, discharge in after.discharges.items():
            if name in was and was[name] is not discharge:
                found.append(Line(discharge, name, f"was {was[name]}"))
        if before.status is not after.status:
            found.append(Line(after.status, after.contract.id, f"was {before.status}"))
    order = [*WORST[:2], Status.PROPOSED, *WORST[2:], *Status]
    return sorted(found, key=lambda line: order.index(line.word))


def kills(old: Side, new: Side) -> list[Line]:
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


def measures(old: Side, new: Side) -> list[Line]:
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

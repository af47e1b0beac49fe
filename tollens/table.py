"""The closing table of a run: text that needs no colour and no more than 80 columns.

Only an id or a path that is longer by itself makes a line longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tollens.bounds import Judged, show
from tollens.dialect import NAME, Foreign
from tollens.outcomes import Outcome
from tollens.unbound import UNBOUND, summary
from tollens.verdicts import Kill, Status, Verdict, denominator
from tollens.wrapping import wrap

if TYPE_CHECKING:
    from tollens.session import Closed, Session


def lines(session: Session) -> Iterator[str]:
    """The table of each contract, the kill matrix, what failed, and the denominator."""
    for closed in session.closed:
        yield from _contract(closed)
    for foreign in session.foreign if session.closed else ():
        yield from _foreign(foreign)
    if session.sabotage:
        yield from _matrix(session)
    for failure in session.failures:
        yield from wrap(f"FAILED {failure}", "", " " * 7)
    if session.closed:
        verdicts = [verdict for each in session.closed for verdict in each.verdicts.values()]
        verdicts += [Verdict.NOT_RUN for each in session.foreign for _ in each.falsifiers]
        count = len(session.closed) + len(session.foreign)
        yield from wrap(f"{denominator(verdicts)}; {count} contract(s)", "", "  ")


def _contract(closed: Closed) -> Iterator[str]:
    contract, standing = closed.loaded.contract, closed.recorded.standing
    yield ""
    yield from wrap(f"{contract.id} {contract.version}  {contract.title}", "", "  ")
    for falsifier in contract.falsifiers:
        yield f"  {falsifier.id}"
        for outcome in closed.of(falsifier.id):
            yield from _outcome(outcome, standing[falsifier.id].discharge)
    said = denominator(list(closed.verdicts.values()))
    yield from wrap(f"{standing.status}; {said}{_wrote(closed)}", "  ", "    ")


def _foreign(foreign: Foreign) -> Iterator[str]:
    """A contract in another dialect: nothing in it is bound, so nothing of it was run."""
    yield ""
    yield from wrap(f"{foreign.id} {foreign.version}  in the {NAME} dialect", "", "  ")
    for prose in foreign.falsifiers:
        yield f"  {prose.id}"
        yield f"    {Verdict.NOT_RUN:<12}  {UNBOUND}"
    yield from wrap(f"{Status.PROPOSED}; {summary(foreign)}", "  ", "    ")


def _outcome(outcome: Outcome, discharge: str) -> Iterator[str]:
    told = f"{outcome.verdict:<12}  {outcome.level:<10}  {discharge:<23}"
    yield f"    {told}  {outcome.seconds:.2f} s"
    for name, judged in outcome.measures.items():
        yield from _measure(name, judged)
    yield from wrap(outcome.reason, " " * 6, " " * 6, rows=4)


def _measure(name: str, judged: Judged) -> list[str]:
    unit = f" {judged.unit}" if judged.unit not in ("", "1") else ""
    mark = " " if judged.held else "!"
    value = f"{show(judged.value)} {judged.bound}{unit}"
    margin = "" if judged.margin is None else f"  margin {show(float(judged.margin))}"
    text = f"{mark} {name:<26} {value}{margin}"
    return wrap(text, " " * 6, " " * 10, rows=4, break_long_words=True)


def _wrote(closed: Closed) -> str:
    recorded = closed.recorded
    wrote = ["evidence"] if recorded.wrote_evidence else []
    if recorded.entry:
        wrote.append(f"history {recorded.entry.from_} -> {recorded.entry.to}")
    return f"; recorded {' and '.join(wrote)}" if wrote else ""


def _matrix(session: Session) -> Iterator[str]:
    kills = [(key, fate) for closed in session.closed for key, fate in closed.kills.items()]
    killed = sum(fate is Kill.KILLED for _, (fate, _) in kills)
    yield ""
    yield f"kill matrix: {killed} of {len(kills)} killed"
    last = ""
    for (falsifier, saboteur), (fate, reason) in kills:
        if falsifier != last:
            yield f"  {falsifier}"
            last = falsifier
        yield f"    {fate:<9} {saboteur}"
        if fate is not Kill.KILLED:
            yield from wrap(reason, " " * 14, " " * 14, rows=4)
    yield ""

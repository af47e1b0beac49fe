"""The kill matrix of a contract: what became of each saboteur under each falsifier; no markup."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tollens.review import UNPROVEN, ContractView
from tollens.verdicts import Kill

MARKS: dict[str, str] = {Kill.KILLED: "✓", Kill.SURVIVED: "✗", Kill.ERROR: "!", UNPROVEN: "?"}


@dataclass(frozen=True)
class Cell:
    """A place in the kill matrix: what became of the saboteur, or `span` places without one."""

    outcome: str = ""
    mark: str = ""
    span: int = 1


@dataclass(frozen=True)
class Row:
    """A saboteur and its places in the kill matrix."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Matrix:
    """Saboteurs by falsifiers of one contract."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    killed: int
    total: int


def matrix(c: ContractView) -> Matrix:
    """The kill matrix of a contract, falsifiers in the contract's order."""
    order = sorted(c.falsifiers, key=lambda each: each.place)
    fates = {each.falsifier.id: {k.name: k.outcome for k in each.kills} for each in order}
    names = dict.fromkeys(name for fate in fates.values() for name in fate)
    rows = (Row(name, _cells([fate.get(name, "") for fate in fates.values()])) for name in names)
    outcomes = [outcome for fate in fates.values() for outcome in fate.values()]
    return Matrix(tuple(fates), tuple(rows), outcomes.count(Kill.KILLED), len(outcomes))


def _cells(outcomes: Iterable[str]) -> tuple[Cell, ...]:
    """The places of a row; neighbours without an outcome are one."""
    cells: list[Cell] = []
    for outcome in outcomes:
        if outcome:
            cells.append(Cell(outcome, MARKS[outcome]))
        elif cells and not cells[-1].outcome:
            cells[-1] = Cell(span=cells[-1].span + 1)
        else:
            cells.append(Cell())
    return tuple(cells)

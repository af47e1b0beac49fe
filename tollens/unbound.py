"""How a contract in another dialect is shown: nothing in it is bound, so nothing was observed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tollens.dialect import NAME, Foreign, Prose
from tollens.rules import RULES
from tollens.verdicts import Discharge, Status, Verdict, denominator

UNBOUND = "unbound: its test is prose"


def summary(foreign: Foreign) -> str:
    """`0 of 3 corroborated, 3 not run`."""
    return denominator([Verdict.NOT_RUN for _ in foreign.falsifiers])


def beside(foreign: Sequence[Foreign]) -> str:
    """What a page that shows none of them says of it; nothing where there are none."""
    claims = sum(len(each.falsifiers) for each in foreign)
    said = f"; {len(foreign)} contract(s) in the {NAME} dialect with {claims} unbound falsifier(s)"
    return said if foreign else ""


def lines(foreign: Foreign) -> Iterator[str]:
    """What `tollens status` says of it."""
    yield f"{foreign.id} {foreign.version}  {Status.PROPOSED}  in the {NAME} dialect"
    yield f"  {summary(foreign)}; to be imported"
    for each in foreign.falsifiers:
        yield f"  {Discharge.OPEN:<23}  {each.id}  {UNBOUND}"


def as_json(foreign: Foreign) -> dict[str, Any]:
    """The same for programs, with the keys that a contract of ours has."""
    return {
        "id": foreign.id,
        "version": foreign.version,
        "status": Status.PROPOSED,
        "dialect": NAME,
        "gates": {},
        "falsifiers": [
            {
                "id": each.id,
                "bound": False,
                "verdict": Verdict.NOT_RUN,
                "discharge": Discharge.OPEN,
                "level": None,
                "stale": [],
                "kills": {},
            }
            for each in foreign.falsifiers
        ],
    }


def facts(foreign: Foreign, prose: Prose) -> dict[str, Any]:
    """What `tollens explain` says of one of its falsifiers."""
    path = foreign.source.path
    return {
        "id": prose.id,
        "contract": f"{path}:{foreign.source.line(prose.at)}",
        "rule": prose.said("rule") or "not stated",
        "prediction": prose.said("prediction") or "not stated",
        "test in prose": prose.said("test") or "not stated",
        "verdict": Verdict.NOT_RUN,
        "discharge": Discharge.OPEN,
        "tests": [],
        "do": RULES["prose"][1].replace("CONTRACT", path),
    }

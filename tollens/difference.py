"""What changed between two versions of a contract's claims, and the version bump that it needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from tollens.bounds import Measure
from tollens.contract import Contract, Falsifier, Gate
from tollens.verdicts import Level


class Bump(IntEnum):
    """Semantic version of the claims: a promise less is major, a promise more is minor."""

    NONE = 0
    PATCH = 1
    MINOR = 2
    MAJOR = 3


@dataclass(frozen=True)
class Change:
    """One change of the claims: where, what, and the bump that it needs."""

    key: str
    what: str
    bump: Bump

    def __str__(self) -> str:
        return f"{self.bump.name.lower():<6} {self.key}: {self.what}"


def compare(old: Contract, new: Contract) -> list[Change]:
    """Changes from `old` to `new`, the weightiest first."""
    found = list(_changes(old, new))
    if not found and _claims(old) != _claims(new):
        found = [Change("claims", "rewritten or reordered", Bump.PATCH)]
    return sorted(found, key=lambda change: -change.bump)


def needed(changes: list[Change]) -> Bump:
    return max((change.bump for change in changes), default=Bump.NONE)


def given(old: Contract, new: Contract) -> Bump:
    """The bump that the versions show; NONE where the new one is not higher."""
    before, after = (tuple(map(int, each.version.split("."))) for each in (old, new))
    if after <= before:
        return Bump.NONE
    first = next(i for i in range(3) if before[i] != after[i])
    return (Bump.MAJOR, Bump.MINOR, Bump.PATCH)[first]


def _claims(contract: Contract) -> str:
    """The claims as text, whatever their version; lists keep their order."""
    return contract.model_dump_json(exclude={"version", "status_history"})


def _changes(old: Contract, new: Contract) -> Iterator[Change]:
    for name in ("title", "description", "references", "equations"):
        if getattr(old, name) != getattr(new, name):
            yield Change(name, "reworded", Bump.PATCH)
    for name in ("subject", "depends_on"):
        if getattr(old, name) != getattr(new, name):
            was, now = (" ".join(getattr(each, name)) or "nothing" for each in (old, new))
            more = name == "subject" and set(old.subject) <= set(new.subject)
            yield Change(name, f"{was} -> {now}", Bump.MINOR if more else Bump.MAJOR)
    before = {each.id: each for each in old.falsifiers}
    after = {each.id: each for each in new.falsifiers}
    yield from _members("falsifier", before, after)
    for name in sorted(before.keys() & after.keys()):
        yield from _falsifier(before[name], after[name])
    old_gates = {gate.id: gate for gate in old.gates}
    new_gates = {gate.id: gate for gate in new.gates}
    yield from _members("gate", old_gates, new_gates)
    for name in sorted(old_gates.keys() & new_gates.keys()):
        yield from _gate(old_gates[name], new_gates[name])


def _gate(old: Gate, new: Gate) -> Iterator[Change]:
    for name in sorted(set(old.requires) - set(new.requires)):
        yield Change(old.id, f"the gate does not require {name} any more", Bump.MAJOR)
    for name in sorted(set(new.requires) - set(old.requires)):
        yield Change(old.id, f"the gate requires {name} too", Bump.MINOR)
    if old.ship_blocking != new.ship_blocking:
        what = "blocks" if new.ship_blocking else "does not block"
        bump = Bump.MINOR if new.ship_blocking else Bump.MAJOR
        yield Change(old.id, f"the gate {what} a release", bump)


def _members(kind: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    for name in sorted(old.keys() - new.keys()):
        yield Change(name, f"{kind} removed", Bump.MAJOR)
    for name in sorted(new.keys() - old.keys()):
        yield Change(name, f"{kind} added", Bump.MINOR)


def _falsifier(old: Falsifier, new: Falsifier) -> Iterator[Change]:
    for name in ("rule", "prediction", "if_fails"):
        if getattr(old, name) != getattr(new, name):
            yield Change(f"{old.id}.{name}", "reworded", Bump.PATCH)
    if old.level != new.level:
        bump = Bump.MINOR if new.level.rank > old.level.rank else Bump.MAJOR
        yield Change(f"{old.id}.level", f"{old.level} -> {new.level}", bump)
    if old.needs != new.needs:
        yield Change(old.id, "its needs changed", Bump.MAJOR)
    strict = [[each.strict_freshness(level) for level in Level] for each in (old, new)]
    if strict[0] != strict[1]:
        bump = Bump.MINOR if sum(strict[1]) > sum(strict[0]) else Bump.MAJOR
        yield Change(old.id, "its freshness changed", bump)
    for saboteur in sorted(set(old.kills) - set(new.kills)):
        yield Change(f"{old.id}.kills", f"{saboteur} need not be killed any more", Bump.MAJOR)
    for saboteur in sorted(set(new.kills) - set(old.kills)):
        yield Change(f"{old.id}.kills", f"{saboteur} must be killed too", Bump.MINOR)
    prefixed = [
        {f"{old.id}.measures.{name}": m for name, m in each.measures.items()} for each in (old, new)
    ]
    yield from _members("measure", *prefixed)
    for name in sorted(prefixed[0].keys() & prefixed[1].keys()):
        yield from _measure(name, prefixed[0][name], prefixed[1][name])


def _measure(key: str, old: Measure, new: Measure) -> Iterator[Change]:
    if (old.unit, old.confidence) != (new.unit, new.confidence):
        yield Change(key, "its unit or its confidence changed", Bump.MAJOR)
    before, after = ((each.kind, type(each.limit), each.limit) for each in (old, new))
    if before == after:
        return
    inner, outer = _interval(new), _interval(old)
    if inner is None or outer is None:
        yield Change(key, f"another bound: {old} -> {new}", Bump.MAJOR)
    elif outer[0] <= inner[0] and inner[1] <= outer[1]:
        yield Change(key, f"tightened: {old} -> {new}", Bump.MINOR)
    else:
        yield Change(key, f"loosened: {old} -> {new}", Bump.MAJOR)


def _interval(measure: Measure) -> tuple[tuple[float, bool], tuple[float, bool]] | None:
    """What an ordered bound admits: (low, excluded) and (high, included); None for equality."""
    if measure.kind == "eq":
        return None
    low, high = (-math.inf, True), (math.inf, False)
    if measure.between:
        return (measure.between[0], False), (measure.between[1], True)
    if measure.kind in ("le", "lt"):
        return low, (measure.limit, measure.kind == "le")
    return (measure.limit, measure.kind == "gt"), high

"""Reads contracts in the provable-contracts dialect, and says what is wrong or loose in them.

Knows that dialect's keys and their aliases; binds and runs nothing: a `test:` there is prose, so
each falsifier is unbound. Unknown keys are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tollens.errors import Finding, Severity
from tollens.rules import RULES
from tollens.source import Location, Source

NAME = "provable-contracts"
SECTIONS = ("falsification_tests", "falsification", "falsification_conditions")
SIGNS = frozenset({*SECTIONS, "metadata", "proof_obligations", "kani_harnesses", "qa_gate"})
OURS = frozenset({"schema", "falsifiers"})

# our word for a part of a falsifier -> the keys that it goes by, the first of which counts
ALIASES = {
    "id": ("id", "name"),
    "rule": ("rule", "description", "name"),
    "prediction": ("prediction", "expected", "assertion", "check"),
    "test": ("test", "command", "test_harness", "enforcement"),
    "if_fails": ("if_fails", "fails_if"),
}
METADATA = ("version", "description", "references")
# a list, and what each of its items states
STATED = {"proof_obligations": "property", "kani_harnesses": "obligation"}


@dataclass(frozen=True)
class Prose:
    """One falsifier in prose: where it stands, and the key that states each part of it."""

    at: Location
    item: Mapping[str, Any]

    @cached_property
    def keys(self) -> dict[str, str]:
        """Our word for a part -> the key that states it here; no key states two parts."""
        found: dict[str, str] = {}
        for word, aliases in ALIASES.items():
            free = [key for key in aliases if key in self.item and key not in found.values()]
            if free:
                found[word] = free[0]
        return found

    def said(self, word: str) -> Any:
        """What states a part; None where nothing does."""
        return self.item.get(self.keys.get(word, ""))

    @property
    def id(self) -> str:
        """Its id, or, where it states none, where it stands."""
        stated = self.said("id")
        return stated if isinstance(stated, str) else f"{self.at[0]}[{self.at[-1]}]"


@dataclass(frozen=True)
class Foreign:
    """A contract in the other dialect: what could be read of it, and the text it came from."""

    path: Path
    source: Source

    @property
    def id(self) -> str:
        return self.path.stem

    @property
    def version(self) -> str:
        metadata = self.source.data.get("metadata")
        inner = metadata.get("version") if isinstance(metadata, dict) else None
        return str(inner or self.source.data.get("version") or "without a version")

    @cached_property
    def falsifiers(self) -> tuple[Prose, ...]:
        return tuple(
            Prose((section, i), item)
            for section in SECTIONS
            for i, item in enumerate(_list(self.source.data.get(section)))
            if isinstance(item, dict)
        )

    def finding(
        self, rule: str, at: Location, found: str, expected: str, severity: Severity = "warning"
    ) -> Finding:
        finding = self.source.finding(rule, at, found, expected)
        hint = RULES[rule][1].replace("CONTRACT", self.source.path)
        return replace(finding, severity=severity, hint=hint)


def is_foreign(data: object) -> bool:
    """Whether a document is written in the other dialect, by its keys and not by its name."""
    return isinstance(data, dict) and not OURS & data.keys() and bool(SIGNS & data.keys())


def foreign_finding(source: Source) -> Finding:
    """What to say where only a contract of ours will do."""
    found = f"a contract in the {NAME} dialect"
    do = f"run `tollens import {source.path}` first; its falsifiers are prose and bind no test"
    return replace(source.finding("dialect", (), found, "schema: tollens/contract/v1"), hint=do)


def findings(foreign: Foreign) -> Iterator[Finding]:
    """What makes it no contract in its own dialect, as errors; what is loose, as warnings."""
    yield from _shape(foreign)
    yield from _twice(foreign)
    yield from _metadata(foreign)
    for each in foreign.falsifiers:
        yield from _falsifier(foreign, each)
    for section, key in STATED.items():
        for i, item in enumerate(_list(foreign.source.data.get(section))):
            if isinstance(item, dict) and not item.get(key):
                yield foreign.finding("dialect", (section, i), "nothing", f"the key {key!r}")
    if not foreign.falsifiers:
        yield foreign.finding(
            "dialect", (), "no falsifier", "at least one under falsification_tests"
        )


def _shape(foreign: Foreign) -> Iterator[Finding]:
    """Keys whose value is of another kind than the dialect's."""
    data = foreign.source.data
    for key in ("metadata", "equations"):
        if data.get(key) is not None and not isinstance(data[key], dict):
            yield foreign.finding("dialect", (key,), _kind(data[key]), "a mapping", "error")
    for key in (*SECTIONS, *STATED, "status_history"):
        if data.get(key) is not None and not isinstance(data[key], list):
            yield foreign.finding("dialect", (key,), _kind(data[key]), "a list", "error")
        for i, item in enumerate(_list(data.get(key))):
            if not isinstance(item, dict):
                yield foreign.finding("dialect", (key, i), _kind(item), "a mapping", "error")


def _twice(foreign: Foreign) -> Iterator[Finding]:
    """Ids that are declared twice."""
    first: dict[str, Location] = {}
    for at, name in _ids(foreign):
        if name in first:
            line = foreign.source.line(first[name])
            found = f"the id {name} a second time (first on line {line})"
            yield foreign.finding("dialect", at, found, "each id once", "error")
        first.setdefault(name, at)


def _ids(foreign: Foreign) -> Iterator[tuple[Location, str]]:
    for each in foreign.falsifiers:
        if "id" in each.keys:
            yield (*each.at, each.keys["id"]), str(each.said("id"))
    for section in STATED:
        for i, item in enumerate(_list(foreign.source.data.get(section))):
            if isinstance(item, dict) and "id" in item:
                yield (section, i, "id"), str(item["id"])


def _metadata(foreign: Foreign) -> Iterator[Finding]:
    data = foreign.source.data
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        if metadata is None:
            yield foreign.finding("dialect", ("metadata",), "nothing", "the key 'metadata'")
        return
    for key in METADATA:
        if not metadata.get(key):
            yield foreign.finding("dialect", ("metadata", key), "nothing", f"the key {key!r}")
    for at, value in ((("status",), data), (("metadata", "status"), metadata)):
        if value.get("status"):
            found = f"the status {value['status']}, typed by hand"
            yield foreign.finding("prose", at, found, "a status that follows from evidence")


def _falsifier(foreign: Foreign, each: Prose) -> Iterator[Finding]:
    for word in ALIASES:
        if each.said(word) in (None, "", [], {}):
            at = (*each.at, each.keys.get(word, word))
            yield foreign.finding("dialect", at, "nothing", f"the key {word!r}")
        stated, rival = ALIASES[word][:2]
        if each.keys.get(word) == stated and rival in each.item.keys() - {"name"}:
            found = f"{rival} beside {stated}, which states the same"
            yield foreign.finding("dialect", (*each.at, rival), found, "one of the two")
    test = " ".join(str(each.said("test") or "no test").split())
    found = f"{each.id} unbound; its test is prose: {test:.60}"
    yield foreign.finding("prose", (*each.at, each.keys.get("id", "id")), found, "a bound test")


def _list(value: object) -> Iterable[Any]:
    return value if isinstance(value, list) else ()


def _kind(value: object) -> str:
    kinds = {dict: "a mapping", list: "a list", str: "a text", type(None): "nothing"}
    return kinds.get(type(value), f"{value!r:.40}")

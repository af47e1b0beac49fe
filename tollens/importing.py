"""Makes a contract of ours from one in the provable-contracts dialect; drops nothing in silence.

What has a key here gets it; all else is carried as text, `where.it.stood: value`, and what is found
nowhere in the result is listed. Reads a bound only where it is all that a prediction says: any
other falsifier gets a measure that no test observes, and stays unbound.
"""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any

import yaml

from tollens.contract import FALSIFIER_ID, SCHEMA_ID, SEMANTIC, SLUG
from tollens.dialect import NAME, Foreign, Prose
from tollens.source import Location, dotted
from tollens.yaml_writer import dump

UNSTATED = "not stated in the source"
PLACEHOLDER = {"to_be_measured": {"eq": "a bound, of which the source states none"}}
FIRST_VERSION = "0.1.0"
LONGEST_BOUND = 120  # characters; a longer prediction is no bound alone
BOUND = re.compile(
    r"(?P<what>[^:;<>=≤≥]*[A-Za-z][^:;<>=≤≥]*?)\s*(?P<kind><=|>=|≤|≥|<|>)\s*"
    r"(?P<limit>[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?)\s*(?P<unit>%|[A-Za-z][A-Za-z/]*)?\.?"
)
KINDS = {"<=": "le", "≤": "le", "<": "lt", ">=": "ge", "≥": "ge", ">": "gt"}
OURS = ("schema", "id", "title", "subject")
COLONS = 8  # in a key; where there are more, a value is listed as left out rather than missed


@dataclass(frozen=True)
class Note:
    """One value of the source that has no key of ours, or not as it was: and what became of it."""

    key: str
    line: int
    became: str

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "line": self.line, "became": self.became}


@dataclass
class Imported:
    """The contract of ours, and what is to be told of how it came about."""

    data: dict[str, Any]
    as_text: list[Note] = field(default_factory=list)
    changed: list[Note] = field(default_factory=list)
    left_out: list[Note] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def text(self, schema: str) -> str:
        """The contract as YAML, with the source's comments at its end."""
        head = f"# yaml-language-server: $schema={schema}\n"
        return head + dump(self.data) + "".join(f"# {comment}\n" for comment in self.comments)


def convert(
    foreign: Foreign, contract_id: str, subject: Sequence[str], known: Collection[str]
) -> Imported:
    """A contract of ours with all that `foreign` says; `known` are ids that it may depend on."""
    imported = Imported({})
    rest: dict[str, Any] = copy.deepcopy(foreign.source.data)
    metadata = rest.get("metadata") or {}
    description = [_paragraph(metadata.pop("description", None)), _origin(foreign)]
    head = {
        "schema": SCHEMA_ID,
        "id": contract_id,
        "version": _version(foreign, metadata, imported),
        "title": _title(contract_id, description[0]),
    }
    falsifiers = _falsifiers(foreign, rest, imported)
    tail = {
        "references": _taken_texts(metadata, "references"),
        "depends_on": _dependencies(metadata, known),
        "subject": list(subject),
        "equations": dict(_equations(foreign, rest, imported)),
        "falsifiers": falsifiers,
        "gates": _gates(rest, falsifiers),
    }
    history = _history(foreign, rest, imported)
    description += ["\n".join(_remains(foreign, rest, imported)), history]
    text = "\n\n".join(part for part in description if part)
    imported.data |= head | {"description": f"{text}\n"}
    imported.data |= {key: value for key, value in tail.items() if value}
    imported.comments += _comments(foreign)
    imported.as_text.sort(key=lambda note: note.line)
    imported.left_out += _missing(foreign, imported)
    return imported


def _origin(foreign: Foreign) -> str:
    name = foreign.path.name
    return f"Imported from {name}, in the {NAME} dialect. What has no key here follows as text."


def _title(contract_id: str, description: str) -> str:
    """The description's first sentence, if it is one that fits on a line; else the id."""
    sentence = re.split(r"(?<=[.!?])\s|\n\s*\n", description, maxsplit=1)[0]
    sentence = " ".join(sentence.split())
    return sentence if 0 < len(sentence) <= 90 else contract_id.replace("-", " ")


def _version(foreign: Foreign, metadata: dict[str, Any], imported: Imported) -> str:
    stated = metadata.get("version")
    if isinstance(stated, str) and re.fullmatch(SEMANTIC, stated):
        del metadata["version"]
        return stated
    at: Location = ("metadata", "version")
    became = f"version {FIRST_VERSION}, as {stated!r:.40} is no semantic version"
    imported.changed.append(_note(foreign, at, became))
    return FIRST_VERSION


def _taken_texts(mapping: dict[str, Any], key: str) -> list[str]:
    """A list of texts, taken out of `mapping`; where it is none, it stays there."""
    value = mapping.get(key)
    texts = isinstance(value, list) and all(map(_is_text, value))
    return mapping.pop(key) if texts else []


def _dependencies(metadata: dict[str, Any], known: Collection[str]) -> list[str]:
    """The contracts of this project that it depends on; ids of others stay where they are."""
    stated = _taken_texts(metadata, "depends_on")
    others = [name for name in stated if name not in known or not re.fullmatch(SLUG, name)]
    if others:
        metadata["depends_on"] = others
    return [name for name in stated if name not in others]


def _equations(
    foreign: Foreign, rest: dict[str, Any], imported: Imported
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those with a formula; the others stay where they are."""
    taken: set[str] = set()
    for name, stated in list((rest.get("equations") or {}).items()):
        equation = dict(stated) if isinstance(stated, dict) else {"formula": stated}
        if not _is_text(equation.get("formula")):
            continue
        words = re.findall(r"[a-z0-9]+", name.lower()) or ["law"]
        words = words if words[0][0].isalpha() else ["law", *words]
        ours = _free("_".join(words), taken, "_")
        taken.add(ours)
        if ours != name:
            at: Location = ("equations", name)
            imported.changed.append(_note(foreign, at, f"equations.{ours}"))
        yield ours, _equation(foreign, equation, name, ours, imported)
        del rest["equations"][name]


def _equation(
    foreign: Foreign, equation: dict[str, Any], name: str, ours: str, imported: Imported
) -> dict[str, Any]:
    """One equation; what it states beside formula and domain stands among its invariants."""
    made = {"formula": equation.pop("formula")}
    if _is_text(equation.get("domain")):
        made["domain"] = equation.pop("domain")
    invariants = _taken_texts(equation, "invariants")
    for key, value in equation.items():
        invariants += _lines(value, key)
        at: Location = ("equations", name, key)
        imported.as_text.append(_note(foreign, at, f"equations.{ours}.invariants"))
    invariants += [f"name in the source: {name}"] if ours != name else []
    return {**made, "invariants": invariants} if invariants else made


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _falsifiers(foreign: Foreign, rest: dict[str, Any], imported: Imported) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    taken: set[str] = set()
    for each in foreign.falsifiers:
        name = _falsifier_id(foreign, each, taken)
        taken.add(name)
        made.append(_falsifier(foreign, each, name, len(made), imported))
    for section in {str(each.at[0]) for each in foreign.falsifiers}:
        del rest[section]
    return made


def _falsifier_id(foreign: Foreign, each: Prose, taken: Collection[str]) -> str:
    """Its id where the grammar of ours allows it, else the nearest that it does."""
    stated = each.said("id")
    words = re.findall(r"[A-Z0-9]+", str(stated if stated is not None else "").upper())
    if isinstance(stated, str) and re.fullmatch(FALSIFIER_ID, stated) and stated not in taken:
        return stated
    area = re.findall(r"[A-Z0-9]+", foreign.path.stem.upper())
    words = words or [*area, f"{int(each.at[-1]) + 1:03}"]
    words = words if words[0][0].isalpha() and len(words) > 1 else ["F", *words]
    return _free("-".join(words), taken, "-")


def _falsifier(
    foreign: Foreign, each: Prose, name: str, index: int, imported: Imported
) -> dict[str, Any]:
    stated = each.said("id")
    if stated != name:
        key = each.keys.get("id", "id")
        imported.changed.append(_note(foreign, (*each.at, key), f"falsifiers[{index}].id {name}"))
    placed = {each.keys.get(word) for word in ("rule", "prediction", "if_fails")}
    placed |= {each.keys.get("id")} if stated == name else set()
    told = {key: value for key, value in each.item.items() if key not in placed}
    for key in told:
        became = f"falsifiers[{index}].prediction"
        imported.as_text.append(_note(foreign, (*each.at, key), became))
    prediction = _paragraph(each.said("prediction"))
    prose = "\n".join(line for key, value in told.items() for line in _lines(value, key))
    if_fails = _paragraph(each.said("if_fails"))
    return {
        "id": name,
        "rule": _paragraph(each.said("rule")) or UNSTATED,
        "prediction": "\n\n".join(part for part in (prediction or UNSTATED, prose) if part),
        "measures": _measures(prediction),
        **({"if_fails": if_fails} if if_fails else {}),
    }


def _measures(prediction: str) -> dict[str, Any]:
    """The bound that a prediction consists of, or a placeholder that no test observes."""
    text = " ".join(prediction.split())
    found = BOUND.fullmatch(text) if len(text) <= LONGEST_BOUND else None
    if found is None or re.search(r"\b(and|or|for|if|when)\b", found["what"]):
        return copy.deepcopy(PLACEHOLDER)
    name = "_".join(re.findall(r"[a-z0-9]+", found["what"].lower()))[:60].strip("_")
    name = name if name[:1].isalpha() else f"measure_{name}"
    bound: dict[str, Any] = {KINDS[found["kind"]]: float(found["limit"])}
    return {name: bound | ({"unit": found["unit"]} if found["unit"] else {})}


def _gates(rest: dict[str, Any], falsifiers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The quality gate, which requires all: what it says of its criteria is carried as text."""
    gate = rest.get("qa_gate")
    ids = [each["id"] for each in falsifiers]
    name = gate.get("id") if isinstance(gate, dict) else None
    if not isinstance(name, str) or not re.fullmatch(FALSIFIER_ID, name) or name in ids:
        return []
    del rest["qa_gate"]["id"]
    return [{"id": name, "requires": ids}]


def _history(foreign: Foreign, rest: dict[str, Any], imported: Imported) -> str:
    """The history typed by hand, oldest first where its dates say so: as text, for ours is not."""
    entries = rest.pop("status_history", None) or []
    ordered = chronological(entries)
    order = "oldest first" if ordered is not None else "in the order of the source"
    if not entries:
        return ""
    imported.as_text.append(_note(foreign, ("status_history",), f"description, {order}"))
    rows = [f"The history that was typed by hand, {order}:"]
    for i, entry in enumerate(entries if ordered is None else ordered):
        rows += _lines(entry, f"status_history[{i}]")
    return "\n".join(rows)


def chronological(entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """The entries, oldest first; None where one has no date that can be compared.

    Of one date, the order of the file counts, or its reverse where the file is newest first.
    """
    dates = [str(entry.get("date")) for entry in entries]
    if not all(re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", date) for date in dates):
        return None
    pairs = list(pairwise(entries))
    newest_first = sum(_follows(a, b) - _follows(b, a) for a, b in pairs) > 0
    ordered = entries[::-1] if newest_first else entries
    return sorted(ordered, key=lambda entry: str(entry["date"]))


def _follows(later: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Whether date, version or transition say that one entry comes after the other."""
    if str(later["date"]) != str(earlier["date"]):
        return str(later["date"]) > str(earlier["date"])
    versions = [re.findall(r"[0-9]+", str(each.get("version"))) for each in (later, earlier)]
    ours, theirs = (list(map(int, version)) for version in versions)
    moved = later.get("from") is not None and later.get("from") == earlier.get("to")
    return ours > theirs if ours != theirs else moved


def _remains(foreign: Foreign, rest: dict[str, Any], imported: Imported) -> Iterator[str]:
    """What no key of ours has taken, line by line."""
    inner = rest.pop("metadata", None)
    parts: list[tuple[Location, Any]] = []
    if isinstance(inner, dict):
        parts += [(("metadata", key), value) for key, value in inner.items()]
    parts += [((key,), value) for key, value in rest.items() if value not in ({}, [])]
    for at, value in parts:
        imported.as_text.append(_note(foreign, at, "description"))
        yield from _lines(value, dotted(at))


def _lines(value: Any, key: str) -> Iterator[str]:
    """`key: value` for each scalar in `value`; a text of several lines stands below its key."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _lines(inner, f"{key}.{name}")
    elif isinstance(value, list) and value:
        for i, inner in enumerate(value):
            yield from _lines(inner, f"{key}[{i}]")
    else:
        text = plain(value)
        yield f"{key}:\n{text}" if "\n" in text else f"{key}: {text}"


def plain(value: Any) -> str:
    """A scalar as text: a string as it is but for white space around it, others as JSON."""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _paragraph(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(line for key, inner in value.items() for line in _lines(inner, key))
    if isinstance(value, list):
        return "\n".join(line for i, inner in enumerate(value) for line in _lines(inner, f"[{i}]"))
    return "" if value is None else plain(value)


def _free(name: str, taken: Collection[str], joint: str) -> str:
    """`name`, or `name` with the first number that makes it new."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}{joint}{number}"
    return free


def _note(foreign: Foreign, at: Location, became: str) -> Note:
    return Note(dotted(at), foreign.source.line(at), became)


def _missing(foreign: Foreign, imported: Imported) -> Iterator[Note]:
    """The values of the source that the contract holds less often than the source does."""
    rows = "\n".join(["", *(plain(value) for _, value in _leaves(_carried(imported.data), ())), ""])
    tails = Counter(tail for row in rows.split("\n") for tail in _tails(row))
    met: Counter[str] = Counter()
    for at, value in _leaves(foreign.source.data, ()):
        text = plain(value)
        met[text] += 1
        if value is not None and text and met[text] > _times(text, rows, tails):
            yield _note(foreign, at, f"left out: {text!r:.60}")


def _carried(data: Mapping[str, Any]) -> dict[str, Any]:
    """The contract without what is not the source's, or is in it a second time."""
    kept = {key: value for key, value in data.items() if key not in OURS}
    for key, copied in (("falsifiers", "measures"), ("gates", "requires")):
        kept[key] = [{k: v for k, v in each.items() if k != copied} for each in data.get(key, ())]
    return kept


def _tails(row: str) -> Iterator[str]:
    """What may be a value in a row: all of it, and what follows one of its first colons."""
    yield row
    yield from (row[found.end() :] for found in islice(re.finditer(": ", row), COLONS))


def _times(text: str, rows: str, tails: Mapping[str, int]) -> int:
    """How often a value stands as a whole: on lines of its own, or after a key."""
    return rows.count(f"\n{text}\n") if "\n" in text else tails[text]


def _leaves(value: Any, at: Location) -> Iterator[tuple[Location, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*at, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _leaves(inner, (*at, i))
    else:
        yield at, value


def _comments(foreign: Foreign) -> Iterator[str]:
    """The comments of the source that say something, with their lines."""
    text = foreign.source.text.removeprefix("\ufeff")
    told = list(text)
    for node in _scalars(foreign.source.root):
        start, end = node.start_mark.index, node.end_mark.index
        if node.style in ("|", ">"):
            start = min(end, text.find("\n", start) + 1 or end)
        told[start:end] = [" " if mark != "\n" else mark for mark in told[start:end]]
    found = [
        f"{number}: {comment[2].strip()}"
        for number, line in enumerate("".join(told).split("\n"), 1)
        for comment in [line.partition("#")]
        if re.search(r"\w", comment[2]) and not comment[2].startswith(" yaml-language-server")
    ]
    yield from [f"Comments of {foreign.path.name}, by line:", *found] if found else []


def _scalars(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            for item in pair:
                yield from _scalars(item)

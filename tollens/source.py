"""Reads one YAML text strictly and remembers the line of every key; knows no contracts.

Scalars follow the YAML 1.2 core schema, as editors do: `1e-6` is a number and `no` is a string.
Duplicate keys, aliases, tags, tabs, several documents, deep nesting and large files are refused,
each with the line where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tollens.errors import ContractError, Finding

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_EVENTS = 60_000


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A parser that leaves it to `_scalar` what a plain scalar means."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


Location = tuple[str | int, ...]

CORE_SCHEMA: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"(~|null|Null|NULL|)"), lambda text: None),
    (re.compile(r"(true|True|TRUE)"), lambda text: True),
    (re.compile(r"(false|False|FALSE)"), lambda text: False),
    (re.compile(r"[-+]?[0-9]{1,300}"), int),
    (re.compile(r"0x[0-9a-fA-F]{1,300}"), lambda text: int(text, 16)),
    (re.compile(r"0o[0-7]{1,300}"), lambda text: int(text, 8)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (
        re.compile(r"([-+]?\.(inf|Inf|INF))|\.(nan|NaN|NAN)"),
        lambda text: float(text.replace(".", "")),
    ),
)
MAYBE_NO_STRING = re.compile(r"[~nNtTfF0-9.+-]|$")


@dataclass(frozen=True)
class Source:
    """A parsed YAML text: its data, and the 1-based line on which each value's key stands.

    `root` is the parser's node, None for an empty text; its marks do not count a byte order mark.
    """

    path: str
    text: str
    data: Any
    lines: Mapping[Location, int]
    root: yaml.Node | None = field(repr=False, compare=False)

    def line(self, location: Location) -> int:
        """The line of `location`, or of the nearest enclosing value that is in the text."""
        while location not in self.lines and location:
            location = location[:-1]
        return self.lines.get(location, 1)

    def finding(self, rule: str, location: Location, found: str, expected: str = "") -> Finding:
        return Finding(rule, self.path, self.line(location), found, expected, dotted(location))


def dotted(location: Location) -> str:
    """`("falsifiers", 0, "id")` as `falsifiers[0].id`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def read_text(path: Path, shown: str) -> str:
    """The file's text with its line ends as they are; a large or undecodable file is refused."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise _refuse(shown, 1, f"a file of {size:,} bytes", f"at most {MAX_BYTES:,} bytes")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _refuse(shown, line, f"byte 0x{error.object[error.start]:02x}", "UTF-8") from error
    except OSError as error:
        raise _refuse(shown, 1, error.strerror or str(error), "a readable file") from error


def parse(text: str, shown: str) -> Source:
    """Parse `text`; `shown` is the path to name in findings."""
    if len(text.encode()) > MAX_BYTES:
        raise _refuse(shown, 1, f"{len(text):,} characters", f"at most {MAX_BYTES:,} bytes")
    builder = _Builder(shown)
    try:
        node = _compose(text, shown)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, shown, text) from error
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        found = f"the character U+{int(error.character):04X}"
        raise _refuse(shown, line, found, "printable characters") from error
    data = None if node is None else builder.build(node, ())
    return Source(shown, text, data, builder.lines, node)


def _refuse(
    path: str, line: int, found: str, expected: str, hint: str = "", at: Location = ()
) -> ContractError:
    return ContractError([Finding("yaml", path, line, found, expected, dotted(at), hint)])


def _syntax_error(error: yaml.MarkedYAMLError, shown: str, text: str) -> ContractError:
    problem = error.problem or "malformed YAML"
    unclosed = "end of stream" in problem  # what was left open is where it began
    mark = error.context_mark if unclosed and error.context_mark else error.problem_mark
    rows = text.splitlines()
    line = min(mark.line + 1 if mark else 1, len(rows))  # the end of the text is its last line
    stray = "cannot start any token" in problem and "\t" in rows[line - 1]
    if stray or "tab character" in problem:
        return _refuse(shown, line, "a tab", "spaces", "indent with spaces")
    return _refuse(shown, line, problem, error.context or "well-formed YAML")


def _compose(text: str, shown: str) -> yaml.Node | None:
    """The root of the text's one document, made in one pass over the parser's events."""
    loader = _Loader(text)
    try:
        events = _events(loader, shown)
        next(events)  # the stream starts
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        root = _node(next(events), events)
        next(events)  # the document ends
        after = next(events)
        if isinstance(after, yaml.StreamEndEvent):
            return root
        line = after.start_mark.line + 1
        raise _refuse(shown, line, "a second document", "one document in the file")
    finally:
        loader.dispose()


def _events(loader: Any, shown: str) -> Iterator[Any]:
    """The parser's events, as far as they are not hostile."""
    depth = 0
    anchors: set[str] = set()
    for count, event in enumerate(iter(loader.get_event, None)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        _refuse_hostile(event, depth, count, shown)
        anchor = getattr(event, "anchor", None)
        if anchor in anchors:
            found = f"the anchor &{anchor} a second time"
            raise _refuse(shown, _line(event), found, "each anchor once")
        if anchor:
            anchors.add(anchor)
        yield event


def _refuse_hostile(event: Any, depth: int, count: int, shown: str) -> None:
    """Refuse what must not be composed.

    Those are aliases (which multiply), tags, deep nesting, and more values than a person wrote.
    """
    if isinstance(event, yaml.AliasEvent):
        found = f"the alias *{event.anchor}"
        raise _refuse(shown, _line(event), found, "plain values", "write it out")
    if getattr(event, "tag", None):
        raise _refuse(shown, _line(event), f"the tag {event.tag}", "plain values")
    if depth > MAX_DEPTH:
        found = f"more than {MAX_DEPTH} levels"
        raise _refuse(shown, _line(event), found, "a flatter document")
    if count > MAX_EVENTS:
        expected = f"at most {MAX_EVENTS:,} YAML events"
        raise _refuse(shown, _line(event), "too many values", expected)


def _line(event: Any) -> int:
    line: int = event.start_mark.line + 1
    return line


def _node(event: Any, events: Iterator[Any]) -> yaml.Node:
    """The node that starts with `event`; takes from `events` what belongs to it."""
    kind, start = type(event), event.start_mark
    if kind is yaml.ScalarEvent:
        return yaml.ScalarNode("", event.value, start, event.end_mark, style=event.style)
    items, end = [], next(events)
    while not isinstance(end, yaml.CollectionEndEvent):
        items.append(_node(end, events))
        end = next(events)
    made: Any = items
    stop: Any = end.end_mark
    if kind is yaml.MappingStartEvent:
        made = list(zip(items[::2], items[1::2], strict=True))
    node = yaml.MappingNode if kind is yaml.MappingStartEvent else yaml.SequenceNode
    return node("", made, start, stop, flow_style=event.flow_style)


@dataclass
class _Builder:
    """Turns the parser's nodes into data, and remembers where each stands."""

    shown: str
    lines: dict[Location, int] = field(default_factory=dict)

    def build(self, node: yaml.Node, at: Location) -> Any:
        self.lines.setdefault(at, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*at, i)) for i, item in enumerate(node.value)]
        return dict(self.pairs(node, at))

    def pairs(self, node: yaml.Node, at: Location) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                shown = repr(key) if isinstance(key_node, yaml.ScalarNode) else "a collection"
                raise _refuse(self.shown, line, f"the key {shown:.40}", "a string", at=at)
            if key in seen:
                found = f"the key {key} a second time (first on line {seen[key]})"
                hint = "keep one of the two"
                raise _refuse(self.shown, line, found, "each key once", hint, (*at, key))
            seen[key] = self.lines[(*at, key)] = line
            yield key, self.build(value_node, (*at, key))


def _scalar(node: yaml.ScalarNode) -> Any:
    if not node.style and MAYBE_NO_STRING.match(node.value):
        for pattern, convert in CORE_SCHEMA:
            if pattern.fullmatch(node.value):
                return convert(node.value)
    return node.value

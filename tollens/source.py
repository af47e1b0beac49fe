"""Reads one YAML text strictly and remembers the line of every key; knows no contracts.

Scalars follow the YAML 1.2 core schema, as editors do: `1e-6` is a number and `no` is a string.
Duplicate keys, aliases, tags, tabs, several documents, deep nesting and large files are refused,
each with the line where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tollens.errors import ContractError, Finding

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_EVENTS = 60_000


ENDS = frozenset({yaml.SequenceEndEvent, yaml.MappingEndEvent})


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

    `odd` are findings of what only a dialect may have: keys that are no strings, as text.
    """

    path: str
    text: str
    data: Any
    lines: Mapping[Location, int]
    odd: tuple[Finding, ...] = ()

    @cached_property
    def root(self) -> yaml.Node | None:
        """The parser's node, None for an empty text; its marks do not count a byte order mark."""
        root: yaml.Node | None = yaml.compose(self.text, Loader=_Loader)
        return root

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
        data = builder.document(text)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, shown, text) from error
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        found = f"the character U+{int(error.character):04X}"
        raise _refuse(shown, line, found, "printable characters") from error
    return Source(shown, text, data, builder.lines, tuple(builder.odd))


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


@dataclass
class _Builder:
    """Makes data of the parser's events in one pass, and remembers where each value stands."""

    shown: str
    lines: dict[Location, int] = field(default_factory=dict)
    odd: list[Finding] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    depth: int = 0
    count: int = 0
    next_event: Callable[[], Any] = lambda: None

    def document(self, text: str) -> Any:
        """The data of the text's one document; None for an empty text."""
        loader = _Loader(text)
        self.next_event = loader.get_event
        try:
            self.next_event()  # the stream starts
            if isinstance(self.next_event(), yaml.StreamEndEvent):
                return None
            data = self.value(self.next_event(), ())
            self.next_event()  # the document ends
            after = self.next_event()
            if isinstance(after, yaml.StreamEndEvent):
                return data
            raise _refuse(self.shown, _line(after), "a second document", "one document in the file")
        finally:
            loader.dispose()

    def value(self, event: Any, at: Location) -> Any:
        """The value that starts with `event`; takes from the events what belongs to it."""
        self.admit(event)
        self.lines.setdefault(at, event.start_mark.line + 1)
        if type(event) is yaml.ScalarEvent:
            return _scalar(event)
        self.depth += 1
        if type(event) is yaml.SequenceStartEvent:
            made: Any = [self.value(item, (*at, i)) for i, item in enumerate(self.inner())]
        else:
            made = dict(self.pairs(at))
        self.depth -= 1
        return made

    def admit(self, event: Any) -> None:
        """Refuse an event that is hostile, or that names an anchor again."""
        opens = type(event) is not yaml.ScalarEvent
        self.count += 1 + opens  # and one for its end
        _refuse_hostile(event, self.depth + opens, self.count, self.shown)
        if event.anchor in self.anchors:
            found = f"the anchor &{event.anchor} a second time"
            raise _refuse(self.shown, _line(event), found, "each anchor once")
        if event.anchor:
            self.anchors.add(event.anchor)

    def inner(self) -> Iterator[Any]:
        """The events up to the end of a collection; whoever takes one takes all that it starts."""
        return iter(self.until_end, None)

    def until_end(self) -> Any:
        event = self.next_event()
        return None if type(event) in ENDS else event

    def pairs(self, at: Location) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for event in self.inner():
            line, key = event.start_mark.line + 1, self.key(event, at)
            if key in seen:
                found = f"the key {key} a second time (first on line {seen[key]})"
                hint = "keep one of the two"
                raise _refuse(self.shown, line, found, "each key once", hint, (*at, key))
            seen[key] = self.lines[(*at, key)] = line
            yield key, self.value(self.next_event(), (*at, key))

    def key(self, event: Any, at: Location) -> str:
        self.admit(event)
        scalar = type(event) is yaml.ScalarEvent
        key = _scalar(event) if scalar else None
        if isinstance(key, str):
            return key
        found = f"the key {key!r:.40}" if scalar else "the key a collection"
        finding = Finding("yaml", self.shown, _line(event), found, "a string", dotted(at))
        if not scalar:
            raise ContractError([finding])
        self.odd.append(finding)
        text: str = event.value
        return text


def _refuse_hostile(event: Any, depth: int, count: int, shown: str) -> None:
    """Refuse what must not be composed.

    Those are aliases (which multiply), tags, deep nesting, and more values than a person wrote.
    """
    if type(event) is yaml.AliasEvent:
        found = f"the alias *{event.anchor}"
        raise _refuse(shown, _line(event), found, "plain values", "write it out")
    if event.tag:
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


def _scalar(event: Any) -> Any:
    if not event.style and MAYBE_NO_STRING.match(event.value):
        for pattern, convert in CORE_SCHEMA:
            if pattern.fullmatch(event.value):
                return convert(event.value)
    return event.value

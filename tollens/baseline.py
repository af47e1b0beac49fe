"""Findings of `tollens check` that are accepted for a time; they can only become fewer.

The file is YAML that people complete: an entry names one finding by its fingerprint, says why it
is accepted, and until when. An entry without a reason, or past its day, accepts nothing; one whose
finding is gone is a finding itself. Nothing here adds an entry to a file that is there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from tollens.bounds import Strict
from tollens.contract import Text
from tollens.errors import ContractError, Finding, ProjectError
from tollens.evidence import write_atomically
from tollens.fingerprints import Named, named, unexplained
from tollens.rules import RULES
from tollens.source import Location, Source, parse, read_text
from tollens.yaml_writer import dump

SCHEMA = "tollens/baseline/v1"
DAYS = 90
HEAD = f"""\
# Findings of `tollens check` that are accepted for a time. Say in each entry why; what is gone or
# past its day is removed by `tollens check --baseline THIS-FILE --update`, which adds nothing.
schema: {SCHEMA}
"""


def _day(value: Any) -> date:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        raise ValueError("a day as YYYY-MM-DD is expected")
    return date.fromisoformat(value)


class Entry(Strict):
    """One accepted finding; what the reader of the entry sees must be what it excuses."""

    fingerprint: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}:[1-9][0-9]*$")]
    rule: Text
    path: Text
    found: Text
    reason: str
    expires: Annotated[date, BeforeValidator(_day)]

    def names(self, each: Named) -> bool:
        said = (self.fingerprint, self.rule, self.path, unexplained(self.found))
        finding = each.finding
        return said == (each.fingerprint, finding.rule, finding.path, unexplained(finding.found))


class _File(Strict):
    schema_: Annotated[Literal["tollens/baseline/v1"], Field(alias="schema")]
    accepted: list[Entry] | None


@dataclass(frozen=True)
class Baseline:
    """A baseline as read, with the text that it came from."""

    path: Path
    source: Source
    entries: Sequence[Entry]


def read_baseline(path: Path, shown: str) -> Baseline:
    """Read the file; raises ContractError with every finding of what is wrong in it."""
    return _validated(path, parse(read_text(path, shown), shown))


def _validated(path: Path, source: Source) -> Baseline:
    try:
        entries = _File.model_validate(source.data).accepted or []
    except ValidationError as error:
        raise ContractError(
            _fault(source, each["loc"], f"{each['input']!r:.120}", each["msg"])
            for each in error.errors(include_url=False)
        ) from error
    seen: set[str] = set()
    for i, entry in enumerate(entries):
        if entry.fingerprint in seen:
            found = f"the fingerprint {entry.fingerprint} a second time"
            raise ContractError([_fault(source, ("accepted", i), found, "each finding once")])
        seen.add(entry.fingerprint)
    return Baseline(path, source, entries)


def accept(
    baseline: Baseline, found: Sequence[Named], today: date, whole: bool = True
) -> list[Named]:
    """The findings, those marked that the baseline accepts, and what is wrong with its entries.

    Only where `found` is of the whole project can an entry be known to be gone.
    """
    occurring = _occurring(baseline, found)
    holding = [e for e in baseline.entries if e.fingerprint in occurring and _holds(e, today)]
    reasons = {each.fingerprint: each.reason for each in holding}
    marked = [replace(each, accepted=reasons.get(each.fingerprint, "")) for each in found]
    return [*marked, *named(_faults(baseline, occurring, today, whole))]


def _occurring(baseline: Baseline, found: Iterable[Named]) -> set[str]:
    """The fingerprints of the entries whose finding is still there, as they say it."""
    entries = {each.fingerprint: each for each in baseline.entries}
    pairs = ((entries.get(each.fingerprint), each) for each in found)
    return {entry.fingerprint for entry, each in pairs if entry and entry.names(each)}


def _holds(entry: Entry, today: date) -> bool:
    return bool(entry.reason.strip()) and today <= entry.expires


def _faults(
    baseline: Baseline, occurring: Collection[str], today: date, whole: bool
) -> Iterator[Finding]:
    for i, entry in enumerate(baseline.entries):
        what = f"{entry.rule} in {entry.path}"
        at: Location = ("accepted", i)
        if whole and entry.fingerprint not in occurring:
            yield _fault(baseline.source, at, f"{what}: no longer found", "no entry for it")
        elif entry.expires < today:
            found, expected = f"{what}: expired on {entry.expires}", "the finding mended"
            yield _fault(baseline.source, (*at, "expires"), found, expected)
        elif not entry.reason.strip():
            found = f"{what}: accepted without a reason"
            yield _fault(baseline.source, (*at, "reason"), found, "why it is accepted")


def _fault(source: Source, at: Location, found: str, expected: str) -> Finding:
    hint = RULES["baseline"][1].replace("FILE", source.path)
    return replace(source.finding("baseline", at, found, expected), hint=hint)


def start(path: Path, found: Iterable[Named], today: date) -> None:
    """Write a new file that names every finding, its reasons to be filled in."""
    entries = [
        {
            "fingerprint": each.fingerprint,
            "rule": each.finding.rule,
            "path": each.finding.path,
            "found": each.finding.found,
            "reason": "",
            "expires": str(today + timedelta(days=DAYS)),
        }
        for each in found
    ]
    write_atomically(path, (HEAD + dump({"accepted": entries})).encode())


def shrink(baseline: Baseline, found: Iterable[Named], today: date) -> Baseline:
    """Take out of the file the entries that are gone or past their day; touch no other byte."""
    occurring = _occurring(baseline, found)
    kept = [e for e in baseline.entries if e.fingerprint in occurring and today <= e.expires]
    lines = baseline.source.text.splitlines(keepends=True)
    spans = _spans(baseline.source)
    for entry, (first, last) in zip(reversed(baseline.entries), reversed(spans), strict=True):
        if entry not in kept:
            del lines[first:last]
    source = parse("".join(lines), baseline.source.path)
    shrunk = _validated(baseline.path, source)
    if list(shrunk.entries) != kept:
        raise ProjectError(f"{source.path}: entries share lines; expected each on lines of its own")
    if len(kept) < len(baseline.entries):
        write_atomically(baseline.path, source.text.encode())
    return shrunk


def _spans(source: Source) -> list[tuple[int, int]]:
    """First line of each entry, and the one after its last value."""
    pairs = source.root.value if source.root else []
    nodes = [each for key, value in pairs if key.value == "accepted" for each in value.value]
    return [(node.start_mark.line, _after(node.value[-1][1].end_mark)) for node in nodes]


def _after(mark: Any) -> int:
    line: int = mark.line + (mark.column > 0)
    return line

"""Texts as people write YAML: a hypothesis strategy over the styles that a contract may have.

Knows YAML's surface only: comments, quotes, line ends, block and flow, and where a history stands.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from hypothesis import strategies as st

OURS = """\
- date: "2026-01-01T00:00:00Z"
  from: PROPOSED
  to: PARTIAL_ALGORITHM_LEVEL
  dirty: false
  verdicts:
    F-A-001: DISCHARGED\
"""
ENTRIES = [
    OURS,
    '- {date: "2026-01-01", to: PROPOSED}',
    "- date: '2026-01-01' # by hand\n  note: |\n    two\n    lines",
    "- note: >-\n    folded\n    text\n\n  last: [1, 2]",
    "-\n  note: dashed\n  more: {a: 1,\n    b: 2}",
]
SECTIONS = [
    "id: a-v1",
    "'title': 'it''s quoted'",
    '"title": "a \\"title\\" \\u00e9 😀 𝔊"',
    "plain: naïve text — with 😀, # no comment",
    "note: plain text\n  over two lines",
    "description: |\n  literal # no comment\n\n  status_history: []\n    deeper",
    "description: |-\n  stripped\n",
    "description: |+\n  kept\n\n",
    "description: >\n  folded\n  text\n\n  - paragraph",
    'double: "over\n  two lines"',
    "references: [\"a, b\", 'c: d', e] # why",
    "references: [\n  a,\n  b,\n]",
    "references:\n- not indented\n- [flow, {in: block}]",
    "references:\n    - indented by four\n    - 'quoted'",
    "equations:\n  e: {formula: 'y = x', invariants: []}\n  # inside\n  f:\n    formula: z",
    "nothing:",
    "nothing: ~ # null",
    "# a comment between\n\nid2: 1 # and one behind",
    "empty: {}",
    "number: 1e-6\nyes: no",
    "spaced: value   ",
    "? explicit\n: value",
    "nested:\n- - a\n  - b\n- - c",
]
HISTORIES = [
    None,
    "status_history: []",
    "status_history: [] # machine-written",
    "status_history: [ ]",
    "status_history: [\n]",
    "status_history:\n  []",
    "'status_history': []",
    "status_history:",
    "status_history: # machine-written",
    "status_history: null",
    "status_history: ~ # nothing yet",
    "status_history:\n  null",
    "? status_history\n: []",
    "? status_history\n: - {to: A}",
]
HEADS = [
    "",
    "# yaml-language-server: $schema=../contract.schema.json\n",
    "---\n",
    "# comment\n\n--- # begins\n",
    "%YAML 1.2\n---\n",
    "\n\n",
]
TAILS = [
    "\n",
    "",
    "\n\n\n",
    "\n# the end",
    "\n# the end\n",
    " # the end",
    "\n...\n",
    "\n...",
    "\n\n# comment\n...\n# after\n",
]


def indented(text: str, by: int) -> str:
    return "\n".join(" " * by + line if line else line for line in text.split("\n"))


@st.composite
def block_histories(draw: st.DrawFn) -> str:
    entries = draw(st.lists(st.sampled_from(ENTRIES), min_size=1, max_size=2))
    between = draw(st.sampled_from(["\n", "\n\n", "\n# a comment\n"]))
    behind = draw(st.sampled_from(["", " # machine-written", "\n  # first the oldest"]))
    by = draw(st.sampled_from([0, 2, 4]))
    return f"status_history:{behind}\n{indented(between.join(entries), by)}"


@st.composite
def flow_histories(draw: st.DrawFn) -> str:
    entries = ['{date: "2026-01-01", to: A}', "{note: 'x, y', list: [1, 2]}"]
    chosen = draw(st.lists(st.sampled_from(entries), min_size=1, max_size=2))
    shape = draw(st.sampled_from(["[{}]", "[{},]", "[ {} ]", "[\n  {}\n  ] # c", "[ # c\n {} , ]"]))
    return "status_history: " + shape.replace("{}", ", ".join(chosen), 1)


@st.composite
def block_texts(draw: st.DrawFn) -> str:
    """A document in block style with a history anywhere in it, or none."""
    sections = draw(st.lists(st.sampled_from(SECTIONS), min_size=1, max_size=4, unique_by=_keys))
    history = draw(st.sampled_from(HISTORIES) | block_histories() | flow_histories())
    if history is not None:
        at = draw(st.integers(0, len(sections)))
        sections = [*sections[:at], history, *sections[at:]]
    between = draw(st.sampled_from(["\n", "\n\n", "\n# between\n"]))
    body = indented(between.join(sections), draw(st.sampled_from([0, 0, 2])))
    head, tail = draw(st.sampled_from(HEADS)), draw(st.sampled_from(TAILS))
    text = head + body + _fitting(tail, body)
    newline = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    return draw(st.sampled_from(["", "\ufeff"])) + text.replace("\n", newline)


def _keys(section: str) -> str:
    lines = [line for line in section.splitlines() if line and line[0] not in " -#]"]
    return lines[0].partition(":")[0].strip("'\"? ")


def _fitting(tail: str, body: str) -> str:
    """Behind a block scalar a comment would be its text, and a missing line end a part of it."""
    scalar = any(mark in body for mark in (": |", ": >"))
    return "\n" if scalar and not tail.startswith("\n") else tail


@st.composite
def flow_texts(draw: st.DrawFn) -> str:
    """A document that is one flow mapping, as JSON is."""
    title = draw(st.sampled_from(["naïve 😀 \n text", "plain"]))
    data: dict[str, object] = {"id": "a-v1", "title": title, "subject": ["m"]}
    history: Sequence[object] | None = draw(st.sampled_from([None, [], [{"to": "A"}, {"to": "B"}]]))
    if history is not None:
        data["status_history"] = history
    data |= draw(st.sampled_from([{}, {"gates": [{"id": "G"}]}, {"last": None}, {"last": {}}]))
    text = json.dumps(data, indent=draw(st.sampled_from([None, 2])), ensure_ascii=False)
    tail = draw(st.sampled_from(["", "\n", "\r\n", " # c\n", "\n...\n"]))
    return draw(st.sampled_from(["", "---\n", "\ufeff", "# c\n"])) + text + tail


ENTRY_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
WORDS = st.sampled_from(["no", "yes", "on", "null", "~", "1e3", "- a", "a: b", "a #b", "'", "2026"])


@st.composite
def entries(draw: st.DrawFn) -> dict[str, object]:
    """An entry as the machine writes it, with a hostile summary."""
    return {
        "date": "2026-02-03T04:05:06Z",
        "version": "1.0.0",
        "from": "PROPOSED",
        "to": "FALSIFIED",
        "evidence": "evidence/a-v1/evidence.json",
        "sha256": draw(st.sampled_from(["0" * 64, "1" * 64, "e1" * 32, "a" * 64])),
        "commit": draw(st.sampled_from([None, "1e5" + "0" * 37, "abc" + "0" * 37])),
        "dirty": draw(st.booleans()),
        "summary": draw(WORDS | ENTRY_TEXTS),
        "verdicts": draw(st.sampled_from([{}, {"F-A-001": "FALSIFIED", "F-A-002": "OPEN"}])),
    }


def texts() -> st.SearchStrategy[str]:
    return block_texts() | block_texts() | block_texts() | flow_texts()

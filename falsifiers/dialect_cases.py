"""Contracts in the provable-contracts dialect, in every form that its public ones take.

Written for these tests. Knows the dialect's documentation, and nothing of how it is read.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from falsifiers.harness_command import exit_code
from falsifiers.ran import Ran

GOOD = """\
# A kernel that scales; written for a test
metadata:
  version: "1.2.0"
  created: '2026-02-18'
  author: Somebody
  registry: false
  description: >
    Scaling by a constant. It is exact for powers of two, and
    rounded once for the rest.
  references:
    - "IEEE 754-2019, section 5.4.1"
  depends_on: [elsewhere-v1]
equations:
  scale:
    formula: "y = c * x"
    domain: "x finite"
    codomain: "y finite"
    invariants: ["y / c = x"]
    preconditions:
      - c != 0
proof_obligations:
  - type: invariant
    property: "Exact for powers of two"
    tolerance: 0.0
    lean: {theorem: Scale.exact, status: sorry}
falsification_tests:
  - id: FALSIFY-SCALE-001
    rule: Exact for powers of two
    prediction: scaling by 2 and by 0.5 gives back x
    test: property test over 1,000 values  # by hand
    if_fails: the product is rounded twice
  - id: FALSIFY-SCALE-002
    rule: Rounded once
    prediction: relative error <= 1e-7
    test: |
      cargo test -p scale --lib falsify_scale_002
      # a line of the command, no comment
    if_fails: |
      An intermediate is stored in a narrower type.
    mutation_hint: store the product in float16
kani_harnesses:
  - id: KANI-SCALE-001
    obligation: SCALE-INV-001
    bound: 8
qa_gate:
  id: F-SCALE-GATE
  name: Scaling
  checks: [exact, rounded]
  pass_criteria: All 2 falsification tests pass
grades:
  1: fails
  2: passes
status_history:
  - {version: "1.2.0", date: '2026-04-01', pr: 31, summary: rounding stated}
  - {version: "1.1.0", date: '2026-03-01', pr: 12, summary: harness added}
  - {version: "1.0.0", date: '2026-02-18', pr: 3, summary: first}
"""
IDS = ["FALSIFY-SCALE-001", "FALSIFY-SCALE-002"]


def item(**parts: str) -> str:
    """One list item of a section, as YAML that is JSON."""
    return f"  - {json.dumps(parts)}\n"


PLAIN = {"id": "F-A-1", "rule": "r", "prediction": "p", "test": "t", "if_fails": "f"}


def renamed(**aliases: str) -> dict[str, str]:
    """`PLAIN` under other keys."""
    return {aliases.get(key, key): value for key, value in PLAIN.items()}


# what a file holds -> the falsifier's (id, rule, prediction, test, if_fails) that it states
FORMS: dict[str, tuple[str, tuple[str | None, ...]]] = {
    **{
        f"alias {new}": (
            f"falsification_tests:\n{item(**renamed(**{old: new}))}",
            (*PLAIN.values(),),
        )
        for old, new in [
            ("rule", "description"),
            ("prediction", "expected"),
            ("test", "command"),
            ("if_fails", "fails_if"),
        ]
    },
    "all aliases": (
        "metadata: {version: 1.0.0}\nfalsification_tests:\n"
        + item(**renamed(rule="description", prediction="expected", if_fails="fails_if")),
        (*PLAIN.values(),),
    ),
    "the older section": (
        "falsification:\n" + item(id="F-A-1", description="r", test="t", evidence="cargo"),
        ("F-A-1", "r", None, "t", None),
    ),
    "a name for an id": (
        "falsification:\n" + item(name="F-A-1", description="r", check="p", enforcement="t"),
        ("F-A-1", "r", "p", "t", None),
    ),
    "conditions": (
        "falsification_conditions:\n"
        + item(id="F-A-1", name="r", assertion="p", test_harness="t", status="PLANNED"),
        ("F-A-1", "r", "p", "t", None),
    ),
    "a gate among falsifiers": (
        "kind: AlgorithmContract\nfalsification:\n" + item(id="GATE-A-1", description="r"),
        ("GATE-A-1", "r", None, None, None),
    ),
    "as JSON": (
        json.dumps({"metadata": {"version": "1.0.0"}, "falsification_tests": [PLAIN]}),
        (*PLAIN.values(),),
    ),
}
THEIRS_WITHOUT_FALSIFIERS = [
    "metadata: {version: 1.0.0, kind: registry}\nentries: [a, b]\n",
    "proof_obligations:\n  - {type: bound, property: x is finite}\n",
    "qa_gate: {id: F-GATE, name: a gate}\n",
]
NOT_THEIRS = [
    "schema: tollens/contract/v1\nmetadata: {version: 1.0.0}\n",
    "falsifiers: []\nmetadata: {version: 1.0.0}\n",
    "bindings: []\n",
    "- metadata\n",
    "metadata\n",
    "",
]


@dataclass(frozen=True)
class Edit:
    """A change of `GOOD`, and what must be said of it; `at` stands on the line to name."""

    old: str
    new: str
    at: str
    key: str
    severity: str
    found: str


FIRST = "falsification_tests[0]"
START = "- id: FALSIFY-SCALE-001"
ERRORS = [  # no valid contract in the dialect itself: (old, new, at, key, found)
    ("author: Somebody", "author: a: b", "author:", "", "mapping values"),
    ("author: S", "author: A\n  author: S", "author: S", "metadata.author", "second"),
    ("SCALE-002\n", "SCALE-001\n", "SCALE-001\n    rule: R", "falsification_tests[1].id", "second"),
    ("KANI-SCALE-001", IDS[0], f"{IDS[0]}\n    obl", "kani_harnesses[0].id", "second"),
    ("grades:", "falsification: x\ngrades:", "falsification: x", "falsification", "a text"),
    ("grades:", "falsification: [x]\ngrades:", "tion: [x]", "falsification[0]", "a text"),
    ("grades:", "falsification: {F: {}}\ngrades:", "F: {}", "falsification", "a mapping"),
    ("equations:", "equations: [x]\nunused:", "equations: [", "equations", "a list"),
]
WARNINGS = [  # looser there than here
    ('  version: "1.2.0"\n', "", "metadata:", "metadata.version", "nothing"),
    ("  description: >\n", "  summary: >\n", "metadata:", "metadata.description", "nothing"),
    ('references:\n    - "I', 'cited:\n    - "I', "metadata:", "metadata.references", "nothing"),
    ("    test: property test over 1,000 values  # by hand\n", "", START, f"{FIRST}.test", "noth"),
    ("    if_fails: the product is rounded twice\n", "", START, f"{FIRST}.if_fails", "nothing"),
    ("    prediction: scaling by 2 ", "    said: ", START, f"{FIRST}.prediction", "nothing"),
    (f"{START}\n    rule", "- rule", "- rule", f"{FIRST}.id", "nothing"),
    ("rule: Ex", "description: d\n    rule: Ex", "tion: d", f"{FIRST}.description", "beside rule"),
    ("metadata:", "status: ACTIVE\nmetadata:", "status: A", "status", "by hand"),
    ("  author", "  status: ACTIVE\n  author", "status: A", "metadata.status", "by hand"),
    ('property: "E', 'note: "E', "- type: inv", "proof_obligations[0]", "nothing"),
    ("obligation: S", "of: S", "- id: KANI", "kani_harnesses[0]", "nothing"),
]
EDITS = [
    Edit(old, new, at, key, severity, found)
    for severity, edits in (("error", ERRORS), ("warning", WARNINGS))
    for old, new, at, key, found in edits
]
# kept without a word
UNSAID = [
    ("grades:", "whatever: {it: [is]}\ngrades:"),
    ("    bound: 8", "    bound: 8\n    1: one"),
    ("  author:", "  2026-01-01: a date\n  author:"),
    ("    mutation_hint", "    discharge_status: x\n    mutation_hint"),
]


def tollens(monkeypatch, root: Path, *arguments: str) -> Ran:
    """`tollens …` in `root`, in this process, so that planted faults are in force."""
    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as patches:
        patches.chdir(root)
        patches.setattr(sys, "argv", ["tollens", *arguments])
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = exit_code()
    return Ran(code, out.getvalue(), err.getvalue())


# Documents for the import: each scalar is unlike every other, so that it can be looked for.

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ODD = [
    "",
    " ",
    "a: b",
    "# no comment",
    "- x",
    "'",
    '"',
    "é😀",
    "1e-6",
    "no",
    "~",
    "two\nlines",
    "\t",
]


class Values:
    """Draws scalars, each with a number of its own in it."""

    def __init__(self, data: st.DataObject) -> None:
        self.data, self.count = data, 0

    def scalar(self) -> str | int | float | bool | None:
        self.count += 1
        kind = self.data.draw(st.sampled_from(["text", "text", "text", "int", "float", "odd"]))
        number = 7_000_000 + self.count
        if kind == "int":
            return number
        if kind == "float":
            return number + 0.5
        odd = self.data.draw(st.sampled_from(ODD)) if kind == "odd" else ""
        return f"value {number} {odd}".rstrip(" ") if kind == "odd" else f"value {number}"

    def tree(self, depth: int = 2) -> object:
        kind = self.data.draw(st.sampled_from(["scalar", "scalar", "list", "dict"]))
        if depth == 0 or kind == "scalar":
            return self.scalar()
        if kind == "list":
            return [self.tree(depth - 1) for _ in range(self.data.draw(st.integers(0, 2)))]
        return self.mapping(["key one", "Key2", "k.3", "4"], depth - 1)

    def mapping(self, keys: list[str], depth: int = 1) -> dict[str, object]:
        chosen = self.data.draw(st.sets(st.sampled_from(keys)))
        return {key: self.tree(depth) for key in keys if key in chosen}


FALSIFIER_KEYS = [
    *("rule", "description", "prediction", "expected", "test", "command", "if_fails", "fails_if"),
    *("evidence", "algorithm_evidence", "ship_blocking", "name"),
]
METADATA_KEYS = ["version", "created", "author", "description", "references", "depends_on", "kind"]
TOP_KEYS = ["name", "kind", "scope", "description", "non_goals", "enforcement", "kernel_structure"]


def document(data: st.DataObject) -> dict[str, object]:
    """A contract in the dialect with anything in any place where its reader takes anything."""
    values = Values(data)
    sections = data.draw(st.lists(st.sampled_from(SECTIONS), min_size=1, unique=True))
    count = iter(range(1, 100))
    made: dict[str, object] = {"metadata": values.mapping(METADATA_KEYS)}
    for section in sections:
        made[section] = [
            values.mapping(FALSIFIER_KEYS)
            | ({"id": f"{data.draw(st.sampled_from(PREFIXES))}{next(count):03}"})
            for _ in range(data.draw(st.integers(1, 2)))
        ]
    made |= values.mapping(TOP_KEYS, 2)
    if data.draw(st.booleans()):
        names = data.draw(st.lists(st.sampled_from(EQUATIONS), max_size=3, unique=True))
        keys = ["formula", "domain", "codomain", "invariants", "note"]
        made["equations"] = {name: values.mapping(keys) for name in names}
    if data.draw(st.booleans()):
        made["qa_gate"] = values.mapping(["name", "checks", "pass_criteria"]) | {"id": "F-GATE"}
    if data.draw(st.booleans()):
        made["proof_obligations"] = [values.mapping(["type", "property", "formal", "lean"])]
        made["kani_harnesses"] = [values.mapping(["obligation", "bound"]) | {"id": "KANI-1"}]
    if data.draw(st.booleans()):
        made["status_history"] = history(data, values)
    return made


SECTIONS = ["falsification_tests", "falsification", "falsification_conditions"]
PREFIXES = ["FALSIFY-A-", "F_B_", "lower-", "QW3.x-", "9-"]
EQUATIONS = ["law", "Law", "the law", "2nd_law", "θ"]


def history(data: st.DataObject, values: Values) -> list[dict[str, object]]:
    days = sorted(data.draw(st.lists(st.integers(1, 28), min_size=1, max_size=5)))
    entries = [
        {"version": f"1.{i}.0", "date": f"2026-03-{day:02}", "summary": values.scalar()}
        for i, day in enumerate(days)
    ]
    return entries[::-1] if data.draw(st.booleans()) else entries


def leaves(value: object) -> list[object]:
    """Every scalar in a document."""
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


def as_text(leaf: object) -> str:
    """How a scalar is looked for: without the white space around it."""
    return leaf.strip() if isinstance(leaf, str) else json.dumps(leaf)

"""A good contract and the edits that spoil it, each with what must be said of it and where."""

from __future__ import annotations

from dataclasses import dataclass

GOOD = """\
# a comment
schema: tollens/contract/v1
id: bad-v1
version: 1.0.0
title: A contract to spoil
depends_on: []
subject: [small.part]
equations:
  law: {formula: y = x}
falsifiers:
  - id: F-BAD-001
    rule: first
    prediction: the error is small
    needs: [{env: HOME}]
    measures:
      error: {le: 1.0}
      span: {between: [1, 2]}
  - id: F-BAD-002
    rule: second
    prediction: "the rate is high"
    measures: {rate: {ge: 0.5, confidence: 0.95}}
    kills: [some-fault]

gates:
  - {id: GATE-BAD, requires: [F-BAD-001], ship_blocking: true}
"""


@dataclass(frozen=True)
class Bad:
    """An edit that spoils `GOOD`, and what must be said of it; `at` stands on the line to name."""

    old: str
    new: str
    at: str
    key: str
    found: str
    expected: str


BOUND = "{le: 1.0}"
MEASURES = "falsifiers[0].measures"
FIRST = f"{MEASURES}.error"
BAD = [
    Bad("title: A", "titel: A\ntitle: A", "titel", "titel", "unknown key", "title"),
    Bad("rule: s", "rul: s\n    rule: s", "rul:", "falsifiers[1].rul", "unknown key", "rule"),
    Bad("ge: 0.5,", "ge: 0.5, at: 1,", "rate:", "falsifiers[1].measures.rate.at", "unknown", "ge"),
    Bad("ship_b", "fly: 1, ship_b", "GATE", "gates[0].fly", "unknown key", "ship_blocking"),
    Bad("env: HOME", "envy: HOME", "envy", "falsifiers[0].needs[0].envy", "unknown key", "env"),
    Bad("formula: y", "invariant: y, formula: y", "law", "equations.law.invariant", "unk", "inva"),
    Bad("title: A contract to spoil\n", "", "schema:", "title", "nothing", "title"),
    Bad("    rule: second\n", "", "- id: F-BAD-002", "falsifiers[1].rule", "nothing", "rule"),
    Bad("formula: y = x", "domain: x", "law", "equations.law.formula", "nothing", "formula"),
    Bad("requires: [F-BAD-001], ", "", "GATE", "gates[0].requires", "nothing", "req"),
    Bad("version: 1", "title: B\nversion: 1", "title: A", "title", "second time", "once"),
    Bad("{le: 1.0}", "{le: 1.0, le: 2.0}", "error:", f"{FIRST}.le", "second time", "once"),
    Bad("rule: s", "id: F-X\n    rule: s", "id: F-X", "falsifiers[1].id", "second", "once"),
    Bad("id: F-BAD-002", "id:  F-BAD-001", "id:  F", "falsifiers[1].id", "second", "once"),
    Bad("GATE-BAD", "F-BAD-001", "ship", "gates[0].id", "F-BAD-001", "once"),
    Bad(BOUND, "{le: .inf}", "error:", f"{FIRST}.le", "inf", "finite"),
    Bad(BOUND, "{ge: -.inf}", "error:", f"{FIRST}.ge", "-inf", "finite"),
    Bad(BOUND, "{eq: .nan}", "error:", f"{FIRST}.eq", "nan", "finite"),
    Bad(BOUND, "{lt: 1e999}", "error:", f"{FIRST}.lt", "inf", "finite"),
    Bad("[1, 2]", "[1, .inf]", "span", f"{MEASURES}.span.between[1]", "inf", "finite"),
    Bad("[1, 2]", "[2, 1]", "span", f"{MEASURES}.span", "[2, 1]", "low"),
    Bad("[1, 2]", "[1]", "span", f"{MEASURES}.span.between", "[1]", "2 items"),
    Bad(BOUND, "{le: 1, ge: 0}", "error:", FIRST, "'ge': 0", "exactly one"),
    Bad(BOUND, "{le: 1, eq: null}", "error:", FIRST, "None", "exactly one"),
    Bad(BOUND, "{unit: s}", "error:", FIRST, "'unit': 's'", "exactly one"),
    Bad(BOUND, "{eq: 1, confidence: 0.9}", "error:", FIRST, "0.9", "ordered"),
    Bad(BOUND, "{le: 1, confidence: 1}", "error:", f"{FIRST}.confidence", "1", "less than 1"),
    Bad(BOUND, "{le: much}", "error:", f"{FIRST}.le", "'much'", "number"),
    Bad(BOUND, "{le: true}", "error:", f"{FIRST}.le", "True", "number"),
    Bad(BOUND, "small", "error:", FIRST, "'small'", "dictionary"),
    Bad(
        "error: {le: 1.0}",
        "float: {le: x}",
        "float:",
        f"{MEASURES}.float.le",
        "x",
        "num",
    ),
    Bad("error: {", "Bad-Name: {", "Bad-N", f"{MEASURES}.Bad-Name", "Bad-N", "pattern"),
    Bad(
        "{rate: {ge: 0.5, confidence: 0.95}}", "{}", "{}", "falsifiers[1].measures", "{}", "1 item"
    ),
    Bad("id: bad-v1", "id: other-v1", "id: other", "id", "other-v1", "bad-v1"),
    Bad("id: bad-v1", "id: Bad_v1", "id: Bad", "id", "Bad_v1", "pattern"),
    Bad(
        "GATE-BAD, requires: [", "G-B, requires: [F-X, ", "G-B", "gates[0].requires[0]", "F-X", "F-"
    ),
    Bad("1.0.0", "1.0", "version:", "version", "1.0", "string"),
    Bad("1.0.0", "1.0.0-beta", "version:", "version", "beta", "pattern"),
    Bad("1.0.0", "01.0.0", "version:", "version", "01.0.0", "pattern"),
    Bad("contract/v1", "contract/v2", "schema", "schema", "v2", "tollens/contract/v1"),
    Bad("[small.part]", "small.part", "subject", "subject", "'small.part'", "list"),
    Bad("[small.part]", "[]", "subject", "subject", "[]", "1 item"),
    Bad("rule: first", "rule: 3", "rule: 3", "falsifiers[0].rule", "3", "string"),
    Bad("rule: first", "rule: ' '", "rule: '", "falsifiers[0].rule", "' '", "1 character"),
    Bad("rule: first", "rule: a\n    level: top", "top", "falsifiers[0].level", "'top'", "runtime"),
    Bad("[some-fault]", "[Some_fault]", "Some", "falsifiers[1].kills[0]", "Some_fault", "pattern"),
    Bad("env: HOME", "env: A, file: b", "needs", "falsifiers[0].needs[0]", "file", "exactly one"),
    Bad("env: HOME", "env: null", "needs", "falsifiers[0].needs[0]", "None", "exactly one"),
    Bad("env: HOME", "device: tpu", "needs", "falsifiers[0].needs[0].device", "tpu", "cuda"),
    Bad("blocking: true", "blocking: no", "GATE", "gates[0].ship_blocking", "'no'", "boolean"),
    Bad("title: A contract to spoil", "title:", "title:", "title", "None", "string"),
    Bad("    rule: second", "\trule: second", "\trule", "", "a tab", "spaces"),
    Bad("  - id: F-BAD-002", "\t- id: F-BAD-002", "\t- id", "", "a tab", "spaces"),
    Bad("second", "s\udcffcond", "rule: s", "", "0xff", "UTF-8"),
    Bad("second", "s\x01cond", "rule: s", "", "U+0001", "printable"),
    Bad("\ngates:", "---\ngates:", "---", "", "second document", "one document"),
    Bad("rule: second", "rule: *first", "*first", "", "*first", "plain"),
    Bad("rule: second", "rule: &r second\n    if_fails: *r", "*r", "", "*r", "plain"),
    Bad("title: A", "title: !!str A", "!!str", "", "tag:yaml.org,2002:str", "plain"),
    Bad("title: A", "title: !mine A", "!mine", "", "!mine", "plain"),
    Bad("title: A", "3: x\ntitle: A", "3: x", "", "3", "string"),
    Bad('"the rate is high"', '"the rate is high', '"the', "", "end of stream", "quoted"),
    Bad(GOOD, "", "", "", "nothing", "mapping"),
    Bad(GOOD, "# only a comment\n", "", "", "nothing", "mapping"),
    Bad(GOOD, "- schema: tollens/contract/v1\n", "", "", "list", "mapping"),
    Bad(GOOD, "just text\n", "", "", "str", "mapping"),
]

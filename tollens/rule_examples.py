"""For each rule of `tollens check` an example that breaks it, on one small project.

The project is recorded (`pytest --contract contracts --sabotage`) and committed before an example
is tried on it. Knows neither what the rules say nor how they are checked.
"""

from __future__ import annotations

from dataclasses import dataclass

from tollens.errors import Severity

CONTRACT = "contracts/adder-v1.yaml"
TEST = "falsifiers/test_adder.py"
SABOTEURS = "falsifiers/saboteurs/adder.py"
EVIDENCE = "evidence/adder-v1/evidence.json"
SUBJECT = "calc/add.py"
NEED = "ADDER_FILE"

SAMPLE = {
    CONTRACT: """\
# yaml-language-server: $schema=contract.schema.json
schema: tollens/contract/v1
id: adder-v1
version: 1.0.0
title: Addition
subject: [calc.add]
falsifiers:
  - id: F-ADDER-001
    rule: addition is exact
    prediction: the largest error is 0
    measures: {max_abs_error: {le: 1e-6}}
    kills: [adder-off-by-one]
  - id: F-ADDER-002
    rule: addition is exact on the numbers of a file
    prediction: the largest error is 0
    needs: [{env: ADDER_FILE}]
    measures: {max_abs_error: {le: 1e-6}}
    kills: [adder-off-by-one]
""",
    SUBJECT: "def add(a, b):\n    return a + b\n",
    TEST: """\
import pytest
from calc.add import add


@pytest.mark.falsifies("F-ADDER-001")
def test_addition_is_exact(observe):
    observe("max_abs_error", abs(add(2, 2) - 4))


@pytest.mark.falsifies("F-ADDER-002")
def test_addition_of_a_file(observe):
    observe("max_abs_error", abs(add(1, 2) - 3))
""",
    SABOTEURS: '''\
def adder_off_by_one(plant):
    """Adds one too many."""
    plant("calc.add.add", lambda add: lambda a, b: add(a, b) + 1)
''',
}


@dataclass(frozen=True)
class Example:
    """What breaks a rule, and where it is then found: in `path`, on the line with the text `line`.

    First `old` becomes `new` in the file `edits` (an empty `old` makes the file), then `then` is
    run by a shell, and then `check`.
    """

    line: str
    also: str = ""  # the text on a second such line
    edits: str = ""
    old: str = ""
    new: str = ""
    then: str = ""
    path: str = CONTRACT
    severity: Severity = "error"
    check: str = "tollens check"

    @property
    def lines(self) -> list[str]:
        return [*filter(None, [self.line, self.also])]

    @property
    def steps(self) -> list[str]:
        return [*filter(None, [self.then]), self.check]


EXAMPLES = {
    "yaml": Example(
        edits=CONTRACT, old="id: adder-v1", new="id: adder-v1\nid: sum-v1", line="id: sum-v1"
    ),
    "schema": Example(
        edits=CONTRACT, old="version: 1.0.0", new="version: one", line="version: one"
    ),
    "dialect": Example(
        edits="contracts/prose-v1.yaml",
        new="""\
metadata: {version: 1.0.0, description: d, references: [r]}
falsification_tests:
  - {id: F-PROSE-001, prediction: p, test: by hand, if_fails: f}
""",
        path="contracts/prose-v1.yaml",
        line="id: F-PROSE-001",
        severity="warning",
    ),
    "prose": Example(
        edits="contracts/prose-v1.yaml",
        new="""\
metadata: {version: 1.0.0, description: d, references: [r]}
falsification_tests:
  - {id: F-PROSE-001, rule: r, prediction: p, test: by hand, if_fails: f}
""",
        path="contracts/prose-v1.yaml",
        line="id: F-PROSE-001",
        severity="warning",
    ),
    "modeline": Example(
        edits=CONTRACT,
        old="# yaml-language-server: $schema=contract.schema.json",
        new="# Addition",
        line="# Addition",
        severity="warning",
    ),
    "subject": Example(
        edits=CONTRACT, old="subject: [calc.add]", new="subject: [calc.sum]", line="[calc.sum]"
    ),
    "unbound": Example(
        edits=TEST,
        old='@pytest.mark.falsifies("F-ADDER-002")',
        new='@pytest.mark.falsifies("F-ADDER-001")',
        line="id: F-ADDER-002",
    ),
    "dangling": Example(
        edits=TEST,
        old='@pytest.mark.falsifies("F-ADDER-002")',
        new='@pytest.mark.falsifies("F-ADDER-003")',
        path=TEST,
        line="F-ADDER-003",
    ),
    "no-saboteur": Example(
        edits=CONTRACT,
        old="    kills: [adder-off-by-one]\n  - id: F-ADDER-002",
        new="  - id: F-ADDER-002",
        line="id: F-ADDER-001",
    ),
    "saboteur": Example(
        edits=CONTRACT,
        old="    kills: [adder-off-by-one]\n  - id: F-ADDER-002",
        new="    kills: [adder-off-by-two]\n  - id: F-ADDER-002",
        line="adder-off-by-two",
    ),
    "unused-saboteur": Example(
        edits="falsifiers/saboteurs/idle.py",
        new='def idle(plant):\n    """Does nothing."""\n',
        path="falsifiers/saboteurs/idle.py",
        line="def idle(plant):",
        severity="warning",
    ),
    "moved-claims": Example(
        edits=CONTRACT,
        old="    prediction: the largest error is 0\n    measures: {max_abs_error: {le: 1e-6}}",
        new="    prediction: the largest error is 0\n    measures: {max_abs_error: {le: 1e-3}}",
        line="version: 1.0.0",
    ),
    "evidence": Example(
        edits=EVIDENCE,
        old='"verdict": "BLOCKED"',
        new='"verdict": "CORROBORATED"',
        line="schema: tollens/contract/v1",
    ),
    "no-evidence": Example(
        edits=CONTRACT,
        old="status_history:\n",
        new="""\
  - id: F-ADDER-003
    rule: addition commutes
    prediction: the largest error is 0
    measures: {max_abs_error: {le: 1e-6}}
    kills: [adder-off-by-one]
status_history:
""",
        line="id: F-ADDER-003",
    ),
    "stale": Example(
        edits=SUBJECT,
        old="    return a + b",
        new="    return b + a",
        line="id: F-ADDER-001",
        also="id: F-ADDER-002",
    ),
    "unproven": Example(
        edits=SABOTEURS,
        old="add(a, b) + 1)",
        new="add(a, b) + 2)",
        line="id: F-ADDER-001",
    ),
    "refuted": Example(
        edits=SUBJECT,
        old="    return a + b",
        new="    return a - b",
        then="pytest -q --contract contracts --record=auto",
        line="id: F-ADDER-001",
    ),
    "blocker-gone": Example(
        check=f"{NEED}=numbers.txt tollens check", line="id: F-ADDER-002", severity="warning"
    ),
    "history": Example(
        edits=CONTRACT,
        old="    to: PARTIAL_ALGORITHM_LEVEL",
        new="    to: ACTIVE_RUNTIME",
        line="- date:",
    ),
    "orphan": Example(
        then="cp -r evidence/adder-v1 evidence/gone-v1",
        path="evidence/gone-v1/evidence.json",
        line="{",
        severity="warning",
    ),
    "baseline": Example(
        edits="accepted.yaml",
        new="""\
schema: tollens/baseline/v1
accepted:
  - fingerprint: 0123456789abcdef:1
    rule: stale
    path: contracts/adder-v1.yaml
    found: F-ADDER-001 at level algorithm
    reason: recorded again when the machine is back
    expires: 2999-12-31
""",
        path="accepted.yaml",
        line="- fingerprint:",
        check="tollens check --baseline accepted.yaml",
    ),
}

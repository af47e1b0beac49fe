"""Tries to refute the command line: each rule, exit code and output, on a small recorded project.

The oracle is the mutation itself: the test knows which rule it broke and on which line.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from falsifiers.adder_project import Adder, first
from falsifiers.harness_command import tollens  # noqa: F401
from tollens.rule_examples import EXAMPLES, NEED, SUBJECT, TEST, Example
from tollens.rules import RULES
from tollens.scaffold import put_schema

FILES = {
    "pyproject.toml": """\
[tool.pytest.ini_options]
testpaths = ["falsifiers"]
pythonpath = ["."]
addopts = ["-p", "no:hypothesispytest", "-p", "no:anyio"]
""",
    "calc/__init__.py": "",
    "calc/add.py": "def add(a, b):\n    return a + b\n",
    "contracts/calc-v1.yaml": """\
# yaml-language-server: $schema=contract.schema.json
schema: tollens/contract/v1
id: calc-v1
version: 1.0.0
title: Addition
subject: [calc.add]
falsifiers:
  - id: F-CALC-001
    rule: addition is exact
    prediction: the error is 0
    measures: {error: {le: 1e-6}}
    kills: [off-by-one]
  - id: F-CALC-002
    rule: a need that is not met
    prediction: blocked
    needs: [{env: TOLLENS_TEST_NEED}]
    measures: {error: {le: 1e-6}}
    kills: [off-by-one]
gates:
  - {id: GATE-CALC, requires: [F-CALC-001]}
""",
    "falsifiers/test_calc.py": """\
import pytest
from calc.add import add


@pytest.mark.falsifies("F-CALC-001")
def test_add(observe, tmp_path):
    (tmp_path / "note.txt").write_text("seen")
    observe.attach(tmp_path / "note.txt")
    observe("error", abs(add(2, 2) - 4))


@pytest.mark.falsifies("F-CALC-002")
def test_blocked(observe):
    observe("error", abs(add(1, 2) - 3))
""",
    "falsifiers/saboteurs/calc.py": """\
def off_by_one(plant):
    "Adds one too many."
    plant("calc.add.add", lambda add: lambda a, b: add(a, b) + 1)
""",
}
PROSE = """\
metadata: {version: 1.0.0, description: d, references: [r]}
falsification_tests:
  - {id: F-PROSE-001, rule: r, prediction: p, test: by hand, if_fails: f}
"""
CONTRACT, EVIDENCE = "contracts/calc-v1.yaml", "evidence/calc-v1/evidence.json"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A project whose evidence was recorded by a real run and committed."""
    root = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    put_schema(root / CONTRACT)
    _git(root, "init", "-q")
    _commit(root)
    run = [sys.executable, "-m", "pytest", "-q", "--contract", "contracts", "--sabotage"]
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    done = subprocess.run(run, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    _commit(root)
    return root


@pytest.fixture
def adder(tmp_path, monkeypatch, capsys):
    return Adder(tmp_path / "repository", monkeypatch, capsys)


@pytest.fixture
def project(recorded, tmp_path, monkeypatch):
    root = tmp_path / "project"
    shutil.copytree(recorded, root)
    monkeypatch.chdir(root)
    return root


def _git(root, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def _commit(root):
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "state", "--allow-empty")


def _edit(path, old, new):
    text = Path(path).read_text()
    assert old in text, f"{old!r} is not in {path}"
    Path(path).write_text(text.replace(old, new, 1))


# more ways to break a rule than its example has
ABOVE = f"""rm -r evidence
sed -i 's|observe(|observe.at("functional", artifact="{SUBJECT}"); &|' {TEST}"""
EDIT = f"sed -i s/a.+.b/b+a/ {SUBJECT}"
VARIANTS = [
    (
        "modeline",
        Example(then="rm contracts/contract.schema.json", line="# yaml-", severity="warning"),
    ),
    (
        "stale",  # above level algorithm
        Example(
            then="; ".join([ABOVE, f"{NEED}=x pytest -q --contract contracts --record=auto", EDIT]),
            line="id: F-ADDER-001",
            also="id: F-ADDER-002",
            severity="warning",
        ),
    ),
]


@pytest.mark.falsifies("TOLLENS-CLI-001")
def test_each_rule_fires_where_it_is_broken(adder, observe):
    every = [*EXAMPLES.items(), *VARIANTS]
    differing = first(adder.differing(rule, example) for rule, example in every)
    print(differing)
    silent = [rule for rule, found in differing if not found]
    observe("silent_rules", len(silent))
    observe("misplaced_findings", len(differing) - len(silent))
    observe("untried_rules", len(RULES.keys() - EXAMPLES.keys()))


@pytest.mark.falsifies("TOLLENS-CLI-002")
def test_a_sound_project_gives_no_finding(project, tollens, observe):  # noqa: F811
    checked = tollens("check", "--format", "json")
    others = [tollens("verify"), tollens("verify", "--history"), tollens("status")]
    observe("findings", len(checked.json["findings"]))
    observe("nonzero_exits", sum(ran.code != 0 for ran in [checked, *others]))


ALTERATIONS = {
    "a verdict": lambda: _edit(EVIDENCE, '"CORROBORATED"', '"FALSIFIED"'),
    "a value": lambda: _edit(EVIDENCE, '"margin": 1e-06', '"margin": 1e-05'),
    "white space": lambda: _edit(EVIDENCE, "{\n", "{ \n"),
    "the status": lambda: _edit(CONTRACT, "to: PARTIAL_ALGORITHM_LEVEL", "to: ACTIVE_RUNTIME"),
    "the whole history": lambda: Path(CONTRACT).write_text(FILES[CONTRACT]),
    "an attachment": lambda: next(Path("evidence").rglob("*-note.txt")).write_text("other"),
    "a lost attachment": lambda: next(Path("evidence").rglob("*-note.txt")).unlink(),
    "another's evidence": lambda: _move_evidence(),
}


def _move_evidence():
    shutil.move("evidence/calc-v1", "evidence/other-v1")


@pytest.mark.falsifies("TOLLENS-CLI-003")
def test_what_is_altered_by_hand_does_not_verify(project, tollens, observe):  # noqa: F811
    unnoticed = []
    for name, alter in ALTERATIONS.items():
        _git(project, "checkout", "-q", ".")
        _git(project, "clean", "-fdq")
        alter()
        ran = tollens("verify", "--history")
        if ran.code != 1 or "FAILS" not in ran.out:
            unnoticed.append(name)
    observe("unnoticed_alterations", len(unnoticed))
    observe("alterations", len(ALTERATIONS))
    assert not unnoticed, unnoticed


USES = [
    (["check"], 0),
    (["check", "contracts/calc-v1.yaml"], 0),
    (["check", "absent.yaml"], 2),
    (["check", "calc"], 2),
    (["check", "--no-such-option"], 2),
    (["status", "absent.yaml"], 2),
    (["verify", "evidence"], 0),
    (["verify", "evidence/calc-v1"], 0),
    (["verify", "absent"], 2),
    (["verify", "calc"], 2),
    (["verify", "evidence", "calc"], 2),
    (["explain", "F-CALC-001"], 0),
    (["explain", "GATE-CALC"], 0),
    (["explain", "stale"], 0),
    (["explain", "F-NOPE-001"], 2),
    (["diff", "HEAD:contracts/calc-v1.yaml", "contracts/calc-v1.yaml"], 0),
    (["diff", "HEAD:contracts/calc-v1.yaml", "absent.yaml"], 2),
    (["graph", "loop"], 1),
    (["new", "Foo Bar", "--subject", "calc.add"], 2),
    (["import", "contracts/calc-v1.yaml"], 2),
    (["import", "absent.yaml"], 2),
    (["schema"], 0),
    (["schema", "evidence"], 0),
    (["schema", "nothing"], 2),
    (["schema", "--format", "text"], 2),
    (["check", "--baseline", "absent.yaml"], 2),
    (["check", "--update"], 2),
    (["check", "--diff", "no-such-revision"], 2),
    (["explain", "--rules"], 0),
    (["explain"], 2),
    (["sign"], 2),
    (["export", "absent.json"], 2),
    (["export", "evidence"], 2),
    (["export", EVIDENCE, "--format", "text"], 2),
    (["nothing"], 2),
    (["--version"], 0),
]
# what cannot be read or written, and the path that the one line of the error names
UNUSABLE = [
    (["import", "prose-v1.yaml", "-o", "pyproject.toml/x-v1.yaml"], "pyproject.toml"),
    (["check", "--baseline", "pyproject.toml/x.yaml", "--update"], "pyproject.toml"),
    (["report", "-o", "pyproject.toml/x.html"], "pyproject.toml/x.html"),
    (["diff", "HEAD:contracts/calc-v1.yaml", CONTRACT], "HEAD:contracts/calc-v1.yaml"),  # no git
]


@pytest.mark.falsifies("TOLLENS-CLI-004")
def test_bad_usage_is_told_with_the_documented_exit_code(
    project,
    tollens,  # noqa: F811
    observe,
    tmp_path,
    monkeypatch,
):
    Path("prose-v1.yaml").write_text(PROSE)
    _write_loop()
    ran = {" ".join(arguments): (tollens(*arguments), code) for arguments, code in USES}
    wrong = {name: each.code for name, (each, code) in ran.items() if each.code != code}
    monkeypatch.setenv("PATH", "")
    unusable = [(tollens(*arguments), name) for arguments, name in UNUSABLE]
    unclear = [each for each in unusable if not _is_clear(*each)]
    told = [each.out + each.err for each, _ in [*unusable, *ran.values()]]
    assert not unclear, unclear
    observe("wrong_exits", len(wrong))
    observe("tracebacks", sum("Traceback" in text for text in told))
    observe("silent_failures", sum(not text.strip() for text in told))
    observe("unclear_errors", len(unclear))
    (tmp_path / "lone-v1.yaml").write_text("id: [")
    alone = tollens("check", str(tmp_path / "lone-v1.yaml")).out
    observe("unnamed_files", int("lone-v1.yaml:1: error: yaml" not in alone))
    assert not wrong, wrong


def _is_clear(ran, name):
    return ran.code == 2 and f"{name}: " in ran.err and ran.err.count("\n") == 1


def _write_loop():
    """Two contracts that rest on each other, in a folder of their own."""
    Path("loop").mkdir()
    for name, other in ("a-v1", "b-v1"), ("b-v1", "a-v1"):
        text = FILES[CONTRACT].replace("id: calc-v1", f"id: {name}\ndepends_on: [{other}]")
        Path(f"loop/{name}.yaml").write_text(text.replace("CALC", name[0].upper() * 2))


COMMANDS = {
    "check": ["check"],
    "status": ["status"],
    "verify": ["verify", "--history"],
    "explain": ["explain", "F-CALC-001"],
    "diff": ["diff", "HEAD:contracts/calc-v1.yaml", "contracts/calc-v1.yaml"],
    "new": ["new", "other-v1", "--subject", "calc.add"],
    "export": ["export", EVIDENCE],
    "import": ["import", "prose-v1.yaml"],
    "schema": ["schema"],
    "report": ["report"],
    "graph": ["graph"],
}
ALWAYS_JSON = ("schema", "export")
UNWRAPPED = ("schema", "new", "explain", "export", "import")


@pytest.mark.falsifies("TOLLENS-CLI-005")
def test_output_is_readable_and_parses(project, tollens, observe, monkeypatch):  # noqa: F811
    helps = {name: tollens(name, "--help").out for name in COMMANDS}
    Path("prose-v1.yaml").write_text(PROSE)
    readable = [each for name, each in COMMANDS.items() if name not in UNWRAPPED]
    texts = [tollens(*arguments).out for arguments in readable]
    _edit("calc/add.py", "a + b", "b + a")
    texts.append(tollens("check").out)
    _git(project, "checkout", "-q", ".")
    wide = [line for text in texts for line in text.splitlines() if len(line) > 80]
    observe("helps_without_example", sum("Examples:" not in text for text in helps.values()))
    observe("wide_lines", len(wide))
    unparsable = [
        name
        for name, arguments in COMMANDS.items()
        for form in [[] if name in ALWAYS_JSON else ["--format", "json"]]
        if not _parses(tollens(*arguments, *form).out)
    ]
    observe("unparsable_outputs", len(unparsable))


def _parses(text):
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@pytest.mark.falsifies("TOLLENS-CLI-006")
def test_a_new_contract_is_valid_and_refuted_until_it_measures(project, tollens, observe):  # noqa: F811
    assert tollens("new", "other-v1", "--subject", "calc.add").code == 0
    written = [
        "contracts/other-v1.yaml",
        "falsifiers/test_other.py",
        "falsifiers/saboteurs/other.py",
    ]
    findings = tollens("check", "--format", "json").json["findings"]
    rules = {each["rule"] for each in findings if each["path"] == written[0]}
    run = [sys.executable, "-m", "pytest", "-q", "--contract", written[0], "--record=never"]
    done = subprocess.run(run, capture_output=True, text=True)
    texts = {path: f"mine: {Path(path).read_text()}" for path in written}
    for path, text in texts.items():
        Path(path).write_text(text)
    tollens("new", "other-v1", "--subject", "calc.add")
    kept = [Path(path).read_text() == text for path, text in texts.items()]
    refuted = re.search(r"^ +FALSIFIED", done.stdout, re.MULTILINE)
    observe("unexpected_rules", len(rules - {"no-evidence"}))
    observe("fails_until_written", done.returncode == 1 and refuted is not None)
    observe("overwritten_files", kept.count(False))

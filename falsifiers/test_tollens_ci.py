"""Tries to refute what CI and editors are given: formats, baselines, comparisons, hooks, pipelines.

The oracles are the published schemas (SARIF, workflows, pipelines), pre-commit itself, GitHub's way
of reading a command told again, and mutations of a recorded project whose findings are known.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from datetime import date
from importlib import resources
from urllib.parse import unquote

import click
import jsonschema
import pytest
import typer

from falsifiers import adder_project, published, sarif_oracle, workflow_runner
from falsifiers.adder_project import first
from falsifiers.sample_project import SampleProject, wrong
from falsifiers.sample_tests import MARKS, bound_test
from tollens import baseline, cli
from tollens.errors import ContractError, Finding
from tollens.fingerprints import named
from tollens.rule_examples import EXAMPLES
from tollens.rules import RULES
from tollens.workflow_commands import command

CONTRACT, TEST = "contracts/adder-v1.yaml", "falsifiers/test_adder.py"
ODD = "contracts/odd, 100%41: a.yaml"
LATER, BEFORE = "2999-12-31", "2000-01-01"


@pytest.fixture
def adder(tmp_path, monkeypatch, capsys):
    return adder_project.Adder(tmp_path / "repository", monkeypatch, capsys)


def break_much(adder):
    """Findings of several rules and both severities, one of them in a file with an odd name."""
    adder.edit("calc/add.py", "a + b", "b + a")
    adder.edit(CONTRACT, "# yaml-", "# Yaml-")
    adder.edit(TEST, "F-ADDER-002", "F-ADDER-009")


def place(finding):
    return finding["rule"], finding["path"], finding["line"], finding["severity"]


# Formats.


@pytest.mark.falsifies("TOLLENS-CI-001")
def test_sarif_is_valid_and_says_what_the_findings_say(adder, observe):
    sound = adder.tollens("check", "--format", "sarif").json
    break_much(adder)
    expected = [place(each) for each in adder.check().findings]
    logs = [sound, adder.tollens("check", "--format", "sarif").json]
    adder.edit(ODD, "", "id: [\n")
    expected += [place(each) for each in adder.check(ODD).findings]
    logs.append(adder.tollens("check", ODD, "--format", "sarif").json)
    expected += [place(each) for each in with_baseline_beside(adder, "json").findings]
    logs.append(with_baseline_beside(adder, "sarif").json)
    results = [each for log in logs for each in log["runs"][0]["results"]]
    said = {(*located(each), each["level"]) for each in results}
    print(said ^ set(expected))
    observe("invalid", sum(len(sarif_oracle.invalid(log)) for log in logs))
    observe("inconsistent", len([each for log in logs for each in sarif_oracle.inconsistent(log)]))
    observe("differing_results", len(said ^ set(expected)))
    observe("results", len(results))
    rules = {each["id"] for each in sound["runs"][0]["tool"]["driver"]["rules"]}
    observe("differing_rules", len(rules ^ RULES.keys()))


def located(result):
    """Rule, file below the project and line of a SARIF result."""
    where = result["locations"][0]["physicalLocation"]
    path = unquote(where["artifactLocation"]["uri"], errors="strict")
    inside = "?" if ".." in path else os.path.relpath(path, adder_project.FOLDER)
    return result["ruleId"], inside, where["region"]["startLine"]


def with_baseline_beside(adder, form):
    """A run that finds something wrong in a file beside the project, in its repository."""
    (adder.root.parent / "accepted.yaml").write_text("- a list\n")
    return adder.tollens("check", "--baseline", "../accepted.yaml", "--format", form)


HOSTILE = ["plain", "50%", "a,b:c", "%0A", "%2C%25", "two\nlines\r\nand::more", "key=value, x: y"]


@pytest.mark.falsifies("TOLLENS-CI-002")
def test_workflow_commands_are_read_as_they_were_meant(adder, observe):
    misread = [
        (path, text)
        for path in HOSTILE
        for text in HOSTILE
        if not _is_read(Finding("stale", path, 7, text, severity="warning", hint=text), text)
    ]
    adder.edit(ODD, "", "id: [\n")
    break_much(adder)
    expected = {place(each) for each in adder.check().findings}
    lines = adder.tollens("check", "--format", "github").out.splitlines()
    parsed = [each for each in map(workflow_runner.parse, lines) if each]
    said = {
        (p["title"], p["file"].removeprefix(f"{adder_project.FOLDER}/"), int(p["line"]), name)
        for name, p, _ in parsed
    }
    print(said ^ expected, misread)
    observe("misread", len(misread))
    observe("differing_annotations", len(said ^ expected))
    lines += with_baseline_beside(adder, "github").lines
    files = {each[1]["file"] for each in map(workflow_runner.parse, lines) if each}
    observe("outside_the_repository", len(files - committed_or_not(adder)))


def committed_or_not(adder):
    """Every file of the repository, by its path from there."""
    top = adder.root.parent
    return {path.relative_to(top).as_posix() for path in top.rglob("*")}


def _is_read(finding, text):
    read = workflow_runner.parse(command(finding))
    if read is None:
        return False
    name, properties, message = read
    shown = {"file": finding.path, "line": "7", "title": "stale"}
    return name == "warning" and properties == shown and message == f"{text}\ndo: {text}"


# Fingerprints.


@pytest.mark.falsifies("TOLLENS-CI-003")
def test_a_fingerprint_stays_when_lines_move(adder, observe):
    break_much(adder)
    before = adder.check().findings
    for path in (CONTRACT, TEST):
        file = adder.root / path
        first, rest = file.read_text().split("\n", 1)
        file.write_text(f"{first}\n# one\n# line and two more\n\n{rest}")
    adder.edit("calc/add.py", "def add", "# not the same staleness\ndef add")
    after = adder.check().findings
    moved = [a["line"] != b["line"] for a, b in zip(before, after, strict=True)]
    kept = [a["fingerprint"] == b["fingerprint"] for a, b in zip(before, after, strict=True)]
    observe("lost", kept.count(False))
    observe("moved_lines", moved.count(True))
    observe("shared", len(before) - len({each["fingerprint"] for each in before}))
    adder.edit(TEST, "F-ADDER-009", "F-ADDER-008")
    other = {each["fingerprint"] for each in adder.check().findings}
    changed = [each for each in before if each["rule"] == "dangling"]
    observe("mistaken", sum(each["fingerprint"] in other for each in changed))


# The baseline.

FILE, REASON = "accepted.yaml", "known since May"


def fill(adder):
    """Give each entry its reason, as a person would, and the last one a comment."""
    file = adder.root / FILE
    text = file.read_text().replace("reason: ''", f"reason: {REASON}")
    text = re.sub(r"expires: \S+", f"expires: {LATER}", text)
    file.write_text(f"{text}# the end\n".replace("accepted:\n", "accepted:\n# for now\n"))


def rules_of(ran):
    return sorted(each["rule"] for each in ran.findings)


@pytest.mark.falsifies("TOLLENS-CI-004")
def test_a_baseline_excuses_what_it_names_and_only_shrinks(adder, observe):
    faults = list(baseline_story(adder))
    print(faults)
    observe("wrong_steps", len(faults))


def baseline_story(adder):
    """Each step of an accepted finding's life that went wrong."""
    with_baseline = ("--baseline", FILE)
    file = adder.root / FILE
    adder.edit("calc/add.py", "a + b", "b + a")
    stale = ["stale", "stale", "unproven"]
    found = rules_of(adder.check())
    if set(found) - set(stale) or not found:
        yield f"the project is not as this test has it: {found}"
    if adder.check(*with_baseline).code != 2:
        yield "a missing baseline is no error"
    made = adder.check(*with_baseline, "--update")
    if made.code != 1 or rules_of(made) != sorted([*found, *["baseline"] * len(found)]):
        yield f"entries without a reason excuse: {rules_of(made)}"
    fill(adder)
    filled = file.read_bytes()
    ran = adder.check(*with_baseline)
    if ran.code != 0 or ran.findings or len(ran.json["accepted"]) != len(found):
        yield f"accepted findings are not excused: {rules_of(ran)}"
    log = adder.tollens("check", *with_baseline, "--format", "sarif").json
    said = [each["suppressions"] for each in log["runs"][0]["results"]]
    if [[each["justification"] for each in some] for some in said] != [[REASON]] * len(found):
        yield f"SARIF does not say that they are accepted, and why: {said}"
    if "::" in adder.tollens("check", *with_baseline, "--format", "github").out:
        yield "accepted findings are annotated"
    if " accepted" not in adder.tollens("check", *with_baseline).out:
        yield "the summary does not count what is accepted"
    for old, new in (("rule: stale", "rule: modeline"), ("F-ADDER-001 at", "F-ADDER-007 at")):
        file.write_bytes(filled.replace(old.encode(), new.encode(), 1))
        if adder.check(*with_baseline).code != 1:
            yield f"an entry excuses what its reader does not see: {new}"
    file.write_bytes(filled)
    adder.edit(TEST, "F-ADDER-002", "F-ADDER-009")
    for more in ((), ("--update",)):
        ran = adder.check(*with_baseline, *more)
        if ran.code != 1 or "dangling" not in rules_of(ran):
            yield f"a new finding is excused {more}: {rules_of(ran)}"
    kept = file.read_bytes()
    if len(kept) > len(filled) or b"dangling" in kept:
        yield "the tool added to the baseline"
    adder.git("checkout", "--quiet", TEST)
    file.write_bytes(filled)
    file.write_text(file.read_text().replace(LATER, BEFORE, 1))
    ran = adder.check(*with_baseline)
    if ran.code != 1 or rules_of(ran) != sorted(["baseline", found_first(filled)]):
        yield f"an expired entry excuses: {rules_of(ran)}"
    ran = adder.check(*with_baseline, "--update")
    if ran.code != 1 or rules_of(ran) != [found_first(filled)]:
        yield f"--update leaves the expired entry, or what it excused: {rules_of(ran)}"
    file.write_bytes(filled)
    adder.git("checkout", "--quiet", "calc")
    ran = adder.check(*with_baseline)
    if ran.code != 1 or rules_of(ran) != ["baseline"] * len(found):
        yield f"entries of what is gone are no error: {rules_of(ran)}"
    part = adder.check(CONTRACT, *with_baseline)
    if part.code != 0:
        yield f"of a part of the project nothing is known to be gone: {rules_of(part)}"
    ran = adder.check(*with_baseline, "--update")
    lines = file.read_text().splitlines()
    if ran.code != 0 or "# for now" not in lines or "# the end" not in lines:
        yield f"what is gone is not removed, or a comment is: {lines}"
    if adder.check(CONTRACT, *with_baseline, "--update").code != 2:
        yield "a part of the project can shrink the whole baseline"


def found_first(baseline):
    """The rule of the first entry."""
    return re.search(r"rule: (\S+)", baseline.decode())[1]


ENTRY = f"""\
  - fingerprint: 0123456789abcdef:1
    rule: stale
    path: contracts/adder-v1.yaml
    found: F-ADDER-001 at level algorithm
    reason: r
    expires: {LATER}
"""
HEAD = "schema: tollens/baseline/v1\naccepted:\n"
# text of the file -> the line that is at fault
BAD_BASELINES = {
    "": 1,
    "- a list\n": 1,
    HEAD.replace("v1", "v2") + ENTRY: 1,
    HEAD + ENTRY + ENTRY: 9,
    HEAD + ENTRY + "    why: because\n": 9,
    HEAD + ENTRY.replace(LATER, "2026-02-30"): 8,
    HEAD + ENTRY.replace(LATER, "soon"): 8,
    HEAD + ENTRY.replace(LATER, "20261231"): 8,
    HEAD + ENTRY.replace("    reason: r\n", ""): 3,
    HEAD + ENTRY.replace("reason: r", "reason: ' '"): 7,
    HEAD + ENTRY.replace("0123456789abcdef:1", "0123456789abcdef"): 3,
    HEAD + ENTRY + "    rule: again\n": 9,
    HEAD + ENTRY.replace("    rule", "\trule"): 4,
}


@pytest.mark.falsifies("TOLLENS-CI-005")
def test_a_bad_baseline_is_a_finding_at_its_line(adder, observe):
    unnoticed = []
    adder.edit("calc/add.py", "a + b", "b + a")
    fingerprint = adder.check().findings[0]["fingerprint"]
    for text, line in BAD_BASELINES.items():
        there = text.replace("0123456789abcdef:1", fingerprint)
        (adder.root / FILE).write_text(there)
        ran = adder.check("--baseline", FILE)
        at = [each["line"] for each in ran.findings if each["path"] == FILE and each["found"]]
        shown = {each["fingerprint"] for each in ran.findings}
        if ran.code != 1 or at != [line] or fingerprint not in shown:
            unnoticed.append((text, line, at))
    print(unnoticed)
    observe("unnoticed", len(unnoticed))
    observe("tried", len(BAD_BASELINES))
    observe("misread_when_started", len([each for each in TEXTS if not is_kept(adder, each)]))


TEXTS = ["1e-6", "0o17", "no", "12:30", "1_000", "=", "2026-01-01", "a: b", "é", "x" * 200]


def is_kept(adder, text):
    """Whether a new baseline is read again, with what was found as it was."""
    finding = Finding("stale", text, 1, text)
    baseline.start(adder.root / FILE, named([finding]), date(2026, 1, 2))
    try:
        [entry] = baseline.read_baseline(adder.root / FILE, FILE).entries
    except ContractError as error:
        print(error)
        return False
    return (entry.path, entry.found, entry.expires) == (text, text, date(2026, 4, 2))


# Against a revision.


@pytest.mark.falsifies("TOLLENS-CI-006")
def test_diff_shows_what_the_revision_did_not_have(adder, observe, monkeypatch):
    adder.edit(CONTRACT, "# yaml-", "# Yaml-")
    adder.edit("calc/add.py", "a + b", "b + a")
    adder.edit(".gitattributes", "", "contracts export-ignore\n")
    adder.edit(TEST, "F-ADDER-002", "F-ADDER-009")  # is found in the file that a link points to
    (adder.root / TEST).rename(adder.root / "falsifiers/linked.py")
    (adder.root / TEST).symlink_to("linked.py")
    adder.commit()
    old = rules_of(adder.check())
    before = left_by_git(adder)
    unchanged = adder.check("--diff", "HEAD")
    changed = before ^ left_by_git(adder)
    adder.edit("falsifiers/saboteurs/idle.py", "", 'def idle(plant):\n    "Idle."\n')
    adder.edit(CONTRACT, "\nid:", "\n# a line more\nid:")
    adder.edit("calc/add.py", "b + a", "b + a + 0")
    ran = adder.check("--diff", "HEAD")
    root = adder.git("rev-list", "--max-parents=0", "HEAD").strip()
    observe("repeated_findings", len(unchanged.findings) + unchanged.code)
    observe("differing_new", int(rules_of(ran) != ["unused-saboteur"] or ran.code != 0))
    observe("differing_since_the_first", len(rules_of(adder.check("--diff", root))) - len(old) - 1)
    observe("unknown_revisions_taken", sum(adder.check("--diff", r).code != 2 for r in UNKNOWN))
    observe("changed_files", len(changed))
    shutil.copytree(adder.root, adder.root.with_name("later"))
    monkeypatch.chdir(adder.root.with_name("later"))
    shown = rules_of(adder.check("--diff", "HEAD"))
    observe("differing_of_a_folder_not_there_yet", int(shown != rules_of(adder.check())))


def left_by_git(adder):
    """What git sees in the folder that is not committed, ignored or not."""
    return set(adder.git("status", "--porcelain", "--ignored").splitlines())


UNKNOWN = ["no-such-branch", "--output=stolen", "HEAD:calc/add.py"]


# The rules.


@pytest.mark.falsifies("TOLLENS-CI-007")
def test_each_rule_has_an_example_that_breaks_it_where_it_says(adder, observe):
    silent = [each["rule"] for each in adder.check().findings]
    silent += first(adder.differing(rule, example) for rule, example in EXAMPLES.items())
    observe("examples_that_do_not_break", len(silent))
    observe("rules_without_example", len(RULES.keys() ^ EXAMPLES.keys()))
    shown = cli_text(adder, "explain", "--rules")
    observe("differing_page", int(shown != published.text_of(published.RULES)))
    unexplained = [rule for rule in RULES if RULES[rule][0] not in cli_text(adder, "explain", rule)]
    observe("unexplained_rules", len(unexplained))
    print(silent, unexplained)


def cli_text(adder, *arguments):
    return adder.tollens(*arguments).out


# Hooks and pipelines.


@pytest.mark.falsifies("TOLLENS-CI-008")
def test_pre_commit_takes_the_hooks_and_stops_what_is_wrong(adder, observe, monkeypatch, tmp_path):
    from pre_commit.clientlib import load_manifest

    manifest = tmp_path / "hooks.yaml"
    manifest.write_text(published.text_of(published.HOOKS))
    hooks = {each["id"]: each for each in load_manifest(manifest)}
    observe("missing_hooks", len({"tollens-check", "tollens-verify"} - hooks.keys()))
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(with_tollens(tmp_path)), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    root = adder.root
    adder.git("init", "--quiet")  # a repository of the project alone
    keys = ("id", "name", "entry", "files", "exclude", "types", "pass_filenames")
    local = [{key: each[key] for key in keys} | {"language": "system"} for each in hooks.values()]
    config = {"repos": [{"repo": "local", "hooks": local}]}
    (root / ".pre-commit-config.yaml").write_text(json.dumps(config))
    adder.git("add", "--all")
    sound = pre_commit(root)
    adder.edit("evidence/adder-v1/evidence.json", '"BLOCKED"', '"CORROBORATED"')
    broken = pre_commit(root)
    observe("differing_ends", wrong({"sound": sound, "broken": broken}, ENDS))


ENDS = {
    "sound": {"tollens check": "Passed", "tollens verify": "Passed"},
    "broken": {"tollens check": "Failed", "tollens verify": "Failed"},
}


def with_tollens(folder):
    """A folder with the command `tollens` of this interpreter and of these sources."""
    script = folder / "bin" / "tollens"
    script.parent.mkdir()
    start = "import sys; from tollens.cli import main; sys.exit(main())"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
    script.chmod(0o755)
    return script.parent


def pre_commit(root):
    """Hook → how it ended, as `pre-commit run --all-files` prints it."""
    run = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color", "never"]
    out = subprocess.run(run, cwd=root, capture_output=True, text=True).stdout
    return dict(re.findall(r"^(tollens \w+)\.+(?:\(.*\))?(\w+)$", out, re.MULTILINE))


SCHEMAS = {published.GITHUB: "github-workflows", published.GITLAB: "gitlab-ci"}


@pytest.mark.falsifies("TOLLENS-CI-009")
def test_the_pipelines_are_valid_and_run_what_there_is(observe):
    invalid = [
        f"{path}: {error.json_path}: {error.message:.200}"
        for path, name in SCHEMAS.items()
        for error in vendored(name).iter_errors(published.data_of(path))
    ]
    scripts = [*published.github_scripts(), *published.gitlab_scripts()]
    words = [each for script in scripts for each in published.commands(script)]
    unknown = [each for each in words if not exists(each)]
    print(invalid, unknown)
    observe("invalid", len(invalid))
    observe("unknown_commands", len(unknown))
    observe("commands", len(words))
    missing = [(path, each) for path in SCHEMAS for each in missing_steps(path)]
    print(missing)
    observe("missing_steps", len(missing))


SUMMARIES = {published.GITHUB: '>> "$GITHUB_STEP_SUMMARY"', published.GITLAB: "> summary.md"}
WRITTEN = ("report -o report.html", "check --format sarif > tollens.sarif")


def missing_steps(path):
    """What a pipeline should do and does not: test, write, upload and sum up."""
    github = path == published.GITHUB
    scripts = published.github_scripts() if github else published.gitlab_scripts(["script"])
    lines = published.run_in_any_case(path)
    if "make validate" not in scripts:
        yield "make validate"
    yield from (each for each in WRITTEN if not any(line.endswith(each) for line in lines))
    summary = rf"report --format markdown .*{re.escape(SUMMARIES[path])}$"
    if not any(re.search(summary, line) for line in lines):
        yield "summary"
    files = {"report.html", "tollens.sarif"} | (set() if github else {"summary.md"})
    yield from files - published.kept_in_any_case(path)


def vendored(name):
    folder = resources.files("check_jsonschema.builtin_schemas.vendor")
    schema = json.loads(folder.joinpath(f"{name}.json").read_text())
    return jsonschema.validators.validator_for(schema)(schema)


def exists(words):
    """Whether a command of a pipeline, and each of its options, is there."""
    name, *arguments = words
    if name == "make":
        targets = published.text_of("Makefile")
        return all(re.search(rf"^{re.escape(each)}:", targets, re.MULTILINE) for each in arguments)
    if name.rpartition("/")[2] != "tollens":
        return name in {"cat"}
    commands = typer.main.get_command(cli.app).commands
    try:
        asked = [each for each in arguments[1:] if "$" not in each]
        given = [each.strip("\"'") for each in asked if each.startswith("-")]
        known = {opt for p in commands[arguments[0]].params for opt in p.opts + p.secondary_opts}
    except (KeyError, click.ClickException):
        return False
    return set(given) <= known


# JUnit.

MEASURED = """
@mark.falsifies("F-MEASURED")
@mark.parametrize("n", [1, 2])
def test_measured(observe, n):
    observe("x", n / 2)
    observe("name", "a & b <c>")

@mark.falsifies("F-BROKEN", "F-MEASURED")
def test_broken(observe):
    observe("x", 2)
    observe("name", "a & b <c>")

@mark.falsifies("F-NEEDS")
def test_needs(observe):
    observe("x", 0)
"""
NAMED = {"measures": {"x": {"le": 1}, "name": {"eq": "a & b <c>"}}}
SHOWN_OF_MEASURED = {"falsifier": "F-MEASURED", "contract": "sample-v1", "level": "algorithm"}
SHOWN_OF_MEASURED |= {"measure.name": "a & b <c>", "bound.x": "≤ 1", "bound.name": "= a & b <c>"}
JUNIT = {
    "test_measured[1]": [{"verdict": "CORROBORATED", "measure.x": "0.5"}],
    "test_measured[2]": [{"verdict": "CORROBORATED", "measure.x": "1"}],
    "test_broken": [
        {"falsifier": "F-BROKEN", "verdict": "FALSIFIED", "measure.x": "2", "bound.x": "≤ 1"},
        {"falsifier": "F-MEASURED", "verdict": "FALSIFIED", "measure.x": "2", "bound.x": "≤ 1"},
    ],
    "test_needs": [{"falsifier": "F-NEEDS", "verdict": "BLOCKED", "level": "algorithm"}],
    "test_x": [{"falsifier": "F-X", "verdict": "CORROBORATED", "measure.x": "0"}],
}
CONTRACTS = ("--contract", "contracts", "--record=never")
RUNS = {"serial": CONTRACTS, "xdist": (*CONTRACTS, "-n", "2"), "plain": ("-n", "2")}


@pytest.mark.falsifies("TOLLENS-CI-010")
@pytest.mark.parametrize("arguments", RUNS.values(), ids=RUNS)
def test_junit_says_what_each_falsifier_said(pytester, monkeypatch, observe, arguments):
    project = SampleProject(pytester, monkeypatch)
    needs = {"needs": [{"env": "TOLLENS_ABSENT"}]}
    project.contract({"F-MEASURED": NAMED, "F-BROKEN": {}, "F-NEEDS": needs, "F-X": {}})
    project.write("falsifiers/test_sample.py", MARKS + MEASURED + bound_test("F-X"))
    project.pytest("--junitxml=report.xml", "falsifiers", *arguments)
    said = junit(project.root / "report.xml")
    print(said)
    differing = [
        (name, expected)
        for name, groups in JUNIT.items()
        for i, expected in enumerate(groups)
        if not expected.items() <= dict(enumerate(said.get(name, []))).get(i, {}).items()
    ]
    observe("differing_groups", len(differing))
    observe("differing_counts", wrong(sizes(said), sizes(JUNIT)))
    halves = [
        group for groups in said.values() for group in groups if group.get("measure.x") == "0.5"
    ]
    shown = {name: halves[0].get(name) for name in SHOWN_OF_MEASURED} if halves else {}
    observe("differing_properties", wrong(shown, SHOWN_OF_MEASURED))


def sizes(groups):
    return {name: len(each) for name, each in groups.items()}


def junit(path):
    """Test → a dictionary for each falsifier that it is bound to, of the properties."""
    found = {}
    for case in xml.parse(path).iter("testcase"):
        groups = found.setdefault(case.get("name"), [])
        for each in case.iter("property"):
            name = each.get("name").removeprefix("tollens.")
            if name == "falsifier":
                groups.append({})
            groups[-1][name] = each.get("value")
    return found

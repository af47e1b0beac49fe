"""Tries to refute what a run leaves behind: the selection it admits to, files, reports, evidence.

The oracle is what each nested test is known to do and what was selected of it, real git, the JUnit
file, and the bytes on disk before and after.
"""

import hashlib
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from falsifiers.recording_cases import (
    BOTH,
    FILE,
    HALVED,
    LONG_CLAIMS,
    LONG_TEST,
    REPORTED,
    SABOTEUR,
    SELECTABLE,
    SELECTABLE_TOO,
    SELECTIONS,
    TABLE_PARTS,
)
from falsifiers.sample_project import SampleProject, wrong
from falsifiers.sample_tests import MARKS, bound_test


@pytest.fixture
def project(pytester, monkeypatch):
    return SampleProject(pytester, monkeypatch)


# What was not selected was not run.


@pytest.fixture
def selectable(project):
    names = ("F-ONE", "F-CASES", "F-FAILS", "F-AFTER")
    project.contract(dict.fromkeys(names, {}))
    project.write(FILE, MARKS + SELECTABLE)
    project.write("falsifiers/test_too.py", MARKS + SELECTABLE_TOO)
    return project


@pytest.mark.falsifies("TOLLENS-RECORDING-001")
def test_an_incomplete_falsifier_was_not_run(selectable, observe):
    verdicts = recorded = silent = 0
    for arguments, complete in SELECTIONS.items():
        selectable.forget()
        finished = selectable.run(*arguments)
        expected = dict.fromkeys(("F-ONE", "F-CASES", "F-FAILS", "F-AFTER"), "NOT_RUN") | complete
        print(arguments)
        verdicts += wrong(finished.verdicts, expected)
        recorded += wrong(selectable.recorded(), complete)
        held = sum(verdict == "CORROBORATED" for verdict in complete.values())
        silent += f"{held} of 4 corroborated, " not in finished.text
        silent += f"{4 - len(complete)} not run" not in finished.text
    observe("wrong_verdicts", verdicts)
    observe("wrong_recorded", recorded)
    observe("missing_denominators", silent)


@pytest.mark.falsifies("TOLLENS-RECORDING-001")
def test_the_case_that_failed_last_does_not_speak_for_the_others(selectable, observe):
    selectable.run()
    selectable.write("product.py", HALVED)
    finished = selectable.run("--lf")
    assert "1 passed" in finished.text
    observe("wrong_verdicts", wrong(finished.verdicts, dict.fromkeys(finished.verdicts, "NOT_RUN")))
    observe("wrong_recorded", int(selectable.recorded().get("F-FAILS") != "FALSIFIED"))
    observe("missing_denominators", int("0 of 4 corroborated, 4 not run" not in finished.text))


@pytest.mark.falsifies("TOLLENS-RECORDING-001")
def test_a_test_of_two_contracts_speaks_for_each_of_them_alone(project, observe):
    project.contract({"F-HERE": {}}, name="here")
    project.contract({"F-THERE": {"measures": {"y": {"le": 1}}}}, name="there")
    project.write("falsifiers/test_both.py", MARKS + BOTH)
    finished = project.run_one("here")
    observe("wrong_verdicts", wrong(finished.verdicts, {"F-HERE": "CORROBORATED"}))
    recorded = {**project.recorded("here"), **project.recorded("there")}
    observe("wrong_recorded", wrong(recorded, {"F-HERE": "CORROBORATED"}))
    observe("missing_denominators", int("1 of 1 corroborated" not in finished.text))


@pytest.mark.falsifies("TOLLENS-RECORDING-002")
def test_collecting_only_judges_and_writes_nothing(selectable, observe):
    before = selectable.files()
    finished = selectable.run("--collect-only", "--sabotage")
    observe("changed_files", wrong(selectable.files(), before))
    observe("exit_code", finished.code)
    assert "test_cases[1]" in finished.text


# JUnit XML.


@pytest.mark.falsifies("TOLLENS-RECORDING-003")
@pytest.mark.parametrize("arguments", [(), ("--sabotage",)], ids=["plain", "sabotage"])
def test_junit_xml_has_one_case_for_each_test(project, observe, arguments):
    project.contract({"F-KILLS": {"kills": ["tripled"]}, "F-FAILS": {}, "F-SKIPS": {}})
    project.write("falsifiers/test_reported.py", MARKS + REPORTED)
    project.write("falsifiers/saboteurs/sample.py", SABOTEUR)
    finished = project.run("--junit-xml=junit.xml", *arguments)
    assert finished.verdicts["F-FAILS"] == "FALSIFIED"
    [suite] = ElementTree.parse(project.root / "junit.xml").getroot()
    outcomes = {case.get("name"): {child.tag for child in case} - {"properties"} for case in suite}
    expected = {
        "test_kills": set(),
        "test_fails[0]": set(),
        "test_fails[1]": {"failure"},
        "test_skips": {"skipped"},
    }
    counts = {key: suite.get(key) for key in ("failures", "errors", "skipped")}
    observe("wrong_cases", wrong(outcomes, expected) + len(suite) - len(outcomes))
    observe("wrong_counts", wrong(counts, {"failures": "1", "errors": "0", "skipped": "1"}))


# Recording.


def git(root, *arguments):
    author = ("-c", "user.name=sample", "-c", "user.email=sample@localhost")
    command = ["git", *author, *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def recorded(selectable):
    """A project in git whose verdicts are recorded and committed, one of them FALSIFIED."""
    selectable.write(".gitignore", ".pytest_cache/\n")
    git(selectable.root, "init", "--quiet")
    selectable.run()
    git(selectable.root, "add", "--all")
    git(selectable.root, "commit", "--quiet", "--message", "recorded")
    return selectable


def history(project):
    """The length of the status history."""
    text = (project.root / "contracts/sample-v1.yaml").read_text()
    return len(yaml.safe_load(text)["status_history"])


@pytest.mark.falsifies("TOLLENS-RECORDING-004")
def test_a_second_run_leaves_every_byte_and_a_clean_tree(recorded, observe):
    before = recorded.files(cache=False)
    assert recorded.recorded().get("F-FAILS") == "FALSIFIED" and history(recorded) == 1
    recorded.run()
    observe("changed_files", wrong(recorded.files(cache=False), before))
    observe("dirty_paths", len(git(recorded.root, "status", "--porcelain").splitlines()))


@pytest.mark.falsifies("TOLLENS-RECORDING-005")
@pytest.mark.parametrize("way", ["never", "CI"])
def test_never_writes_neither_and_fails_where_they_disagree(recorded, observe, monkeypatch, way):
    arguments = ("--record=never",) if way == "never" else ()
    if way == "CI":
        monkeypatch.setenv("CI", "true")
    agreeing = recorded.run(*arguments, "-k", "not fails")
    recorded.write("product.py", HALVED)
    before = recorded.files(cache=False)
    disagreeing = recorded.run(*arguments)
    observe("changed_files", wrong(recorded.files(cache=False), before))
    observe("wrong_exit_codes", wrong({0: agreeing.code, 1: disagreeing.code}, {0: 0, 1: 1}))
    assert "F-FAILS: CORROBORATED here, FALSIFIED in the evidence" in disagreeing.text


@pytest.mark.falsifies("TOLLENS-RECORDING-006")
def test_always_refreshes_the_evidence_and_auto_records_what_changed(recorded, observe):
    before = recorded.files()["evidence/sample-v1/evidence.json"]
    recorded.run("--record=always")
    renewed = recorded.evidence()["previous"] == hashlib.sha256(before).hexdigest()
    observe("refreshed", renewed and history(recorded) == 1)
    recorded.write("product.py", HALVED)
    recorded.run()
    changed = recorded.recorded().get("F-FAILS") == "CORROBORATED"
    observe("recorded", changed and history(recorded) == 2)


# The closing table.


@pytest.mark.falsifies("TOLLENS-RECORDING-007")
def test_the_closing_table_says_everything_in_80_columns(project, observe):
    project.contract(LONG_CLAIMS, title="A title of many words, " * 5)
    project.write("falsifiers/test_long.py", MARKS + LONG_TEST + bound_test("F-DANGLING"))
    project.write("falsifiers/saboteurs/sample.py", SABOTEUR)
    finished = project.run("--sabotage", "--tb=no", "-rN", "-q")
    shown = "\n".join(finished.lines).partition("sample-v1")[2].splitlines()
    wide = [line for line in shown if len(line) > 80]
    missing = [part for part in [*LONG_CLAIMS, *TABLE_PARTS] if part not in finished.text]
    print(f"wide: {wide}\nmissing: {missing}")
    observe("wide_lines", len(wide))
    observe("missing_parts", len(missing))

"""Tries to refute the verdicts of the pytest plugin, on small projects that a nested pytest runs.

The oracle is the table of cases as written here: what each nested test does is known, so is what
must be said of it. It is compared with the closing table, the exit code and the JSON left behind.
"""

import builtins
import gc
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from falsifiers.sample_project import SampleProject
from falsifiers.verdict_cases import (
    ALONE,
    ATTACHING,
    BOTH,
    CASES,
    CLAIMS,
    CRASHES,
    ELSEWHERE,
    FILE,
    FILES,
    HALVED,
    HOLDS,
    LEVELS,
    LONG_CLAIMS,
    LONG_TEST,
    MARKS,
    MODULE_SKIP,
    MODULES,
    NEEDS,
    NOTHING,
    ORDINARY,
    PARTLY,
    PLAIN,
    REPORTED,
    SABOTEUR,
    SCALARS,
    SELECTABLE,
    SELECTABLE_TOO,
    SELECTIONS,
    SEVERAL,
    SEVERAL_CLAIMS,
    SKIPPED,
    SKIPS,
    TABLE_PARTS,
    TOLD,
    UNCOLLECTABLE,
    VERDICTS,
    WORST,
    WRONG,
    bound_test,
    function_of,
    scalar_test,
)


@pytest.fixture
def project(pytester, monkeypatch):
    return SampleProject(pytester, monkeypatch)


def wrong(said, expected):
    """How many of the expected entries were not said, or said otherwise; shown when it fails."""
    differing = {
        key: (said.get(key), expected.get(key))
        for key in said.keys() | expected.keys()
        if said.get(key) != expected.get(key)
    }
    print(f"(said, expected) where they differ: {differing}")
    return len(differing)


# Blocked is not corroborated.


@pytest.mark.falsifies("TOLLENS-VERDICTS-001")
def test_a_skip_is_blocked_with_its_reason(project, observe):
    names = [f"F-{name}" for name in SKIPPED] + ["F-MODULE"]
    project.contract({name: {} for name in [*names, "F-HOLDS"]})
    project.write("falsifiers/test_skips.py", MARKS + SKIPS + HOLDS)
    project.write("falsifiers/test_module.py", MARKS + MODULE_SKIP)
    finished = project.run()
    expected = dict.fromkeys(names, "BLOCKED") | {"F-HOLDS": "CORROBORATED"}
    said = wrong(finished.verdicts, expected) + wrong(project.recorded(), expected)
    observe("wrong_verdicts", said)
    told = [name for (name, _), each in project.results().items() if each["reason"]]
    observe("missing_reasons", len(set(names) - set(told)))
    assert f"1 of {len(names) + 1} corroborated, {len(names)} blocked" in finished.text


@pytest.mark.falsifies("TOLLENS-VERDICTS-001")
def test_an_unmet_need_is_blocked_until_it_is_met(project, observe, monkeypatch):
    project.contract({name: {"needs": [need]} for name, need in NEEDS.items()})
    project.write("falsifiers/test_needs.py", MARKS + "".join(map(bound_test, NEEDS)))
    blocked = project.run()
    told = [need for [need] in (each.values() for each in NEEDS.values()) if need in blocked.text]
    monkeypatch.setenv("SAMPLE_NEED", "1")
    project.write("sample_need.py", "")
    project.write("need.gguf", "")
    project.write("bin/sample-need", "#!/bin/sh\n").chmod(0o755)
    monkeypatch.setenv("PATH", str(project.root / "bin"), prepend=os.pathsep)
    met = project.run()
    observe(
        "wrong_verdicts",
        wrong(blocked.verdicts, dict.fromkeys(NEEDS, "BLOCKED"))
        + wrong(met.verdicts, dict.fromkeys(NEEDS, "CORROBORATED")),
    )
    observe("missing_reasons", len(NEEDS) - len(told))
    assert (blocked.code != 0, met.code) == (True, 0)


@pytest.mark.falsifies("TOLLENS-VERDICTS-001")
def test_a_device_that_is_not_there_is_blocked(project, observe):
    project.contract({"F-DEVICE": {"needs": [{"device": "cuda"}]}})
    project.write("falsifiers/test_device.py", MARKS + bound_test("F-DEVICE"))
    there = os.path.exists("/dev/nvidia0") or "GPU 0" in listed_gpus()
    expected = "CORROBORATED" if there else "BLOCKED"
    finished = project.run()
    observe("wrong_verdicts", wrong(finished.verdicts, {"F-DEVICE": expected}))
    observe("missing_reasons", int(not there and "needs device cuda" not in finished.text))


def listed_gpus():
    if shutil.which("nvidia-smi") is None:
        return ""
    return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout


# A run that shows nothing is not a pass.


@pytest.mark.falsifies("TOLLENS-VERDICTS-002")
@pytest.mark.parametrize("case", NOTHING)
def test_a_run_that_shows_nothing_fails_and_says_so(project, observe, case):
    claims, text, arguments = NOTHING[case]
    project.contract(claims)
    project.write("falsifiers/test_sample.py", MARKS + text)
    finished = project.run(*arguments)
    observe("runs_that_passed", int(finished.code == 0))
    observe("runs_that_kept_silent", int(TOLD[case] not in finished.text))


@pytest.mark.falsifies("TOLLENS-VERDICTS-002")
@pytest.mark.parametrize("given", ["contracts", "contracts/absent-v1.yaml"])
def test_a_contract_that_is_not_there_is_bad_usage(project, observe, given):
    project.write("falsifiers/test_sample.py", MARKS + HOLDS)
    (project.root / "contracts").mkdir()
    result = project.pytester.runpytest_inprocess("--contract", given)
    observe("runs_that_passed", int(result.ret == 0))
    observe("runs_that_kept_silent", int(given not in result.stderr.str()))


# The table of verdicts.


@pytest.mark.falsifies("TOLLENS-VERDICTS-003")
def test_each_outcome_of_a_test_has_its_verdict(project, observe):
    project.contract(CLAIMS)
    project.write("falsifiers/test_cases.py", MARKS + CASES)
    finished = project.run()
    said = wrong(finished.verdicts, VERDICTS) + wrong(project.recorded(), VERDICTS)
    observe("wrong_verdicts", said)
    observe("wrong_exit_codes", int(finished.code != 1))


@pytest.mark.falsifies("TOLLENS-VERDICTS-003")
def test_one_outcome_that_is_no_pass_makes_the_run_exit_with_1(project, observe):
    project.contract(CLAIMS)
    project.write("falsifiers/test_cases.py", MARKS + CASES)
    runs = {name: project.run("-k", function_of(name)) for name in ALONE}
    verdicts = {name: run.verdicts.get(name) for name, run in runs.items()}
    observe("wrong_verdicts", wrong(verdicts, {name: VERDICTS[name] for name in ALONE}))
    codes = {name: int(VERDICTS[name] != "CORROBORATED") for name in ALONE}
    observe("wrong_exit_codes", wrong({name: run.code for name, run in runs.items()}, codes))


@pytest.mark.falsifies("TOLLENS-VERDICTS-003")
def test_a_file_that_cannot_be_imported_is_an_error(project, observe):
    project.contract({"F-HOLDS": {}, "F-UNCOLLECTABLE": {}})
    project.write("falsifiers/test_holds.py", MARKS + HOLDS)
    project.write("falsifiers/test_uncollectable.py", MARKS + UNCOLLECTABLE)
    finished = project.run("--continue-on-collection-errors")
    expected = {"F-HOLDS": "CORROBORATED", "F-UNCOLLECTABLE": "ERROR"}
    observe("wrong_verdicts", wrong(finished.verdicts, expected))
    observe("wrong_exit_codes", int(finished.code != 1))


# The worst outcome counts.


@pytest.mark.falsifies("TOLLENS-VERDICTS-004")
def test_the_worst_of_several_outcomes_counts(project, observe):
    project.contract(SEVERAL_CLAIMS)
    project.write("falsifiers/test_several.py", MARKS + SEVERAL)
    project.write("falsifiers/test_elsewhere.py", MARKS + ELSEWHERE)
    finished = project.run()
    verdicts = {name: row[0] for name, row in WORST.items()}
    observe("wrong_verdicts", wrong(finished.verdicts, verdicts))
    results = {name: each["measures"] for (name, _), each in project.results().items()}
    values = {name: results.get(name, {}).get("x", {}).get("value") for name in WORST}
    observe("wrong_measures", wrong(values, {name: row[1] for name, row in WORST.items()}))
    levels = {row.level: (row.verdict, row.discharge) for row in finished.table.get("F-LEVELS", [])}
    observe("wrong_levels", wrong(levels, LEVELS))


# Parallel is serial.


def write_everything(project):
    """All cases of this file in one project, each under an id of its own; their claims."""
    texts = {
        "cases": CASES + ATTACHING,
        "several": SEVERAL.replace('"F-', '"G-') + bound_test("F-PARTLY", cases=2),
        "elsewhere": ELSEWHERE.replace('"F-', '"G-'),
        "module": MODULE_SKIP,
        "uncollectable": UNCOLLECTABLE,
    }
    for name, text in texts.items():
        project.write(f"falsifiers/test_{name}.py", MARKS + text)
    several = {f"G{name[1:]}": claim for name, claim in SEVERAL_CLAIMS.items()}
    others = ("F-ATTACHES", "F-MODULE", "F-UNCOLLECTABLE", "F-PARTLY")
    return {**CLAIMS, **several, **dict.fromkeys(others, {})}


def timeless(results):
    own = ("seconds", "run", "reproduce")
    return {
        key: {name: value for name, value in each.items() if name not in own}
        for key, each in results.items()
    }


@pytest.mark.falsifies("TOLLENS-VERDICTS-005")
def test_two_workers_say_what_one_process_says(project, observe):
    claims = write_everything(project)
    arguments = ("--continue-on-collection-errors", "--deselect", f"{PARTLY}[1]")
    said = []
    for workers in ((), ("-n", "2")):
        project.contract(claims)
        project.forget()
        finished = project.run(*arguments, *workers)
        said.append((finished, timeless(project.results())))
    (serial, serial_results), (parallel, parallel_results) = said
    observe("differing_codes", int(parallel.code != serial.code))
    observe("differing_rows", wrong(parallel.table, serial.table))
    observe("differing_results", wrong(parallel_results, serial_results))
    observe("falsifiers", len(serial.table))


@pytest.mark.falsifies("TOLLENS-VERDICTS-006")
def test_a_dead_worker_leaves_an_error_and_the_others_their_results(project, observe):
    expected = {"F-DIES": "ERROR", "F-ONE-CASE-DIES": "ERROR", "F-OTHERS": "CORROBORATED"}
    project.contract(dict.fromkeys(expected, {}))
    project.write("falsifiers/test_crashes.py", MARKS + CRASHES)
    finished = project.run("-n", "2")
    observe("wrong_verdicts", wrong(finished.verdicts, expected))
    observe("wrong_recorded", wrong(project.recorded(), expected))
    observe("exit_code", finished.code)


# What was not selected was not run.


@pytest.fixture
def selectable(project):
    names = ("F-ONE", "F-CASES", "F-FAILS", "F-AFTER")
    project.contract(dict.fromkeys(names, {}))
    project.write(FILE, MARKS + SELECTABLE)
    project.write("falsifiers/test_too.py", MARKS + SELECTABLE_TOO)
    return project


@pytest.mark.falsifies("TOLLENS-VERDICTS-007")
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


@pytest.mark.falsifies("TOLLENS-VERDICTS-007")
def test_the_case_that_failed_last_does_not_speak_for_the_others(selectable, observe):
    selectable.run()
    selectable.write("product.py", HALVED)
    finished = selectable.run("--lf")
    assert "1 passed" in finished.text
    observe("wrong_verdicts", wrong(finished.verdicts, dict.fromkeys(finished.verdicts, "NOT_RUN")))
    observe("wrong_recorded", int(selectable.recorded().get("F-FAILS") != "FALSIFIED"))
    observe("missing_denominators", int("0 of 4 corroborated, 4 not run" not in finished.text))


@pytest.mark.falsifies("TOLLENS-VERDICTS-007")
def test_a_test_of_two_contracts_speaks_for_each_of_them_alone(project, observe):
    project.contract({"F-HERE": {}}, name="here")
    project.contract({"F-THERE": {"measures": {"y": {"le": 1}}}}, name="there")
    project.write("falsifiers/test_both.py", MARKS + BOTH)
    finished = project.run_one("here")
    observe("wrong_verdicts", wrong(finished.verdicts, {"F-HERE": "CORROBORATED"}))
    recorded = {**project.recorded("here"), **project.recorded("there")}
    observe("wrong_recorded", wrong(recorded, {"F-HERE": "CORROBORATED"}))
    observe("missing_denominators", int("1 of 1 corroborated" not in finished.text))


@pytest.mark.falsifies("TOLLENS-VERDICTS-008")
def test_collecting_only_judges_and_writes_nothing(selectable, observe):
    before = selectable.files()
    finished = selectable.run("--collect-only", "--sabotage")
    observe("changed_files", wrong(selectable.files(), before))
    observe("exit_code", finished.code)
    assert "test_cases[1]" in finished.text


# JUnit XML.


@pytest.mark.falsifies("TOLLENS-VERDICTS-009")
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


@pytest.mark.falsifies("TOLLENS-VERDICTS-010")
def test_a_second_run_leaves_every_byte_and_a_clean_tree(recorded, observe):
    before = recorded.files(cache=False)
    assert recorded.recorded().get("F-FAILS") == "FALSIFIED" and history(recorded) == 1
    recorded.run()
    observe("changed_files", wrong(recorded.files(cache=False), before))
    observe("dirty_paths", len(git(recorded.root, "status", "--porcelain").splitlines()))


@pytest.mark.falsifies("TOLLENS-VERDICTS-011")
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


@pytest.mark.falsifies("TOLLENS-VERDICTS-012")
def test_always_refreshes_the_evidence_and_auto_records_what_changed(recorded, observe):
    before = recorded.files()["evidence/sample-v1/evidence.json"]
    recorded.run("--record=always")
    renewed = recorded.evidence()["previous"] == sha256(before)
    observe("refreshed", renewed and history(recorded) == 1)
    recorded.write("product.py", HALVED)
    recorded.run()
    changed = recorded.recorded().get("F-FAILS") == "CORROBORATED"
    observe("recorded", changed and history(recorded) == 2)


# The closing table.


@pytest.mark.falsifies("TOLLENS-VERDICTS-013")
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


# Without contracts.


def ordinary(finished):
    """The output without what may differ: the list of plugins and the times."""
    lines = [re.sub(r" in \d+\.\d+s", "", line) for line in finished.lines]
    return dict(enumerate(line for line in lines if not line.startswith("plugins: ")))


@pytest.mark.falsifies("TOLLENS-VERDICTS-014")
@pytest.mark.parametrize("arguments", [(), ("-rA", "--strict-markers"), ("--collect-only",)])
def test_without_contracts_the_plugin_is_not_there(project, observe, arguments):
    project.write("test_ordinary.py", ORDINARY)
    before = project.files()
    without = project.pytest(*arguments, "-p", "no:tollens")
    present = project.pytest(*arguments)
    observe("differing_lines", wrong(ordinary(present), ordinary(without)))
    observe("differing_exit_codes", int(present.code != without.code))
    observe("changed_files", wrong(project.files(), before))


@pytest.mark.falsifies("TOLLENS-VERDICTS-015")
def test_without_contracts_nothing_more_is_imported(project, observe, monkeypatch):
    project.write("test_modules.py", MODULES)
    seen = []
    for arguments in ((), ("-p", "no:tollens")):
        result = project.pytester.runpytest_subprocess(*arguments)
        assert result.ret == 0
        seen.append(set(json.loads((project.root / "seen").read_text())))
    observe("modules_imported", len(seen[0] - seen[1] - {"tollens", "tollens.plugin"}))
    asked = imports_asked_for(monkeypatch)
    assert project.pytest().code == 0
    observe("imports_asked_for", len(asked))


def imports_asked_for(monkeypatch):
    """From now on, what the harness's modules import of the harness or of its dependencies."""
    asked, original = [], builtins.__import__

    def spy(name, globals=None, *more):  # noqa: A002
        heavy = name.partition(".")[0] in ("tollens", "pydantic", "yaml", "jsonschema", "filelock")
        if heavy and (globals or {}).get("__name__", "").startswith("tollens"):
            asked.append(name)
        return original(name, globals, *more)

    monkeypatch.setattr(builtins, "__import__", spy)
    return asked


# With contracts, but without --contract.


@pytest.mark.falsifies("TOLLENS-VERDICTS-016")
def test_a_plain_run_judges_bound_tests_and_writes_nothing(project, observe):
    claims = dict.fromkeys(["F-HOLDS", "F-BROKEN", "F-UNOBSERVED", "F-SILENT"], {})
    project.contract({**claims, "F-NEEDS": {"needs": [{"env": "SAMPLE_NEED"}]}})
    project.write("falsifiers/test_plain.py", MARKS + HOLDS + PLAIN)
    before = project.files()
    finished = project.pytest("-rA")
    outcomes = dict(
        reversed(found.groups())
        for found in map(re.compile(r"(\w+) \S+::(\w+)(?: .*)?").fullmatch, finished.lines)
        if found
    )
    expected = {
        "test_holds": "PASSED",
        "test_unbound": "PASSED",
        "test_broken": "FAILED",
        "test_unobserved": "FAILED",
        "test_dangling": "ERROR",
    }
    differing = wrong(outcomes, expected) + int("1 skipped" not in finished.text)
    observe("wrong_outcomes", differing)
    assert differing == 0  # a fault in judging must not judge this test
    observe("changed_files", wrong(project.files(), before))
    observe("tables", finished.text.count(" corroborated"))


@pytest.mark.falsifies("TOLLENS-VERDICTS-017")
def test_a_bound_test_costs_little_more_than_an_unbound_one(project, observe):
    count = 300
    names = [f"F-COST-{i:03}" for i in range(count)]
    project.contract(dict.fromkeys(names, {}))
    project.write("falsifiers/test_cost.py", MARKS + "".join(map(bound_test, names)))
    unbound = "".join(f"def test_{i}(request):\n    request\n" for i in range(count))
    project.write("test_unbound.py", unbound)
    free = timed(project, count, "test_unbound.py")
    bound = timed(project, count, "--contract", "contracts")
    observe("milliseconds_per_falsifier", (bound - free) / count * 1e3)


def timed(project, count, *arguments):
    """Seconds of this process, so that neither a busy machine nor what it held before counts."""
    gc.freeze()
    started = time.process_time()
    finished = project.pytest("-q", *arguments)
    seconds = time.process_time() - started
    gc.unfreeze()
    assert f"{count} passed" in finished.text
    return seconds


# What a test may observe.


@pytest.mark.falsifies("TOLLENS-VERDICTS-018")
def test_python_numpy_and_torch_scalars_are_observed_as_they_are(project, observe):
    measures = {name: {"eq": value} for name, (_, value) in SCALARS.items()}
    claims = {"F-SCALARS": {"measures": measures}, **dict.fromkeys(WRONG, {})}
    project.contract(claims)
    tests = [scalar_test("F-SCALARS", {name: text for name, (text, _) in SCALARS.items()})]
    tests += [scalar_test(name, {"x": text}) for name, text in WRONG.items()]
    project.write("falsifiers/test_scalars.py", MARKS + "import numpy, torch\n" + "".join(tests))
    finished = project.run()
    expected = {"F-SCALARS": "CORROBORATED", **dict.fromkeys(WRONG, "ERROR")}
    observe("wrong_verdicts", wrong(finished.verdicts, expected))
    measured = project.results().get(("F-SCALARS", "algorithm"), {}).get("measures", {})
    values = {name: repr(each["value"]) for name, each in measured.items()}
    exact = {name: repr(value) for name, (_, value) in SCALARS.items()}
    observe("wrong_values", wrong(values, exact))


@pytest.mark.falsifies("TOLLENS-VERDICTS-019")
def test_attachments_and_artefacts_are_named_by_their_content(project, observe):
    verdicts = {"F-ATTACHES": "CORROBORATED", "F-RUNTIME": "CORROBORATED"}
    verdicts |= {"F-NO-ARTIFACT": "ERROR", "F-NO-LEVEL": "ERROR"}
    project.contract(dict.fromkeys(verdicts, {}))
    project.write("falsifiers/test_files.py", MARKS + FILES)
    project.write("model.gguf", "weights")
    finished = project.run()
    observe("wrong_verdicts", wrong(finished.verdicts, verdicts))
    attachments = project.results().get(("F-ATTACHES", "algorithm"), {}).get("attachments", [])
    folder = project.root / "evidence/sample-v1"
    kept = {each["name"]: (each["sha256"], content(folder / each["path"])) for each in attachments}
    hashes = {"trace.json": sha256(b"[1]\n"), "second.json": sha256(b"[2]\n")}
    observe("wrong_attachments", wrong(kept, {name: (sha, sha) for name, sha in hashes.items()}))
    artifact = project.results().get(("F-RUNTIME", "runtime"), {}).get("artifact", {})
    named = {"name": "model.gguf", "sha256": sha256(b"weights"), "bytes": 7}
    observe("wrong_artifacts", wrong(artifact, named))


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def content(path):
    return sha256(path.read_bytes()) if path.is_file() else "nothing"

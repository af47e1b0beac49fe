"""Tries to refute the verdicts of the pytest plugin, on small projects that a nested pytest runs.

The oracle is the table of cases as written here: what each nested test does is known, so is what
must be said of it. It is compared with the closing table, the exit code and the JSON left behind.
"""

import os
import shutil
import subprocess

import pytest

from falsifiers.blocked_cases import MODULE_SKIP, NEEDS, SKIPPED, SKIPS
from falsifiers.sample_project import SampleProject, wrong
from falsifiers.sample_tests import HOLDS, MARKS, bound_test, function_of
from falsifiers.verdict_cases import (
    ALONE,
    ATTACHING,
    CASES,
    CLAIMS,
    CRASHES,
    ELSEWHERE,
    LEVELS,
    NOTHING,
    PARTLY,
    SEVERAL,
    SEVERAL_CLAIMS,
    TOLD,
    UNCOLLECTABLE,
    VERDICTS,
    WORST,
)


@pytest.fixture
def project(pytester, monkeypatch):
    return SampleProject(pytester, monkeypatch)


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

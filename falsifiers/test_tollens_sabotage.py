"""Tries to refute the sabotage runner, on small projects that a nested pytest runs.

The oracle is how each sample is built: it is known which planted fault its tests can see, and in
which way they fail under it. The fates are read from the printed matrix and from the evidence.
"""

import pytest

from falsifiers.sabotage_cases import (
    CASES,
    CLEAN_FIRST,
    ENDS,
    FATES,
    FIXTURES,
    KILLED_BY_CASES,
    MARKS,
    MISSES,
    NOTICES,
    PARALLEL,
    PLACES,
    PRODUCT,
    REFERENCES,
    RESTORED,
    SABOTEURS,
    SCOPES,
    SHOP,
    SHOP_SABOTEURS,
    STALLS,
    USERS,
)
from falsifiers.sample_project import SampleProject, wrong


@pytest.fixture
def project(pytester, monkeypatch):
    sample = SampleProject(pytester, monkeypatch)
    sample.write("product.py", PRODUCT)
    sample.write("falsifiers/saboteurs/sample.py", SABOTEURS)
    return sample


def severity(project):
    """(falsifier, saboteur) → fate in the evidence."""
    rows = project.evidence().get("severity", [])
    return {(each["falsifier"], each["saboteur"]): each["outcome"] for each in rows}


# A survivor.


@pytest.mark.falsifies("TOLLENS-SABOTAGE-001")
def test_a_survivor_voids_the_falsifier_until_it_is_killed(project, observe):
    project.contract({"F-NOTICES": {"kills": ["tripled"]}, "F-MISSES": {"kills": ["tripled"]}})
    project.write("falsifiers/test_notices.py", MARKS + NOTICES)
    project.write("falsifiers/test_misses.py", MARKS + MISSES)
    steps = [project.run("--sabotage")]
    fates = [severity(project)]
    rows = [steps[0].table]
    recorded = [project.recorded()]
    before = project.files(cache=False)
    steps.append(project.run())
    unchanged = project.files(cache=False) == before
    project.write("falsifiers/test_misses.py", MARKS + NOTICES.replace("NOTICES", "MISSES"))
    for arguments in ((), ("--sabotage",)):
        steps.append(project.run(*arguments))
    fates.append(severity(project))
    rows += [step.table for step in steps[1:]]
    misses = [table["F-MISSES"][0] for table in rows]
    said = {i: (row.verdict, row.discharge) for i, row in enumerate(misses)}
    void, partial = ("VACUOUS", "OPEN"), ("CORROBORATED", "PARTIAL_ALGORITHM_LEVEL")
    expected = {0: void, 1: void, 2: partial, 3: ("CORROBORATED", "DISCHARGED")}
    observe("wrong_rows", wrong(said, expected))
    survived = {("F-NOTICES", "tripled"): "killed", ("F-MISSES", "tripled"): "survived"}
    killed = dict.fromkeys(survived, "killed")
    observe("wrong_fates", wrong(fates[0], survived) + wrong(fates[1], killed))
    codes = {i: step.code for i, step in enumerate(steps)}
    observe("wrong_exit_codes", wrong(codes, {0: 1, 1: 1, 2: 0, 3: 0}))
    observe("recorded_verdict", recorded[0].get("F-MISSES", "none"))
    assert unchanged


# What is no kill.


@pytest.mark.falsifies("TOLLENS-SABOTAGE-002")
def test_only_a_falsified_claim_is_a_kill(project, observe):
    project.contract({name: {"kills": [saboteur]} for name, (saboteur, _) in FATES.items()})
    project.write("falsifiers/test_ends.py", MARKS + ENDS)
    finished = project.run("--sabotage")
    printed = {name: fate for name, row in finished.matrix.items() for fate in row.values()}
    fates = {name: fate for name, (_, fate) in FATES.items()}
    observe("wrong_fates", wrong(printed, fates))
    unproven = {name: "DISCHARGED" for name, fate in fates.items() if fate == "killed"}
    discharged = {
        name: row.discharge
        for name, [row] in finished.table.items()
        if row.discharge == "DISCHARGED"
    }
    observe("wrongly_discharged", wrong(discharged, unproven))
    untold = [
        name
        for name, (saboteur, fate) in FATES.items()
        if fate != "killed" and f"FAILED {name}: {saboteur} {fate}" not in finished.text
    ]
    observe("untold", len(untold))


@pytest.mark.falsifies("TOLLENS-SABOTAGE-003")
@pytest.mark.parametrize("name", STALLS)
def test_a_saboteur_that_proves_nothing_fails_the_run(project, observe, name):
    saboteur, fate = FATES[name]
    project.contract({name: {"kills": [saboteur]}})
    project.write("falsifiers/test_ends.py", MARKS + ENDS)
    finished = project.run("--sabotage")
    observe("fate", finished.matrix.get(name, {}).get(saboteur, "none"))
    observe("exit_code", finished.code)
    assert finished.verdicts[name] == "CORROBORATED" and fate == "error"


# Fixtures.


@pytest.mark.falsifies("TOLLENS-SABOTAGE-004")
def test_fixtures_of_every_scope_are_rebuilt_under_the_fault_and_after_it(project, observe):
    claims = {name: {"kills": ["tripled"]} for name in SCOPES}
    project.contract({**claims, "F-AFTER": {}})
    project.write("falsifiers/conftest.py", FIXTURES)
    project.write("falsifiers/test_fixtures.py", MARKS + CASES)
    finished = project.run("--sabotage")
    killed = {name: row.get("tripled") for name, row in finished.matrix.items()}
    observe("wrong_fates", wrong(killed, dict.fromkeys(SCOPES, "killed")))
    expected = dict.fromkeys([*SCOPES, "F-AFTER"], "CORROBORATED")
    observe("wrong_verdicts", wrong(finished.verdicts, expected))
    assert finished.code == 0


# References.


@pytest.mark.falsifies("TOLLENS-SABOTAGE-005")
def test_a_fault_is_in_force_wherever_the_original_was_and_gone_after(project, observe):
    claims = {name: {"kills": [saboteur]} for name, (saboteur, _) in PLACES.items()}
    project.contract({**claims, "F-RESTORED": {}})
    project.write("product.py", SHOP)
    project.write("falsifiers/saboteurs/sample.py", SHOP_SABOTEURS)
    project.write("users/__init__.py", "from users.one import double\n")
    project.write("users/one.py", USERS)
    project.write("falsifiers/test_references.py", MARKS + REFERENCES)
    project.write("falsifiers/test_restored.py", MARKS + RESTORED)
    finished = project.run("--sabotage")
    killed = {name: fate for name, row in finished.matrix.items() for fate in row.values()}
    observe("wrong_fates", wrong(killed, dict.fromkeys(PLACES, "killed")))
    measured = project.results().get(("F-RESTORED", "algorithm"), {}).get("measures", {})
    observe("references_left", measured.get("x", {}).get("value", -1))


# The clean run.


@pytest.mark.falsifies("TOLLENS-SABOTAGE-006")
def test_only_what_is_corroborated_is_attacked(project, observe):
    expected = {
        "F-HOLDS": ("CORROBORATED", 2),
        "F-BROKEN": ("FALSIFIED", 1),
        "F-SILENT": ("VACUOUS", 1),
        "F-RAISES": ("ERROR", 1),
        "F-SKIPS": ("BLOCKED", 1),
    }
    project.contract({name: {"kills": ["tripled"]} for name in expected})
    project.write("falsifiers/test_clean.py", MARKS + CLEAN_FIRST)
    plain = project.run("--record=never")
    (project.root / "runs.txt").unlink()
    finished = project.run("--sabotage")
    runs = (project.root / "runs.txt").read_text().split()
    said = {name: (finished.verdicts.get(name), runs.count(name)) for name in expected}
    observe("wrong_runs", wrong(said, expected))
    observe("attacked", wrong(finished.matrix, {"F-HOLDS": {"tripled": "killed"}}))
    counts = [each.lines[-1].partition(" in ")[0].strip("= ") for each in (plain, finished)]
    print(counts)
    observe("same_counts", counts[0] == counts[1])


# Several tests, several processes.


@pytest.mark.falsifies("TOLLENS-SABOTAGE-007")
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "two workers"])
def test_one_case_that_kills_is_enough_in_one_process_and_in_two(project, observe, workers):
    project.contract({name: {"kills": [*fates]} for name, fates in KILLED_BY_CASES.items()})
    project.write("falsifiers/test_parallel.py", MARKS + PARALLEL)
    finished = project.run("--sabotage", *workers)
    observe("wrong_fates", wrong(finished.matrix, KILLED_BY_CASES))
    pairs = {
        (name, saboteur): fate
        for name, fates in KILLED_BY_CASES.items()
        for saboteur, fate in fates.items()
    }
    observe("wrong_severity", wrong(severity(project), pairs))
    observe("in_the_contracts_order", [*finished.matrix] == [*KILLED_BY_CASES])
    assert finished.code == 1 and "kill matrix: 3 of 5 killed" in finished.text

"""Tries to refute the plugin as a guest of pytest: unseen, cheap, and exact in what it takes.

The oracle is the same run without the plugin, or under a plain pytest, and what each nested test is
known to observe and to attach.
"""

import builtins
import gc
import hashlib
import json
import re
import time

import pytest

from falsifiers.plugin_cases import FILES, MODULES, ORDINARY, PLAIN, SCALARS, WRONG, scalar_test
from falsifiers.sample_project import SampleProject, wrong
from falsifiers.sample_tests import HOLDS, MARKS, bound_test


@pytest.fixture
def project(pytester, monkeypatch):
    return SampleProject(pytester, monkeypatch)


# Without contracts.


def ordinary(finished):
    """The output without what may differ: the list of plugins and the times."""
    lines = [re.sub(r" in \d+\.\d+s", "", line) for line in finished.lines]
    return dict(enumerate(line for line in lines if not line.startswith("plugins: ")))


@pytest.mark.falsifies("TOLLENS-PLUGIN-001")
@pytest.mark.parametrize("arguments", [(), ("-rA", "--strict-markers"), ("--collect-only",)])
def test_without_contracts_the_plugin_is_not_there(project, observe, arguments):
    project.write("test_ordinary.py", ORDINARY)
    before = project.files()
    without = project.pytest(*arguments, "-p", "no:tollens")
    present = project.pytest(*arguments)
    observe("differing_lines", wrong(ordinary(present), ordinary(without)))
    observe("differing_exit_codes", int(present.code != without.code))
    observe("changed_files", wrong(project.files(), before))


@pytest.mark.falsifies("TOLLENS-PLUGIN-002")
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


@pytest.mark.falsifies("TOLLENS-PLUGIN-003")
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


@pytest.mark.falsifies("TOLLENS-PLUGIN-004")
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


@pytest.mark.falsifies("TOLLENS-PLUGIN-005")
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


@pytest.mark.falsifies("TOLLENS-PLUGIN-006")
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

"""Tries to refute the evidence: an alteration unseen, stale evidence counted, a result lost.

Oracles: the alteration itself, the json module, the published in-toto shape, the edit that made
evidence stale, real git, and the tables of `falsifiers.ledger`.
"""

import contextlib
import hashlib
import itertools
import json
import math
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from falsifiers.ledger import LEVELS, Ledger, discharge_of, highest, status_of
from falsifiers.small_project import RUN, SmallProject
from tollens import evidence, standing, verdicts
from tollens.bounds import Measure, judge_value
from tollens.errors import EvidenceError, TollensError
from tollens.outcomes import Outcome
from tollens.verdicts import Discharge, Kill, Level, Verdict

NAMES = ("F-SMALL-001", "F-SMALL-002", "F-SMALL-003")
FLIPS = 400


def a_real_file(root: Path) -> bytes:
    """An evidence file as runs leave it: several results, kills, attachments, odd text."""
    small = SmallProject(root, NAMES).build(kills="a-fault")
    small.record(small.said(NAMES[0], value=0.1), small.said(NAMES[1], Verdict.BLOCKED))
    odd = small.said(NAMES[2], Verdict.FALSIFIED, Level.RUNTIME, value=math.nan)
    small.record(odd, kills={(NAMES[0], "a-fault"): (Kill.SURVIVED, 'naïve "😀"\n')})
    return small.evidence_path.read_bytes()


@pytest.mark.falsifies("TOLLENS-EVIDENCE-001")
def test_any_altered_byte_is_found(observe, tmp_path):
    data, generator = a_real_file(tmp_path), random.Random(0)
    whole = verifies(data)
    undetected = [how for how, each in alterations(data, generator) if verifies(each)]
    observe("alterations", len(list(alterations(data, random.Random(0)))))
    observe("undetected", len(undetected))
    observe("whole_file_verifies", whole)
    assert whole and not undetected, undetected


def alterations(data: bytes, generator: random.Random) -> Iterator[tuple[str, bytes]]:
    """One bit or one byte changed at random places, and what an editor or a forger would do."""
    for _ in range(FLIPS):
        at = generator.randrange(len(data))
        mask = generator.choice([1 << generator.randrange(8), generator.randrange(1, 256)])
        yield f"byte {at} ^ {mask}", data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
    yield "line ends", data.replace(b"\n", b"\r\n")
    yield "no last line end", data.rstrip()
    yield "a byte-order mark", b"\xef\xbb\xbf" + data
    yield "cut in half", data[: len(data) // 2]
    yield "empty", b""
    yield "indented by four", json.dumps(json.loads(data), indent=4).encode()
    yield "a key twice", data.replace(b'"_type"', b'"_type": 1,\n  "_type"', 1)
    for forged in (b"0.10", b"1e-1", b"NaN", b"1e999", b'"\\ud800"', b"[" * 100_000, b"9" * 5000):
        yield f"a value {forged[:9]!r}", data.replace(b"0.1,", forged + b",", 1)


def verifies(data: bytes) -> bool:
    """Whether an evidence file is taken for whole; any other exception takes the reader down."""
    try:
        evidence.parse(data, "an evidence file")
    except EvidenceError:
        return False
    return True


@pytest.mark.falsifies("TOLLENS-EVIDENCE-002")
def test_a_file_is_canonical_and_its_floats_round_trip(observe, tmp_path):
    small, generator = SmallProject(tmp_path, NAMES[:1]).build(), random.Random(0)
    floats = [struct.unpack("<d", generator.randbytes(8))[0] for _ in range(300)]
    seen = {f"m{i}": judge_value(Measure(le=0.5), each) for i, each in enumerate(floats)}
    said = Outcome(NAMES[0], Level.ALGORITHM, Verdict.FALSIFIED, "é", ("t",), 0.1, seen, (), None)
    data = small.record(said) and small.evidence_path.read_bytes()
    document = json.loads(data)
    again = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    [result] = document["predicate"]["results"]
    back = [float(result["measures"][f"m{i}"]["value"]) for i in range(len(floats))]
    changed = [a for a, b in zip(floats, back, strict=True) if not (a == b or a != a and b != b)]
    observe("canonical", data == again.encode() + b"\n")
    observe("changed_floats", len(changed))
    observe("in_toto_statement", is_statement(document, small.contract.subject))
    assert data == again.encode() + b"\n" and not changed


def is_statement(document: dict, subjects: list[str]) -> bool:
    """The shape of an in-toto Statement v1 (spec/v1/statement.md)."""
    named = [each["name"] for each in document["subject"]]
    digests = [each["digest"] for each in document["subject"]]
    hexadecimal = all(set(d["sha256"]) <= set("0123456789abcdef") for d in digests)
    return (
        document.keys() == {"_type", "subject", "predicateType", "predicate"}
        and document["_type"] == "https://in-toto.io/Statement/v1"
        and ":" in document["predicateType"]
        and named == sorted(subjects)
        and hexadecimal
        and all(len(each["sha256"]) == 64 for each in digests)
    )


@pytest.mark.falsifies("TOLLENS-EVIDENCE-003")
def test_nothing_is_written_that_its_schema_refuses(observe, tmp_path):
    small = SmallProject(tmp_path, NAMES[:1]).build()
    good = small.record(small.said(NAMES[0])).evidence
    written = [name for name, each in misshapen(good).items() if is_written(each)]
    observe("good_written", is_written(good))
    observe("misshapen_written", len(written))
    assert is_written(good) and not written, written


def misshapen(good: evidence.Evidence) -> dict[str, evidence.Evidence]:
    """Evidence of the right types that no schema admits, made behind the models' back."""
    predicate, [result] = good.predicate, good.predicate.results
    digests = result.digests.model_copy(update={"claim": "not hexadecimal"})
    spoilt = {
        "claim": {"results": [result.model_copy(update={"digests": digests})]},
        "previous": {"previous": "0" * 63},
        "digest": {"digest": "A" * 64},
        "contract": {"contract": predicate.contract.model_copy(update={"claims": ""})},
    }
    whole = {
        name: good.model_copy(update={"predicate": predicate.model_copy(update=update)})
        for name, update in spoilt.items()
    }
    return whole | {"subject": good.model_copy(update={"subject": []})}


def is_written(good: evidence.Evidence) -> bool:
    try:
        evidence.dump(good)
    except EvidenceError:
        return False
    return True


LINKED = {
    "small/part.py": "from small import inner\n\ndef error():\n    return inner.value()\n",
    "small/inner.py": "def value():\n    from small.deep.core import core\n\n    return core\n",
    "small/deep/__init__.py": "",
    "small/deep/core.py": "core = 0.5\n",
    "small/apart.py": "other = 1\n",
    "falsifiers/oracle.py": "truth = 1\n",
    "falsifiers/conftest.py": "",
    "falsifiers/test_other.py": "def test_other():\n    pass\n",
    "README.md": "# Small\n",
}
MAKES_STALE = {
    "claim": ("contracts/small-v1.yaml", "le: 1.0", "le: 0.9"),
    "test": ("falsifiers/test_small.py", "part.error()", "part.error() * 1"),
    "test_oracle": ("falsifiers/oracle.py", "truth = 1", "truth = 2"),
    "conftest": ("falsifiers/conftest.py", "", "x = 1\n"),
    "subject": ("small/part.py", "return inner", "return 1 * inner"),
    "import": ("small/inner.py", "return core", "return core * 1"),
    "import_of_import": ("small/deep/core.py", "0.5", "0.4"),
}
LEAVES_FRESH = {
    "unrelated_module": ("small/apart.py", "1", "2"),
    "another_test": ("falsifiers/test_other.py", "pass", "assert True"),
    "line_ends": ("small/part.py", "\n", "\r\n"),
    "line_ends_of_the_test": ("falsifiers/test_small.py", "\n", "\r\n"),
    "a_comment_in_the_contract": ("contracts/small-v1.yaml", "title:", "# why\ntitle:"),
    "documentation": ("README.md", "Small", "Large"),
}


def a_linked_project(root: Path) -> SmallProject:
    small = SmallProject(root, NAMES[:1]).build(kills="a-fault")
    for path, text in LINKED.items():
        small.write(path, text)
    test = (root / "falsifiers/test_small.py").read_text()
    small.write("falsifiers/test_small.py", f"from falsifiers import oracle\n{test}")
    small.record(small.said(NAMES[0]), kills={(NAMES[0], "a-fault"): (Kill.KILLED, "")})
    return small


@pytest.mark.falsifies("TOLLENS-EVIDENCE-004")
def test_evidence_is_stale_exactly_where_what_it_rests_on_changed(observe, tmp_path):
    small = a_linked_project(tmp_path)
    fresh_at_first = is_fresh(small)
    unnoticed = [name for name, edit in MAKES_STALE.items() if is_fresh_after(small, *edit)]
    spurious = [name for name, edit in LEAVES_FRESH.items() if not is_fresh_after(small, *edit)]
    observe("fresh_at_first", fresh_at_first)
    observe("kill_outlives_its_saboteur", bool(today_of(small, {"a-fault": "1" * 64}).kills))
    observe("changes_unnoticed", len(unnoticed))
    observe("stale_without_cause", len(spurious))
    assert fresh_at_first and not unnoticed and not spurious, (unnoticed, spurious)


def is_fresh_after(small: SmallProject, path: str, old: str, new: str) -> bool:
    """Whether the evidence counts while one file is edited."""
    text = (small.root / path).read_bytes().decode()
    assert old in text
    small.write(path, text.replace(old, new) if old else text + new)
    try:
        return is_fresh(small)
    finally:
        small.write(path, text)


def is_fresh(small: SmallProject) -> bool:
    now = today_of(small, {"a-fault": "0" * 64})
    return bool(now.results) and bool(now.kills)


def today_of(small: SmallProject, saboteurs: dict[str, str]) -> standing.FalsifierStanding:
    kept = evidence.read(small.evidence_path)
    return standing.live(small.contract, kept, small.today(), saboteurs)[NAMES[0]]


@pytest.mark.falsifies("TOLLENS-EVIDENCE-005")
def test_stale_evidence_says_what_changed_and_in_how_many_commits(observe, tmp_path):
    small = a_linked_project(tmp_path)
    small.git("init", "--quiet")
    commit = small.commit("recorded")
    small.record(small.said(NAMES[0]), run=RUN.model_copy(update={"commit": commit}), always=True)
    said = []
    small.write("small/deep/core.py", "core = 0.4\n")
    said.append(reason(small))
    small.commit("changed the core")
    small.write("small/apart.py", "other = 2\n")
    small.commit("changed something else")
    said.append(reason(small))
    small.write("small/deep/core.py", "core = 0.3\n")
    small.commit("changed the core again")
    said.append(reason(small))
    contract = small.contract_path.read_text().replace("le: 1.0", "le: 0.9")
    small.write("small/deep/core.py", LINKED["small/deep/core.py"])
    small.write("contracts/small-v1.yaml", contract)
    said.append(reason(small))
    expected = [
        "changed since: small/deep/core.py (not committed)",
        "changed since: small/deep/core.py (1 commit since)",
        "changed since: small/deep/core.py (2 commits since)",
        "changed since: the claim",
    ]
    wrong = [pair for pair in zip(said, expected, strict=True) if pair[0] != pair[1]]
    observe("wrong_reasons", len(wrong))
    assert not wrong, wrong[0]


def reason(small: SmallProject) -> str:
    for result in today_of(small, {}).stale.values():
        kept, now = evidence.read(small.evidence_path), small.today()
        return standing.why_stale(small.root, result, kept, small.contract, now)
    return "it is fresh"


RUNS, RUNS_PER_LIFE = 120, 8
SAID = [Verdict.CORROBORATED] * 3 + [Verdict.BLOCKED] * 2
SAID += [Verdict.FALSIFIED, Verdict.ERROR, Verdict.VACUOUS, Verdict.INCONCLUSIVE, Verdict.NOT_RUN]


@pytest.mark.falsifies("TOLLENS-EVIDENCE-006")
def test_a_run_changes_its_own_results_and_no_others(observe, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the disk's part is not on trial here
    small, generator = SmallProject(tmp_path, NAMES), random.Random(2)
    wrong: list[object] = []
    for i in range(RUNS):
        if i % RUNS_PER_LIFE == 0:
            ledger = reborn(small)
        outcomes, fates = drawn_run(small, generator)
        for each in sorted(outcomes, key=lambda each: each.verdict is Verdict.BLOCKED):
            ledger.say(each.falsifier, str(each.level), str(each.verdict))
        for (falsifier, saboteur), (fate, _) in fates.items():
            ledger.tell(falsifier, saboteur, str(fate))
        ledger.settle()
        small.record(*outcomes, kills=fates, run=RUN.model_copy(update={"seed": i}))
        said = predicate_of(small)
        expected = {key: verdict for key, (verdict, _) in ledger.results.items()}
        if results_of(said) != expected or unreferenced(said):
            wrong.append((i, results_of(said), expected, unreferenced(said)))
            break
    observe("runs", i + 1)
    observe("wrong_merges", len(wrong))
    assert not wrong, wrong[0]


def reborn(small: SmallProject) -> Ledger:
    """The project and its ledger without anything recorded."""
    small.build(kills="a-fault")
    small.evidence_path.unlink(missing_ok=True)
    return Ledger(*(dict.fromkeys(NAMES, each) for each in ("algorithm", ["a-fault"])))


def drawn_run(small: SmallProject, generator: random.Random) -> tuple[list, dict]:
    """Outcomes of some falsifiers, each at some levels, and the fates of some saboteurs."""
    keys = [key for key in itertools.product(NAMES, Level) if generator.random() < 0.25]
    outcomes = [small.said(name, generator.choice(SAID), level) for name, level in keys]
    proven = [each.falsifier for each in outcomes if each.verdict is Verdict.CORROBORATED]
    fates = {(name, "a-fault"): (generator.choice(list(Kill)), "") for name in proven}
    return outcomes, {key: fate for key, fate in fates.items() if generator.random() < 0.4}


def predicate_of(small: SmallProject) -> dict:
    if not small.evidence_path.exists():
        return {"results": [], "severity": [], "runs": {}}
    return json.loads(small.evidence_path.read_bytes())["predicate"]


def results_of(predicate: dict) -> dict[tuple[str, str], str]:
    return {(each["falsifier"], each["level"]): each["verdict"] for each in predicate["results"]}


def unreferenced(predicate: dict) -> set[str]:
    """Runs that no result names, or that a result names in vain."""
    named = {each["run"] for each in predicate["results"] + predicate["severity"]}
    return named ^ predicate["runs"].keys()


FATES = [(), *[(fate,) for fate in Kill], (Kill.KILLED, Kill.KILLED), (Kill.KILLED, Kill.SURVIVED)]


@pytest.mark.falsifies("TOLLENS-EVIDENCE-007")
def test_a_discharge_follows_the_table(observe):
    said = [None, *(verdict for verdict in Verdict if verdict is not Verdict.NOT_RUN)]
    cases, wrong = 0, []
    for row in itertools.product(said, repeat=3):
        results = {level: each for level, each in zip(Level, row, strict=True) if each}
        for required, fates in itertools.product(Level, FATES):
            cases += 1
            found = str(verdicts.discharge(results, required, fates))
            if found != discharge_of(texts_of(results), str(required), map(str, fates)):
                wrong.append((results, required, fates, found))
    unproven = [
        fates
        for fates in FATES
        if set(fates) != {Kill.KILLED}
        and verdicts.discharge({Level.RUNTIME: Verdict.CORROBORATED}, Level.ALGORITHM, fates)
        is Discharge.DISCHARGED
    ]
    observe("cases", cases)
    observe("off_the_table", len(wrong))
    observe("discharged_unproven", len(unproven))
    assert not wrong and not unproven, (wrong or unproven)[0]


def texts_of(results: dict[Level, Verdict]) -> dict[str, str]:
    return {str(level): str(verdict) for level, verdict in results.items()}


@pytest.mark.falsifies("TOLLENS-EVIDENCE-008")
def test_a_status_follows_the_table(observe):
    rows = list(dict.fromkeys(possible_rows()))
    cases, wrong = 0, []
    for size in (1, 2, 3):
        for chosen in itertools.combinations_with_replacement(rows, size):
            cases += 1
            given = [(Discharge(d), top and Level(top), Level(need)) for d, top, need in chosen]
            told = [(d, {top: "CORROBORATED"} if top else {}, need) for d, top, need in chosen]
            if str(verdicts.status(given)) != status_of(told):
                wrong.append((chosen, verdicts.status(given)))
    observe("cases", cases)
    observe("off_the_table", len(wrong))
    assert not wrong, wrong[0]


def possible_rows() -> Iterator[tuple[str, str | None, str]]:
    """(discharge, highest corroborated level, required level) that results can give."""
    said = ("CORROBORATED", "FALSIFIED", "BLOCKED", "ERROR", None)
    for row in itertools.product(said, repeat=3):
        results = {level: each for level, each in zip(LEVELS, row, strict=True) if each}
        for required, fates in itertools.product(LEVELS, [["killed"], ["survived"]]):
            yield discharge_of(results, required, fates), highest(results), required


@pytest.mark.falsifies("TOLLENS-EVIDENCE-009")
def test_an_altered_file_counts_as_none_and_is_replaced(observe, tmp_path):
    small = SmallProject(tmp_path, NAMES[:2]).build()
    small.record(*map(small.said, small.names))
    forged = small.evidence_path.read_bytes().replace(b"0.5", b"0.4", 1)
    small.evidence_path.write_bytes(forged)
    with contextlib.suppress(TollensError):
        small.record(small.said(NAMES[0], Verdict.FALSIFIED))
    said = predicate_of(small)
    observe("trusted_results", len(results_of(said)) - 1)
    observe("names_what_it_replaced", said["previous"] == hashlib.sha256(forged).hexdigest())
    assert results_of(said) == {(NAMES[0], "algorithm"): "FALSIFIED"}

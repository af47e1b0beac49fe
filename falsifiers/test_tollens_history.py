"""Tries to refute the recorder: bytes lost, records lost, files torn, a bar moved quietly.

Oracles: plain PyYAML and json, the text with the inserted slice taken out again, the chain of
`previous` digests, and the tables of `falsifiers.ledger`.
"""

import contextlib
import hashlib
import json
import os
import random
import statistics
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given

from falsifiers.ledger import Ledger
from falsifiers.on_disk import (
    CONTRACT,
    EVIDENCE,
    history_of,
    is_insertion,
    is_sealed,
    problems,
    state,
)
from falsifiers.recorders import (
    NAMES,
    PROCESSES,
    RECORDS,
    Written,
    chain_of,
    flip,
    is_killed_while_recording,
    record_until_step,
    recorded_at_once,
    seconds_to_record,
)
from falsifiers.small_project import SmallProject
from falsifiers.thorough import THOROUGH
from falsifiers.yaml_styles import entries, texts
from tollens import history, splice
from tollens.errors import RecordError, TollensError
from tollens.source import parse
from tollens.verdicts import Kill, Level, Verdict

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.falsifies("TOLLENS-HISTORY-001")
def test_append_inserts_one_entry_and_keeps_every_other_byte(observe):
    seen: dict[str, list] = {"tried": [], "refused": [], "changed": [], "misread": []}

    @THOROUGH
    @given(texts(), entries())
    def compare(old: str, entry: dict) -> None:
        before = yaml.safe_load(old)
        seen["tried"].append(old)
        try:
            new = splice.append(parse(old, "a contract"), entry)
        except TollensError as error:
            seen["refused"].append((old, str(error)))
            return
        if not is_insertion(old, new):
            seen["changed"].append((old, new))
        grown = [*(before.get("status_history") or []), entry]
        if loaded(new) != before | {"status_history": grown}:
            seen["misread"].append((old, new))

    compare()
    observe("examples", len(seen["tried"]))
    observe("refused", len(seen["refused"]))
    observe("changed_bytes", len(seen["changed"]))
    observe("misread", len(seen["misread"]))
    assert not seen["refused"] and not seen["changed"] and not seen["misread"], seen


def loaded(text: str | bytes) -> object:
    """What plain PyYAML reads; None where it cannot."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


@pytest.fixture
def unsynced(monkeypatch):
    """Spare the disk: what a process sees of another, or leaves when killed, needs no fsync."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@forks
@pytest.mark.falsifies("TOLLENS-HISTORY-002")
def test_many_processes_record_at_once_and_nothing_is_lost(observe, tmp_path, unsynced):
    small = SmallProject(tmp_path, NAMES).build()
    wrote = recorded_at_once(small)
    chain = list(chain_of(wrote))
    expected = list(replayed(chain))
    found = [
        (each["sha256"], each["from"], each["to"], each["verdicts"])
        for each in history_of(small.contract_path.read_bytes())
    ]
    on_disk = small.evidence_path.read_bytes()
    last = bool(chain) and chain[-1].sha256 == hashlib.sha256(on_disk).hexdigest()
    numbers = [[each.number for each in chain if each.process == p] for p in range(PROCESSES)]
    disorder = [each for each in numbers if each != sorted(each)]
    observe("recordings", len(wrote))
    observe("lost_recordings", PROCESSES * RECORDS - len(chain))
    observe("entries", len(found))
    observe("history_is_the_replay", found == expected)
    observe("evidence_verifies", last and is_sealed(on_disk))
    observe("processes_out_of_order", len(disorder))
    assert len(chain) == PROCESSES * RECORDS and found == expected and last and not disorder


def replayed(chain: list[Written]) -> Iterator[tuple]:
    """The (sha256, from, to, verdicts) of each history entry that the chain needs."""
    ledger = Ledger(dict.fromkeys(NAMES, "algorithm"))
    for each in chain:
        ledger.say(each.falsifier, "algorithm", each.verdict)
        yield from ((each.sha256, *entry[1:]) for entry in ledger.entry())


KILLS = 200


@forks
@pytest.mark.falsifies("TOLLENS-HISTORY-003")
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(observe, tmp_path, unsynced):
    small, generator = SmallProject(tmp_path).build(), random.Random(0)
    texts = {CONTRACT: small.contract_path.read_bytes()}
    duration = statistics.median(seconds_to_record(small, i) for i in range(2))
    torn: list[str] = []
    landed = 0
    for i in range(KILLS):
        if i % 10 == 0:
            small.contract_path.write_bytes(texts[CONTRACT])
            small.evidence_path.unlink(missing_ok=True)
        before = state(small)
        in_time = is_killed_while_recording(flip(small, i), small, generator.uniform(0, duration))
        duration *= 1.005 if in_time else 0.95
        landed += in_time
        torn += [f"kill {i}: {problem}" for problem in problems(before, state(small))]
        if torn:
            break
    healed = not torn and is_healed(small)
    observe("kills", i + 1)
    observe("share_before_the_end", landed / (i + 1))
    observe("torn_files", len(torn))
    observe("healed", healed)
    assert not torn and healed, torn


def is_healed(small: SmallProject) -> bool:
    """Whether the next record brings history and evidence together, whatever a kill left."""
    expected = "FALSIFIED"
    outcome = small.said("F-SMALL-001", Verdict.FALSIFIED, value=1e6)
    small.record(outcome)
    once = state(small)
    small.record(outcome)
    said = [each["verdict"] for each in json.loads(once[EVIDENCE])["predicate"]["results"]]
    agrees = said == [expected] and history_of(once[CONTRACT])[-1]["to"] == expected
    return agrees and is_sealed(once[EVIDENCE]) and state(small) == once


@forks
@pytest.mark.falsifies("TOLLENS-HISTORY-004")
def test_a_kill_between_any_two_steps_of_a_write_tears_nothing(observe, tmp_path, unsynced):
    small = SmallProject(tmp_path).build()
    small.record(small.said("F-SMALL-001"))
    begun = state(small)
    steps, torn, unhealed = 0, [], []
    while not torn:
        if steps % 10 == 0:  # or the history grows, and what is read with it
            small.contract_path.write_bytes(begun[CONTRACT])
            small.evidence_path.write_bytes(begun[EVIDENCE])
        before = state(small)
        finished = record_until_step(flip(small, steps + 1), small, steps)
        torn += [f"step {steps}: {each}" for each in problems(before, state(small))]
        unhealed += [] if torn or is_healed_after(small, steps + 1) else [steps]
        if finished:
            break
        steps += 1
    observe("steps", steps)
    observe("torn_files", len(torn))
    observe("unhealed", len(unhealed))
    assert not torn and not unhealed, torn or unhealed


def is_healed_after(small: SmallProject, i: int) -> bool:
    """Whether recording again what was being recorded brings history and evidence together."""
    try:
        history.record(small.project, flip(small, i))
    except TollensError:
        return False
    contract, evidence = state(small)
    [result] = json.loads(evidence)["predicate"]["results"]
    expected = {"CORROBORATED": "ACTIVE_ALGORITHM_LEVEL"}.get(result["verdict"], result["verdict"])
    return is_sealed(evidence) and history_of(contract)[-1]["to"] == expected


MOVES = [  # edits of the claims
    *[("{le: 1.0}", "{le: 2.0}"), ("{le: 1.0}", "{le: 0.5}"), ("{le: 1.0}", "{lt: 1.0}")],
    *[("{le: 1.0}", "{le: 1.0, unit: s}"), ("kills: [a-fault]", "kills: []")],
    *[("the part is right", "the part is nearly right"), ("level: algorithm", "level: runtime")],
    *[("[small.part]", "[small]"), ("A small contract", "A smaller contract")],
]
HARMLESS = [  # edits of the text alone
    *[("A small contract", "'A small contract' # a comment"), ("{le: 1.0}", "{le: 1, unit: ''}")],
    *[("level: algorithm", "freshness: null"), ("\n", "\n\n# first\n"), ("\n", "\r\n")],
]


@pytest.mark.falsifies("TOLLENS-HISTORY-005")
def test_other_claims_under_a_recorded_version_are_refused(observe, tmp_path):
    small = SmallProject(tmp_path).build(kills="a-fault")
    small.record(small.said("F-SMALL-001"), kills={("F-SMALL-001", "a-fault"): (Kill.KILLED, "")})
    before = state(small)
    discharged = history_of(before[CONTRACT])[-1]["verdicts"]
    accepted, written = [], []
    for edit in MOVES:
        refused, changed = try_to_record(small, before[CONTRACT], edit)
        accepted += [] if refused else [edit]
        written += [edit] if changed else []
    refused = [edit for edit in HARMLESS if try_to_record(small, before[CONTRACT], edit)[0]]
    observe("moves_accepted", len(accepted))
    observe("files_written", len(written))
    observe("harmless_edits_refused", len(refused))
    observe("first_discharged", discharged == {"F-SMALL-001": "DISCHARGED"})
    assert not accepted and not written and not refused, (accepted, written, refused)


def try_to_record(small: SmallProject, contract: bytes, edit: tuple[str, str]) -> tuple[bool, bool]:
    """Whether a run under the edited claims is refused, and whether it wrote anything."""
    assert edit[0].encode() in contract
    everywhere = -1 if edit[1] == "\r\n" else 1
    edited = contract.replace(edit[0].encode(), edit[1].encode(), everywhere)
    small.contract_path.write_bytes(edited)
    evidence = small.evidence_path.read_bytes()
    try:
        small.record(small.said("F-SMALL-001", Verdict.FALSIFIED))
        refused = False
    except RecordError:
        refused = True
    changed = state(small) != (edited, evidence)
    small.contract_path.write_bytes(contract)
    small.evidence_path.write_bytes(evidence)
    return refused, changed


@pytest.mark.falsifies("TOLLENS-HISTORY-006")
def test_under_a_new_version_the_old_evidence_counts_as_none(observe, tmp_path):
    small = SmallProject(tmp_path, NAMES[:2]).build(kills="a-fault")
    kills = {(name, "a-fault"): (Kill.KILLED, "") for name in small.names}
    small.record(*map(small.said, small.names), kills=kills)
    text = small.contract_path.read_bytes()
    text = text.replace(b"version: 1.0.0", b"version: 2.0.0", 1).replace(b"{le: 1.0}", b"{le: 3.0}")
    small.contract_path.write_bytes(text)
    with contextlib.suppress(RecordError):
        small.record(small.said(NAMES[0], Verdict.FALSIFIED))
    *_, last = history_of(small.contract_path.read_bytes())
    found = (last["version"], last["from"], last["to"], last["verdicts"])
    expected = {NAMES[0]: "FALSIFIED", NAMES[1]: "OPEN"}
    observe("new_version_recorded", found[0] == "2.0.0")
    observe("old_evidence_counts", last["verdicts"] != expected)
    assert found == ("2.0.0", "ACTIVE_ALGORITHM_LEVEL", "FALSIFIED", expected)


RUNS = 60
SAID = [Verdict.CORROBORATED] * 3 + [Verdict.FALSIFIED, Verdict.BLOCKED, Verdict.ERROR]
FATES = [Kill.KILLED, Kill.KILLED, Kill.SURVIVED]


@pytest.mark.falsifies("TOLLENS-HISTORY-007")
def test_an_entry_is_appended_exactly_where_something_moved(observe, tmp_path, unsynced):
    small = SmallProject(tmp_path, NAMES[:2]).build(kills="a-fault")
    ledger = Ledger(
        dict.fromkeys(small.names, "algorithm"), dict.fromkeys(small.names, ["a-fault"])
    )
    generator, wrong, dirtied = random.Random(1), [], []
    for i in range(RUNS):
        if i % 20 == 19:
            raise_version(small, ledger)
        outcomes, kills = drawn_run(small, generator)
        expected = expected_entry(ledger, outcomes, kills)
        known = len(history_of(state(small)[CONTRACT]))
        small.record(*outcomes, kills=kills)
        once = state(small)
        found = [summary_of(each) for each in history_of(once[CONTRACT])[known:]]
        wrong += [] if found == expected else [(i, found, expected)]
        small.record(*outcomes, kills=kills)
        dirtied += [] if state(small) == once else [i]
        if wrong or dirtied:
            break
    observe("runs", i + 1)
    observe("wrong_entries", len(wrong))
    observe("files_dirtied_by_a_second_run", len(dirtied))
    assert not wrong and not dirtied, (wrong, dirtied)


def drawn_run(small: SmallProject, generator: random.Random) -> tuple[list, dict]:
    """Outcomes of some falsifiers at some levels, and the fates of some saboteurs."""
    names = [name for name in small.names if generator.random() < 0.7]
    levels = [generator.choice(list(Level)) for _ in names]
    said = [small.said(n, generator.choice(SAID), at) for n, at in zip(names, levels, strict=True)]
    proven = [each.falsifier for each in said if each.verdict is Verdict.CORROBORATED]
    kills = {(name, "a-fault"): (generator.choice(FATES), "") for name in proven}
    return said, {key: fate for key, fate in kills.items() if generator.random() < 0.5}


def expected_entry(ledger: Ledger, outcomes: list, kills: dict) -> list[tuple]:
    """The (version, from, to, verdicts) to append after a run, by the tables; or nothing."""
    for each in sorted(outcomes, key=lambda each: each.verdict is Verdict.BLOCKED):
        ledger.say(each.falsifier, str(each.level), str(each.verdict))
    for (falsifier, saboteur), (fate, _) in kills.items():
        ledger.tell(falsifier, saboteur, str(fate))
    ledger.settle()
    return ledger.entry()


def raise_version(small: SmallProject, ledger: Ledger) -> None:
    major = int(ledger.version[0]) + 1
    old, ledger.version = ledger.version, f"{major}.0.0"
    text = small.contract_path.read_text()
    small.contract_path.write_text(text.replace(f"version: {old}", f"version: {major}.0.0", 1))


def summary_of(entry: dict) -> tuple:
    return entry["version"], entry["from"], entry["to"], entry["verdicts"]

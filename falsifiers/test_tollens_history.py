"""Tries to refute the recorder: bytes lost, records lost, files torn, a bar moved quietly.

Oracles: plain PyYAML and json, the text with the inserted slice taken out again, the chain of
`previous` digests, and the tables of `falsifiers.ledger`.
"""

import hashlib
import json
import multiprocessing
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from falsifiers.ledger import Ledger
from falsifiers.small_project import SmallProject
from falsifiers.yaml_styles import entries, texts
from tollens import history, splice
from tollens.errors import RecordError, TollensError
from tollens.evidence import Evidence
from tollens.history import Recordable
from tollens.verdicts import Kill, Level, Verdict

FORK = multiprocessing.get_context("fork")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
EXAMPLES = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.falsifies("TOLLENS-HISTORY-001")
def test_append_inserts_one_entry_and_keeps_every_other_byte(observe):
    seen: dict[str, list] = {"tried": [], "refused": [], "changed": [], "misread": []}

    @EXAMPLES
    @given(texts(), entries())
    def compare(old: str, entry: dict) -> None:
        before = yaml.safe_load(old)
        seen["tried"].append(old)
        try:
            new = splice.append(old, entry, "a contract")
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


def is_insertion(old: str, new: str) -> bool:
    """Whether `new` is `old` with one slice more."""
    grown = len(new) - len(old)
    at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    return grown > 0 and old[at:] == new[at + grown :]


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


PROCESSES, RECORDS = 32, 20
NAMES = tuple(f"F-SMALL-00{i}" for i in range(2))


@dataclass(frozen=True)
class Written:
    """One recording as its process saw it: the file that it wrote and the one that it replaced."""

    sha256: str
    previous: str | None
    falsifier: str
    verdict: str
    process: int
    number: int


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


def recorded_at_once(small: SmallProject) -> list[Written]:
    """What each process wrote; one that did not come to its end says nothing."""
    start = FORK.Barrier(PROCESSES, timeout=60)
    reports = [small.root / f"report-{process}" for process in range(PROCESSES)]
    children = [
        FORK.Process(target=record_many, args=(small, process, plan(small, process), start, report))
        for process, report in enumerate(reports)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    said = [json.loads(report.read_text()) for report in reports if report.exists()]
    return [Written(**each) for report in said for each in report]


def plan(small: SmallProject, process: int) -> list[Recordable]:
    """Twenty runs to record, each with a value of its own; one in twenty is FALSIFIED."""
    name, blank = NAMES[process % len(NAMES)], small.recordable([])
    verdicts = [
        Verdict.FALSIFIED if (7 * i + process) % 20 == 0 else Verdict.CORROBORATED
        for i in range(RECORDS)
    ]
    return [
        replace(blank, outcomes=[small.said(name, verdict, value=1000.0 * process + i)])
        for i, verdict in enumerate(verdicts)
    ]


def record_many(
    small: SmallProject, process: int, runs: list[Recordable], start: Barrier, report: Path
) -> None:
    wrote = []
    start.wait()
    for number, run in enumerate(runs):
        try:
            evidence = history.record(small.project, run, always=True).evidence
        except Exception:  # a record that is refused, or met a torn file, is a record lost
            continue
        sha256 = hashlib.sha256(bytes_of(evidence)).hexdigest()
        [said] = run.outcomes
        previous, verdict = evidence.predicate.previous, str(said.verdict)
        wrote.append(Written(sha256, previous, said.falsifier, verdict, process, number))
    report.write_text(json.dumps([asdict(each) for each in wrote]))


def bytes_of(evidence: Evidence) -> bytes:
    """The canonical bytes of an evidence file, by the json module alone."""
    document = evidence.model_dump(mode="json", by_alias=True)
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def chain_of(wrote: list[Written]) -> Iterator[Written]:
    """The recordings in the order in which each replaced the one before."""
    by_previous = {each.previous: each for each in wrote}
    each = by_previous.pop(None, None)
    while each is not None:
        yield each
        each = by_previous.pop(each.sha256, None)


def replayed(chain: list[Written]) -> Iterator[tuple]:
    """The (sha256, from, to, verdicts) of each history entry that the chain needs."""
    ledger = Ledger(dict.fromkeys(NAMES, "algorithm"))
    for each in chain:
        ledger.say(each.falsifier, "algorithm", each.verdict)
        yield from ((each.sha256, *entry[1:]) for entry in ledger.entry())


def history_of(contract: bytes) -> list[dict]:
    """The status history as plain PyYAML reads it."""
    data = yaml.load(contract, Loader=LOADER)
    return data.get("status_history") or []


def is_sealed(data: bytes) -> bool:
    """Whether an evidence file's digest is that of everything else in it, in canonical form."""
    try:
        document = json.loads(data)
        claimed = document["predicate"].pop("digest")
    except (ValueError, KeyError, TypeError):
        return False
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest() == claimed


KILLS = 200
CONTRACT, EVIDENCE = 0, 1


@forks
@pytest.mark.falsifies("TOLLENS-HISTORY-003")
def test_a_kill_at_any_moment_leaves_the_old_file_or_the_new_one(observe, tmp_path, unsynced):
    small, generator = SmallProject(tmp_path).build(), random.Random(0)
    texts = {CONTRACT: small.contract_path.read_bytes()}
    duration = statistics.median(seconds_to_record(small, i) for i in range(2))
    torn: list[str] = []
    landed = 0
    for i in range(KILLS):
        if i % 25 == 0:
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


def flip(small: SmallProject, i: int) -> Recordable:
    """A run whose verdict is not that of the one before, so that both files must change."""
    verdict = (Verdict.CORROBORATED, Verdict.FALSIFIED)[i % 2]
    return small.recordable([small.said("F-SMALL-001", verdict, value=float(i))])


def seconds_to_record(small: SmallProject, i: int) -> float:
    recordable = flip(small, i)
    pid, pipe = fork_recording(recordable, small)
    os.read(pipe, 1)
    started = time.perf_counter()
    os.waitpid(pid, 0)
    os.close(pipe)
    return time.perf_counter() - started


def is_killed_while_recording(recordable: Recordable, small: SmallProject, delay: float) -> bool:
    """Kill a recording process after `delay` seconds; whether it was not done by then."""
    pid, pipe = fork_recording(recordable, small)
    os.read(pipe, 1)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    done = os.read(pipe, 1)
    os.close(pipe)
    return done == b""


def fork_recording(recordable: Recordable, small: SmallProject) -> tuple[int, int]:
    """A process that writes a byte, records, and writes another byte."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(sender, b"s")
            history.record(small.project, recordable)
            os.write(sender, b"d")
        finally:
            os._exit(0)
    os.close(sender)
    return pid, receiver


def state(small: SmallProject) -> tuple[bytes, bytes]:
    evidence = small.evidence_path
    return small.contract_path.read_bytes(), evidence.read_bytes() if evidence.exists() else b""


def problems(before: tuple[bytes, bytes], after: tuple[bytes, bytes]) -> Iterator[str]:
    """What is neither the old file nor a whole new one."""
    if before[EVIDENCE] != after[EVIDENCE] and not is_sealed(after[EVIDENCE]):
        yield "the evidence does not verify"
    if before[CONTRACT] == after[CONTRACT]:
        return
    if not is_insertion(before[CONTRACT].decode(), after[CONTRACT].decode("utf-8", "replace")):
        yield "the contract is not the old one with one slice more"
    elif not is_extension(before[CONTRACT], after[CONTRACT]):
        yield "the history did not grow by one whole entry"


KEYS = {"date", "version", "from", "to", "evidence", "sha256", "claims", "commit", "dirty"}
KEYS |= {"summary", "verdicts"}


def is_extension(before: bytes, after: bytes) -> bool:
    """Whether the list grew by one entry that is whole to its last line, which is a verdict."""
    try:
        *old, last = history_of(after)
    except (yaml.YAMLError, ValueError, AttributeError):
        return False
    whole = isinstance(last, dict) and last.keys() == KEYS and isinstance(last["verdicts"], dict)
    return whole and bool(last["verdicts"]) and old == history_of(before) and after[-1:] == b"\n"


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
    steps, torn, unhealed = 0, [], []
    while not torn:
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


def record_until_step(recordable: Recordable, small: SmallProject, step: int) -> bool:
    """Record in a process that kills itself before the given line of the writing functions.

    Whether it came to the end.
    """
    pid = os.fork()
    if pid == 0:
        try:
            sys.settrace(kill_at(step))
            history.record(small.project, recordable)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def kill_at(step: int) -> Callable:
    """A trace function; lines are counted in `write_atomically` and in what calls it."""
    lines = iter(range(step + 1))

    def trace(frame, event, argument):
        if frame.f_code.co_name not in ("_record", "write_atomically"):
            return None if event == "call" else trace
        if event == "line" and next(lines) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


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
    try:
        small.record(small.said(NAMES[0], Verdict.FALSIFIED))
    except RecordError:
        pass
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

"""Processes that record: many at once, or one that is killed after a delay or before a given line.

Each tells what it wrote or how far it came; decides nothing about what must be left behind.
"""

import gc
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing.synchronize import Barrier
from pathlib import Path

from falsifiers.small_project import SmallProject
from tollens import history
from tollens.evidence import Evidence
from tollens.history import Recordable
from tollens.verdicts import Verdict

FORK = multiprocessing.get_context("fork")
PROCESSES, RECORDS = 32, 6
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
    """Runs to record, each with a value of its own; one in twenty is FALSIFIED."""
    name, blank = NAMES[process % len(NAMES)], silent_run(small)
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
    gc.freeze()  # a collection here would copy all that was inherited
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


def flip(small: SmallProject, i: int) -> Recordable:
    """A run whose verdict is not that of the one before, so that both files must change."""
    verdict = (Verdict.CORROBORATED, Verdict.FALSIFIED)[i % 2]
    return replace(silent_run(small), outcomes=[small.said("F-SMALL-001", verdict, value=float(i))])


@cache
def silent_run(small: SmallProject) -> Recordable:
    """A run of the project as it was built that says nothing yet."""
    return small.recordable([])


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
            gc.freeze()
            os.write(sender, b"s")
            history.record(small.project, recordable)
            os.write(sender, b"d")
        finally:
            os._exit(0)
    os.close(sender)
    return pid, receiver


def record_until_step(recordable: Recordable, small: SmallProject, step: int) -> bool:
    """Record in a process that kills itself before the given line of the writing functions.

    Whether it came to the end.
    """
    pid = os.fork()
    if pid == 0:
        try:
            gc.freeze()
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

"""The agentic bench: a student works on small tasks, turn by turn, and is judged by what it leaves.

Knows budgets, outcomes and scores; the protocol, the endpoint and the checks are other modules'.
What counts is what the checks say of the files that a student left when it said that it was done.
A student that a budget cuts off has not solved its task, whatever it left, and the rate is of all
tasks. A task that was not attempted to an end for another reason has no outcome, and without all
outcomes there is no rate.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine.agent.endpoint import TIME, Endpoint, Reply, Spent
from engine.agent.protocol import CUT, RULES, SILENT, Files, opening, parse, perform, readable
from engine.agent.task import Task
from engine.disk import replace_file
from engine.errors import EngineError, FormatError
from engine.evaluation.estimate import wilson
from engine.evaluation.ledger import require_same_run
from engine.evaluation.problems import parse as parse_json
from engine.evaluation.sandbox import Command, Left, Limits, Sandbox, Verdict

SILENCE = 3  # replies in a row without a block, after which nobody waits for one
MEMORY = 256 << 20  # bytes of each process that a student starts
PROCESSES = 64
SOLVED, WRONG, CUT_OFF = "solved", "wrong", "cut"


@dataclass(frozen=True)
class Budget:
    """What a student may use: of a turn, of a task, of the run."""

    turn_seconds: float = 120.0
    turn_tokens: int = 1024
    command_seconds: float = 10.0
    max_turns: int = 20
    wall_seconds: float = 3600.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise EngineError(f"{name}: found {value}, expected above 0")


@dataclass(frozen=True)
class Record:
    """What became of a task, and the whole conversation; `ended` is in seconds of the run."""

    task: str
    outcome: str
    reason: str
    turns: int
    tokens: int | None
    seconds: float
    ended: float
    messages: list[dict[str, str]] = field(default_factory=list)


class Records:
    """The records of a run, each in a file of its own, written when it is known.

    A folder with those of another run is refused, not mixed.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], tasks: Sequence[Task]) -> None:
        self.run, self.tasks, self._folder = dict(run), tasks, folder
        self.found: dict[str, Record] = {}
        try:
            (folder / "transcripts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
        for each in tasks:
            path = self._path(each.name)
            if path.exists():
                self.found[each.name] = self._read(path)

    @property
    def spent(self) -> float:
        """Seconds of the run until the last record."""
        return max((each.ended for each in self.found.values()), default=0.0)

    @property
    def missing(self) -> list[Task]:
        return [each for each in self.tasks if each.name not in self.found]

    def add(self, record: Record) -> None:
        write_json(self._path(record.task), {"run": self.run, **asdict(record)})
        self.found[record.task] = record

    def write_scores(self) -> dict[str, Any]:
        """`scores.json`, of what there is."""
        found = {**scores(self.tasks, self.found), "run": self.run}
        write_json(self._folder / "scores.json", found)
        return found

    def _path(self, name: str) -> Path:
        return self._folder / "transcripts" / f"{name}.json"

    def _read(self, path: Path) -> Record:
        try:
            found = parse_json(f"{path}", path.read_text("utf-8"))
            there = found.pop("run")
            record = Record(**found)
        except (OSError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise FormatError(f"{path}: found {error}, expected a transcript") from error
        require_same_run(f"{path}", self.run, there)
        return record


@dataclass(frozen=True)
class Bench:
    """Who is asked, with which fields of a request, by which budget, and in which sandbox."""

    endpoint: Endpoint
    fields: Mapping[str, object]
    budget: Budget
    sandbox: Sandbox
    clock: Callable[[], float] = time.monotonic

    def run(self, records: Records, workers: int) -> Generator[Record, None, None]:
        """Attempt what has no record, `workers` tasks at once; yields each record.

        Closed early, it stops those that run, and they have no record.
        """
        began = self.clock() - records.spent

        def work(task: Task) -> Record:
            record = self.attempt(task, began)
            records.add(record)
            return record

        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(work, each) for each in records.missing]
            try:
                for each in as_completed(futures):
                    yield each.result()
            finally:
                for each in futures:
                    each.cancel()
                if not all(each.done() for each in futures):
                    self.endpoint.stop()

    def attempt(self, task: Task, began: float) -> Record:
        """One task from its first message to its verdict."""
        here = self.clock()
        messages = opening(task)
        tokens: list[int | None] = []
        try:
            outcome, reason = self._converse(task, messages, tokens, began)
        except Spent as error:
            outcome, reason = CUT_OFF, f"{error}"
        known = [each for each in tokens if each is not None]
        now = self.clock()
        return Record(
            task.name,
            outcome,
            reason,
            turns=sum(each["role"] == "assistant" for each in messages),
            tokens=sum(known) if len(known) == len(tokens) else None,
            seconds=round(now - here, 3),
            ended=round(now - began, 3),
            messages=messages,
        )

    def _converse(
        self, task: Task, messages: list[dict[str, str]], tokens: list[int | None], began: float
    ) -> tuple[str, str]:
        """Outcome and reason; appends to `messages` and `tokens`."""
        files: Files = task.files
        silent = 0
        for _ in range(self.budget.max_turns):
            reply = self._reply(messages, began)
            messages.append({"role": "assistant", "content": reply.text})
            tokens.append(reply.tokens)
            if (reply.tokens or 0) > self.budget.turn_tokens:
                raise Spent("a turn's tokens")
            told = [CUT] if reply.cut else []
            actions = parse(reply.text)
            for action in actions:
                if action.kind == "done":
                    verdict = verify(task, files, self.sandbox)
                    return (SOLVED, "") if verdict.passed else (WRONG, verdict.reason)
                files, said = perform(action, files, self._carry_out)
                told.append(f"{action.kind} {action.path}".strip() + f":\n{said}")
            told += [] if actions else [SILENT]
            silent = 0 if actions else silent + 1
            if silent == SILENCE:
                raise Spent(f"{SILENCE} replies without a block")
            messages.append({"role": "user", "content": readable("\n\n".join(told))})
        raise Spent("turns")

    def _carry_out(self, command: Command) -> Left:
        limits = Limits(self.budget.command_seconds, MEMORY, processes=PROCESSES)
        return self.sandbox.run(command, limits)

    def _reply(self, messages: Sequence[Mapping[str, str]], began: float) -> Reply:
        left = self.budget.wall_seconds - (self.clock() - began)
        try:
            return ask(self.endpoint, messages, min(left, self.budget.turn_seconds), self.fields)
        except Spent as error:
            over = left < self.budget.turn_seconds and f"{error}" == TIME
            raise Spent("the run's seconds" if over else f"{error}") from error


def ask(
    endpoint: Endpoint,
    messages: Sequence[Mapping[str, str]],
    seconds: float,
    fields: Mapping[str, object],
) -> Reply:
    """What the student says next."""
    return endpoint.chat(messages, seconds, **fields)


def verify(task: Task, files: Files, sandbox: Sandbox) -> Verdict:
    """By every check of the task; the first that fails says why."""
    verdict = Verdict(False, "no check", 0.0)
    for check in task.checks:
        verdict = sandbox.judge(check.trial(files))
        if not verdict.passed:
            return verdict
    return verdict


def scores(tasks: Sequence[Task], found: Mapping[str, Record]) -> dict[str, Any]:
    """The rate of all tasks, with its 95 % interval; None until each has its record."""
    records = [found[each.name] for each in tasks if each.name in found]
    solved = sum(each.outcome == SOLVED for each in records)
    whole = len(records) == len(tasks)
    rate = solved / len(tasks) if whole else None
    outcomes = Counter(describe(each) for each in records)
    return {
        "complete": whole,
        "fixtures": len(tasks),
        "attempted": len(records),
        "solved": solved,
        "student_pass_rate": rate,
        "interval_95": None if rate is None else list(wilson(rate, len(tasks))),
        "outcomes": dict(outcomes.most_common()),
        "kinds": _kinds(tasks, found),
        "tasks": [_row(each) for each in records],
    }


def describe(record: Record) -> str:
    """An outcome in a few words: what was wrong with one task alone is left out."""
    return f"cut: {record.reason}" if record.outcome == CUT_OFF else record.outcome


def _kinds(tasks: Sequence[Task], found: Mapping[str, Record]) -> dict[str, dict[str, int]]:
    made: dict[str, dict[str, int]] = {}
    for each in tasks:
        counts = made.setdefault(each.kind, {"fixtures": 0, "solved": 0})
        counts["fixtures"] += 1
        record = found.get(each.name)
        counts["solved"] += record is not None and record.outcome == SOLVED
    return made


def _row(record: Record) -> dict[str, Any]:
    row = asdict(record)
    del row["messages"], row["ended"]
    return {**row, "transcript": f"transcripts/{record.task}.json"}


def digest(tasks: Sequence[Task]) -> str:
    """Of the tasks and the rules, so that a run goes on with the same ones only."""
    text = json.dumps([RULES, *(asdict(each) for each in tasks)], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    try:
        replace_file(path, f"{json.dumps(found, indent=1)}\n".encode())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> FormatError:
    return FormatError(f"{path}: found {error.strerror or error}, expected to write there")

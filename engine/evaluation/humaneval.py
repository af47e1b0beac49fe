"""HumanEval: completions are written one after the other and judged beside that; then the score.

Knows problems, samples and verdicts; knows nothing of how a completion is made or judged. A sample
that is not there counts neither way: there is no score until all are.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from engine.evaluation.estimate import Estimate, estimate
from engine.evaluation.ledger import Ledger, Row
from engine.evaluation.problems import Problem
from engine.evaluation.sandbox import Sandbox, Verdict

KS = (1, 10, 100)
Complete = Callable[[str, str, int], str]  # the problem's name, its prompt, the sample's number


@dataclass(frozen=True)
class Score:
    """What a run found. `estimates` are empty until every sample is judged."""

    problems: int
    samples: int
    judged: int
    passed: int
    estimates: tuple[Estimate, ...]
    reasons: dict[str, int]  # of what failed, by kind, the most frequent first

    @property
    def complete(self) -> bool:
        return self.judged == self.problems * self.samples

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        scores = {
            f"pass@{each.k}": {"value": each.value, "interval_95": [each.low, each.high]}
            for each in self.estimates
        }
        counts = {name: getattr(self, name) for name in ("problems", "samples", "judged", "passed")}
        return {**counts, "complete": self.complete, **scores, "failures": self.reasons}


def run(
    problems: Sequence[Problem],
    samples: int,
    complete: Complete,
    sandbox: Sandbox,
    ledger: Ledger,
    *,
    workers: int,
) -> Generator[int, None, None]:
    """Judge what the ledger lacks; yields how many are in it, in the order of the file.

    `workers` candidates run at once. Closed early, it records what was written before it ends.
    """
    waiting: deque[Callable[[], Row]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for problem, sample in _missing(problems, samples, ledger):
                text = complete(problem.task_id, problem.prompt, sample)
                verdict = pool.submit(sandbox.judge, problem.trial(text))
                waiting.append(_awaited(problem.task_id, sample, text, verdict))
                if len(waiting) > 2 * workers:
                    ledger.add(waiting.popleft()())
                    yield len(ledger.rows)
        finally:
            while waiting:
                ledger.add(waiting.popleft()())
    yield len(ledger.rows)


def _missing(
    problems: Sequence[Problem], samples: int, ledger: Ledger
) -> Iterator[tuple[Problem, int]]:
    for problem in problems:
        for sample in range(samples):
            if (problem.task_id, sample) not in ledger.rows:
                yield problem, sample


def _awaited(
    task_id: str, sample: int, completion: str, verdict: Future[Verdict]
) -> Callable[[], Row]:
    def row() -> Row:
        found = verdict.result()
        seconds = round(found.seconds, 4) if math.isfinite(found.seconds) else None
        return Row(task_id, sample, completion, found.passed, found.reason, seconds)

    return row


def score(problems: Sequence[Problem], samples: int, ledger: Ledger) -> Score:
    """Of the problems given; rows of no problem of theirs would be another run's."""
    rows = [
        row
        for problem in problems
        for sample in range(samples)
        if (row := ledger.rows.get((problem.task_id, sample))) is not None
    ]
    passed = Counter(row.task_id for row in rows if row.passed)
    whole = len(rows) == len(problems) * samples
    counts = [(samples, passed[problem.task_id]) for problem in problems]
    estimates = [estimate(counts, k) for k in KS if k <= samples] if whole else []
    reasons = Counter(kind(row.reason) for row in rows if not row.passed)
    return Score(
        len(problems),
        samples,
        len(rows),
        passed.total(),
        tuple(estimates),
        dict(reasons.most_common()),
    )


def kind(reason: str) -> str:
    """A reason without what it says of this candidate alone."""
    return reason.partition(":")[0]

"""The twenty tasks, four of each kind, kinds in turn."""

from collections.abc import Sequence

from engine.agent import creations, edits, executions, repairs, replacements
from engine.agent.task import Task
from engine.errors import EngineError

KINDS = (edits, repairs, creations, replacements, executions)
TASKS: tuple[Task, ...] = tuple(
    each for round_ in zip(*(kind.TASKS for kind in KINDS), strict=True) for each in round_
)


def choose(count: int) -> Sequence[Task]:
    """The first so many; the order has all kinds early."""
    if not 1 <= count <= len(TASKS):
        raise EngineError(f"--fixtures: found {count}, expected 1 to {len(TASKS)}")
    return TASKS[:count]

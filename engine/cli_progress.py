"""A progress bar for commands that take their time; knows terminals and nothing of the work."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


@contextmanager
def progress(
    what: str, total: int | None, *columns: ProgressColumn
) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; takes what is done and the whole."""
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*shown, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


class Rate(ProgressColumn):
    """How many a second, or a minute."""

    def render(self, task: Task) -> Text:
        if not task.speed:
            return Text("")
        slow = task.speed < 1
        return Text(f"{task.speed * 60:.1f}/min" if slow else f"{task.speed:.1f}/s")

"""Shows something again whenever files change, until Ctrl-C; knows not what is shown.

In a terminal each state is drawn over the one before, on a screen of its own and without clearing,
so that nothing flickers. Elsewhere each state is a new block of lines.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

SECONDS = 0.5  # between two looks at the files' times

Draw = Callable[[list[str]], None]
Times = dict[Path, tuple[int, int] | None]


@dataclass(frozen=True)
class View:
    """What is to be shown, the exit code that it stands for, and the files that it rests on."""

    lines: list[str]
    code: int
    paths: frozenset[Path]


Look = Callable[[frozenset[Path]], View]


def watch(look: Look, paths: Iterable[Path]) -> int:
    """Show what `look` sees, again when its files change; the exit code of the last view.

    `look` is told the files that the last view rested on, `paths` at first.
    """
    view = View([], 0, frozenset(paths))
    with _screen() if sys.stdout.isatty() else _blocks() as draw:
        try:
            for found in _views(look, view.paths):
                view = found
                draw(view.lines)
        except KeyboardInterrupt:
            pass
    if sys.stdout.isatty():
        typer.echo("\n".join(view.lines))
    return view.code


def _views(look: Look, paths: frozenset[Path]) -> Iterator[View]:
    """A view at once, and one after each change; what changes during a look is seen by the next."""
    seen: Times | None = None
    while True:
        now = _times(paths)
        if now != seen:
            view = look(paths)
            kept = {path: now[path] for path in view.paths & paths}
            seen = kept | _times(view.paths - paths)
            paths = view.paths
            yield view
        time.sleep(SECONDS)


def _times(paths: Iterable[Path]) -> Times:
    return {path: _time(path) for path in paths}


def _time(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


@contextmanager
def _screen() -> Iterator[Draw]:
    console = Console(highlight=False)
    with Live(console=console, screen=True, auto_refresh=False) as live:

        def draw(lines: list[str]) -> None:
            shown = "\n".join(fitted(lines, console.size.height))
            live.update(Text(shown, no_wrap=True, overflow="ellipsis"), refresh=True)

        yield draw


def fitted(lines: list[str], height: int) -> list[str]:
    """The lines that a screen holds; the last one says how many it does not."""
    if len(lines) <= height:
        return lines
    kept = lines[: height - 1]
    return [*kept, f"… and {len(lines) - len(kept):,} lines more"]


@contextmanager
def _blocks() -> Iterator[Draw]:
    drawn: list[list[str]] = []

    def draw(lines: list[str]) -> None:
        between = "\n" if drawn else ""
        drawn.append(lines)
        typer.echo(between + "\n".join(lines))
        sys.stdout.flush()

    yield draw

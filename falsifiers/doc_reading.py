"""A reader who follows a page: writes its files, types its commands, compares what is printed."""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from falsifiers.doc_pages import Command, Write, steps
from falsifiers.doc_shell import Shell, differs

Reasons = dict[str, str]  # a pattern of commands → why they are not run


@dataclass
class Reading:
    """How it went: commands that were run, commands that were not and why, and what was wrong."""

    folder: Path
    run: int = 0
    listed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)


def follow(page: str, folder: Path, not_run: Reasons, every_output: bool = False) -> Reading:
    """Follow a page from `folder`. A command must succeed, unless `echo $?` comes next.

    Where a page shows no output, none is compared, except with `every_output`.
    """
    shell, reading, todo = Shell(folder), Reading(folder), list(steps(page))
    for step, following in itertools.zip_longest(todo, todo[1:]):
        if isinstance(step, Write):
            if not why_not(step.path, not_run):
                _write(step, shell, reading)
        elif reason := why_not(step.text, not_run):
            reading.listed.append(f"{step.at}: {step.text}: {reason}")
        else:
            _type(step, asks_for_code(following), shell, reading, every_output)
    reading.folder = shell.folder
    return reading


def _write(step: Write, shell: Shell, reading: Reading) -> None:
    try:
        step.into(shell.folder)
    except (OSError, ValueError) as error:
        reading.failed.append(f"{step.at}: {error}")


def _type(step: Command, may_fail: bool, shell: Shell, reading: Reading, strict: bool) -> None:
    printed = shell.run(step.text)
    reading.run += 1
    if shell.code and not may_fail:
        reading.failed.append(f"{step.at}: {step.text}: exit {shell.code}: {printed}")
    if step.printed or strict:
        said = differs(step.printed, printed)
        reading.differing += [f"{step.at}: {step.text}: {said}"] if said else []


def asks_for_code(step: object) -> bool:
    return isinstance(step, Command) and step.text == "echo $?"


def why_not(command: str, reasons: Reasons) -> str:
    """Why a command is not run; empty if it is."""
    return next((why for pattern, why in reasons.items() if re.search(pattern, command)), "")


def unused(reasons: Reasons, commands: Iterable[str]) -> list[str]:
    """Patterns that no command matches."""
    texts = list(commands)
    return [pattern for pattern in reasons if not any(re.search(pattern, each) for each in texts)]

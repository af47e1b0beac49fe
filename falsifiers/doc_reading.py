"""A reader who follows a page: writes its files, types its commands, compares what is printed.

What the reader of a page has and this machine has not is made by `doc_stand_ins`.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from falsifiers import doc_stand_ins
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
    reader = Reader(Shell(folder), Reading(folder), not_run, every_output)
    todo = list(steps(page))
    try:
        for step, following in itertools.zip_longest(todo, todo[1:]):
            if isinstance(step, Write):
                reader.write(step)
            else:
                reader.type(step, asks_for_code(following))
    finally:
        reader.shell.close()
    reader.reading.folder = reader.shell.folder
    return reader.reading


@dataclass
class Reader:
    """Who follows; where a page speaks of this repository, in a copy of it."""

    shell: Shell
    reading: Reading
    not_run: Reasons
    every_output: bool
    ports: doc_stand_ins.Ports = field(default_factory=dict)

    def write(self, step: Write) -> None:
        if why_not(step.path, self.not_run):
            return
        text = doc_stand_ins.at_ports(step.text, self.ports)
        try:
            with self.where(step.path):
                replace(step, text=text).into(self.shell.folder)
        except (OSError, ValueError) as error:
            self.reading.failed.append(f"{step.at}: {error}")

    def type(self, step: Command, may_fail: bool) -> None:
        if reason := why_not(step.text, self.not_run):
            self.reading.listed.append(f"{step.at}: {step.text}: {reason}")
            return
        text, same = doc_stand_ins.typed(step.text, self.ports)
        with self.where(step.text):
            doc_stand_ins.lay_out(step.text, self.shell.folder)
            printed = self.shell.run(text)
        self.reading.run += 1
        if self.shell.code and not may_fail:
            self.reading.failed.append(f"{step.at}: {text}: exit {self.shell.code}: {printed}")
        if same and (step.printed or self.every_output):
            said = differs(step.printed, printed)
            self.reading.differing += [f"{step.at}: {text}: {said}"] if said else []

    @contextmanager
    def where(self, path_or_command: str) -> Iterator[None]:
        """In the copy of this repository for what is of it; else where the reader is."""
        here = self.shell.folder
        if doc_stand_ins.is_in_checkout(path_or_command):
            self.shell.folder = self.reading.folder.with_name("checkout")
            if not self.shell.folder.exists():
                doc_stand_ins.checkout(self.shell.folder)
        folder = self.shell.folder
        yield
        if self.shell.folder == folder:
            self.shell.folder = here


def asks_for_code(step: object) -> bool:
    return isinstance(step, Command) and step.text == "echo $?"


def why_not(command: str, reasons: Reasons) -> str:
    """Why a command is not run; empty if it is."""
    return next((why for pattern, why in reasons.items() if re.search(pattern, command)), "")


def unused(reasons: Reasons, commands: Iterable[str]) -> list[str]:
    """Patterns that no command matches."""
    texts = list(commands)
    return [pattern for pattern in reasons if not any(re.search(pattern, each) for each in texts)]

"""The documentation's pages as steps to take: files to write and commands to run.

A fenced block after a line that ends with a path in backticks and a colon is that file, or, in a
block of `diff`, a change of it, whose parts are separated by lines of `@@`. In a block of `console`
a line that starts with `$ ` is a command, up to where its quotes and backslashes end; what follows
is what it printed. Everything is read through `text_of`.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"( *)(`{3,})([^`]*)")
FILE = re.compile(r"`([\w./-]+\.\w+)`:$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, where it is, the line of text before it, and its lines."""

    language: str
    page: str
    line: int
    before: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.lines)


@dataclass(frozen=True)
class Write:
    """A file that the reader writes."""

    at: str
    path: str
    text: str

    def into(self, folder: Path) -> None:
        file = folder / self.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.text, "utf-8")


@dataclass(frozen=True)
class Change(Write):
    """A change that the reader makes to a file; ValueError where the file is another."""

    def into(self, folder: Path) -> None:
        file = folder / self.path
        text = file.read_text("utf-8")
        for part in re.split(r"^@@.*\n", self.text, flags=re.MULTILINE):
            old, new = (
                "".join(line[1:] for line in part.splitlines(True) if line[0] in kept)
                for kept in (" -", " +")
            )
            if text.count(old) != 1:
                raise ValueError(f"{self.at}: {self.path} has this {text.count(old)} times: {old}")
            text = text.replace(old, new)
        file.write_text(text, "utf-8")


@dataclass(frozen=True)
class Command:
    """A command that the reader types, and what the page says that it prints."""

    at: str
    text: str
    printed: tuple[str, ...]


def pages() -> list[str]:
    """Every page that is written by hand, by its path."""
    written = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ["README.md", *written]


def text_of(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    opened, before = None, ""
    for number, line in enumerate(text_of(page).splitlines(), 1):
        fence = FENCE.fullmatch(line)
        if opened is None and fence:
            opened, first, inside = fence, number, []
        elif opened and fence and not fence[3].strip() and len(fence[2]) >= len(opened[2]):
            yield Block(opened[3].strip(), page, first, before, tuple(inside))
            opened, before = None, ""
        elif opened:
            inside.append(line.removeprefix(opened[1]))
        elif line.strip():
            before = line.strip()


def steps(page: str) -> Iterator[Write | Command]:
    """What a page has its reader do, in order."""
    for block in blocks(page):
        if block.language == "console":
            yield from _commands(block)
        elif file := FILE.search(block.before):
            kind = Change if block.language == "diff" else Write
            yield kind(f"{page}:{block.line}", file[1], block.text)


def _commands(block: Block) -> Iterator[Command]:
    rest = list(enumerate(block.lines, block.line + 1))
    while rest:
        number, line = rest.pop(0)
        text = line.removeprefix("$ ")
        while rest and _goes_on(text):
            text += f"\n{rest.pop(0)[1]}"
        printed = []
        while rest and not rest[0][1].startswith("$ "):
            printed.append(rest.pop(0)[1])
        yield Command(f"{block.page}:{number}", text, tuple(printed))


def _goes_on(text: str) -> bool:
    """Whether the shell would wait for another line."""
    try:
        words(text)
    except ValueError:
        return True
    return text.endswith("\\")


def words(text: str) -> list[str]:
    """A command's words, without its comment; ValueError where a quote is open."""
    return shlex.split(text, comments=True)

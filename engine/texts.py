"""Finds the texts in a folder, and says what it left out and why.

Knows files and UTF-8; knows nothing of tokens. Links are not followed, hidden files and folders
are not entered, and of files with the same contents the first is taken: what is the same text may
not be learned from under one name and judged by under another.
"""

import hashlib
import os
import sysconfig
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from engine.errors import EngineError, FormatError

# The source of Python's own library, without its tests and without what others installed there.
STDLIB_FILES = ("*.py",)
NOT_STDLIB = ("site-packages", "dist-packages", "test", "tests", "idle_test")


@dataclass(frozen=True)
class Text:
    """A file that is text: its path below the folder, with slashes, and the digest of its bytes."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class Texts:
    """All texts of a folder in the order of their names; what was left out, counted by reason."""

    folder: Path
    files: tuple[Text, ...]
    left_out: Counter[str] = field(default_factory=Counter)

    def read(self, text: Text) -> str:
        """The text of one of `files`; `FormatError` if it is no longer what it was."""
        data = (self.folder / text.name).read_bytes()
        if hashlib.sha256(data).hexdigest() != text.digest:
            raise FormatError(
                f"{self.folder / text.name}: found other contents than a moment ago, "
                "expected a file that nobody writes to"
            )
        return data.decode()


def stdlib() -> Path:
    """Where the source of Python's standard library lies."""
    return Path(sysconfig.get_path("stdlib"))


def find_texts(folder: Path, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()) -> Texts:
    """The texts below `folder` whose names match one of `include`.

    `exclude` are patterns for the name of a file or of a folder on its way. Raises `EngineError`
    where there is no such folder, and where no text is in it.
    """
    if not folder.is_dir():
        raise EngineError(f"{folder}: found no folder, expected one with texts in it")
    files: dict[str, Text] = {}
    left_out: Counter[str] = Counter()
    for path in _walk(folder, exclude, left_out):
        name = path.relative_to(folder).as_posix()
        if not any(fnmatch(path.name, pattern) for pattern in include):
            left_out["not included"] += 1
            continue
        data, reason = _read(path)
        digest = hashlib.sha256(data).hexdigest()
        if reason or digest in files:
            left_out[reason or "copies"] += 1
        else:
            files[digest] = Text(name, len(data), digest)
    if not files:
        raise EngineError(f"{folder}: found no text ({told(left_out)}), expected some")
    return Texts(folder, tuple(sorted(files.values(), key=lambda text: text.name)), left_out)


def told(left_out: Counter[str]) -> str:
    """`3 binary, 1 empty`."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items())) or "nothing"


def _walk(folder: Path, exclude: Sequence[str], left_out: Counter[str]) -> list[Path]:
    """All files below `folder`, in order, but for those that are hidden, excluded or links."""
    found = []
    for place, folders, names in os.walk(folder):
        kept = []
        for name in sorted([*folders, *names]):
            reason = _refused(Path(place, name), exclude)
            if reason:
                left_out[reason] += 1
            else:
                kept.append(name)
        folders[:] = [name for name in folders if name in kept]
        found += [Path(place, name) for name in names if name in kept]
    return sorted(found)


def _refused(path: Path, exclude: Sequence[str]) -> str | None:
    if path.name.startswith("."):
        return "hidden"
    if any(fnmatch(path.name, pattern) for pattern in exclude):
        return "excluded"
    return "links" if path.is_symlink() else None


def _read(path: Path) -> tuple[bytes, str | None]:
    """The bytes of a file, and why it is no text if it is none."""
    if not path.is_file():
        return b"", "not files"  # to open a pipe would wait for ever
    try:
        data = path.read_bytes()
        data.decode()
    except OSError:
        return b"", "unreadable"
    except UnicodeDecodeError:
        return data, "not UTF-8"
    if b"\0" in data:
        return data, "binary"
    return data, None if data.strip() else "empty"

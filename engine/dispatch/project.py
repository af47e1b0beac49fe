"""What of this project a host needs: its files by digest, and its environment by what it is of.

Knows git and folders; knows nothing of hosts.
"""

import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError

PARTS = ("engine", "tollens", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")
OF_ENVIRONMENT = (
    "pyproject.toml",
    "constraints.txt",
    "engine/_kernels.c",
    "engine/_kernels_path.h",
)
EXTRAS = "engine,plot"


@dataclass(frozen=True)
class File:
    """A file by its path from the project."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Project:
    """The tracked files that a run needs, as they are now."""

    root: Path
    files: tuple[File, ...]
    commit: str
    dirty: bool

    @property
    def digest(self) -> str:
        """Of all files: the same contents are the same project."""
        return _digest((each.name, each.sha256) for each in self.files)

    def environment(self, python: str) -> str:
        """The name of one: of the files that it is made of, and the version of Python."""
        files = ((f.name, f.sha256) for f in self.files if f.name in OF_ENVIRONMENT)
        return f"{_digest(files):.16}-{python}"

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(each.size for each in self.files)

    def bytes_of(self, names: Iterable[str]) -> Iterator[bytes]:
        """The contents of some files, in turn."""
        for name in names:
            yield (self.root / name).read_bytes()


def read_project(root: Path) -> Project:
    """The project at `root`; `EngineError` where it is no checkout of git."""
    names = [name for name in _git(root, "ls-files", "-z", "--", *PARTS).split("\0") if name]
    if not names:
        raise EngineError(f"{root}: found none of the project's files, expected its checkout")
    files = tuple(_file(root, name) for name in sorted(names) if (root / name).is_file())
    dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no", "--", *PARTS))
    return Project(root, files, _git(root, "rev-parse", "HEAD").strip(), dirty)


def _file(root: Path, name: str) -> File:
    data = (root / name).read_bytes()
    return File(name, hashlib.sha256(data).hexdigest(), len(data))


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", root, *arguments], capture_output=True, text=True
        )
    except OSError as error:
        raise EngineError(f"git: found {error.strerror}, expected it to be installed") from error
    if done.returncode:
        raise EngineError(
            f"{root}: found {done.stderr.strip()}, expected a checkout of the project with a "
            "commit; or name one that is on the host by --remote-project"
        )
    return done.stdout


def _digest(found: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(json.dumps(list(found)).encode()).hexdigest()

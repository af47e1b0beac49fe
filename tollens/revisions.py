"""Files as earlier commits had them, read through few git processes; knows no contract.

Every path is relative to the root that is given, which may lie below the repository's own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tollens.digests import git
from tollens.errors import ProjectError

FILE, LINK = "100", "120"  # how git's modes of files and of symbolic links begin


def resolve(root: Path, name: str) -> str:
    """The commit that `name` means. Raises ProjectError where git knows none."""
    asked = f"{name}^{{commit}}"
    found = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", asked)
    if not found:
        raise ProjectError(f"{name}: no commit in git; expected a branch, a tag or a commit")
    return found


def fork(root: Path, name: str) -> str:
    """Where HEAD left `name`, as pull requests are compared; `name` itself if nothing is shared."""
    return git(root, "merge-base", resolve(root, name), "HEAD") or resolve(root, name)


def tree(root: Path, commit: str, folder: str = ".", mode: str = FILE) -> dict[str, str]:
    """Path → name of the content, of all files below `folder` in a commit."""
    rows = (git(root, "ls-tree", "-r", "-z", commit, "--", folder) or "").split("\0")
    files = (row.partition("\t") for row in rows if row.startswith(mode))
    return {path: about.split()[2] for about, _, path in files}


def past(root: Path, folder: str) -> dict[str, list[str]]:
    """Path → names of the contents that it had in git, the oldest first, each once."""
    log = git(root, "log", "--format=", "--raw", "--no-abbrev", "--no-renames", "--relative", "-z",
              "-m", "--", folder)  # fmt: skip
    found: dict[str, list[str]] = {}
    fields = iter((log or "").split("\0"))
    for about in fields:
        name = about.split()[3] if about.startswith(":") else ""
        if name.strip("0"):
            found.setdefault(next(fields), []).append(name)
    return {path: list(dict.fromkeys(reversed(names))) for path, names in found.items()}


def contents_by_path(root: Path, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of each file of a `tree`; what has the same content is read once."""
    paths: dict[str, list[str]] = {}
    for path, name in names.items():
        paths.setdefault(name, []).append(path)
    for name, data in contents(root, paths):
        yield from ((path, data) for path in paths[name])


def contents(root: Path, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of each content that git has, through one process, one at a time."""
    wanted = list(names)
    if not wanted:
        return
    with subprocess.Popen(
        ["git", "cat-file", "--batch"], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise ProjectError("git cat-file: no pipe to it")
        for name in wanted:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            said = process.stdout.readline().split()
            if len(said) == 3:
                yield name, process.stdout.read(int(said[2]) + 1)[:-1]
        process.stdin.close()

"""The project as git holds it at a revision, laid out in a temporary folder."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tollens.errors import ProjectError
from tollens.project import Project, read_project


@contextmanager
def project_at(project: Project, revision: str) -> Iterator[Project]:
    """The project at `revision`, until the block ends. Raises ProjectError where git has none."""
    name = f"{revision}^{{commit}}"
    commit = _git(project.root, "rev-parse", "--verify", "--end-of-options", name)
    if commit is None:
        raise ProjectError(f"{revision}: no revision that git knows; expected one, like main")
    archive = _git(project.root, "archive", "--format=tar", commit.decode().strip())
    with tempfile.TemporaryDirectory(prefix="tollens-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive or b"")) as tar:
            tar.extractall(folder, filter=_inside)
        yield read_project(Path(folder))


def prefix(root: Path) -> str:
    """The way from the repository's root to the project's: `sub/`, or nothing."""
    return (_git(root, "rev-parse", "--show-prefix") or b"").decode().strip()


def _inside(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    """Leave out what would lie, or point, outside the folder."""
    try:
        return tarfile.data_filter(member, folder)
    except tarfile.FilterError:
        return None


def _git(root: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None

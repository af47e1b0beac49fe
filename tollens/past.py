"""The project as git holds it at a revision, laid out in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tollens.digests import git
from tollens.project import Project, read_project
from tollens.revisions import LINK, contents_by_path, resolve, tree


@contextmanager
def project_at(project: Project, revision: str) -> Iterator[Project]:
    """The project at `revision`, until the block ends; an empty one where it was not there yet.

    Raises ProjectError where git knows no such revision.
    """
    commit = resolve(project.root, revision)
    with tempfile.TemporaryDirectory(prefix="tollens-") as name:
        folder = Path(name).resolve()
        for path, data in contents_by_path(project.root, tree(project.root, commit)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        for path, target in contents_by_path(project.root, tree(project.root, commit, mode=LINK)):
            _link(folder, folder / path, target.decode(errors="surrogateescape"))
        yield read_project(folder)


def _link(folder: Path, path: Path, target: str) -> None:
    """Link to what lies inside the folder; what would point outside is left out."""
    if (path.parent / target).resolve().is_relative_to(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def prefix(root: Path) -> str:
    """The way from the repository's root to the project's: `sub/`, or nothing."""
    return git(root, "rev-parse", "--show-prefix") or ""

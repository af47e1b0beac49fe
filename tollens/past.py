"""The project as git holds it at a revision, laid out in a temporary folder."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
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


def in_repository(root: Path) -> Callable[[str], str]:
    """From a path that is relative to the project's root to the one that CI shows.

    That is relative to the repository's root; what lies outside of it keeps its absolute path.
    """
    top = git(root, "rev-parse", "--show-toplevel") or str(root)

    def shown(path: str) -> str:
        whole = os.path.normpath(root / path)
        inside = Path(whole).is_relative_to(top)
        return Path(os.path.relpath(whole, top) if inside else whole).as_posix()

    return shown

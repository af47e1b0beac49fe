"""A folder that comes into being whole or not at all; knows nothing of what is in it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import EngineError


@contextmanager
def whole_folder(out: Path, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which takes the place of `out` when the body is done.

    After an error or an interrupt nothing is left of it, and what was at `out` is as it was. Only
    an end that nobody can catch leaves the unfinished folder beside it, under a name with a dot.
    """
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in paths_in(partial):
            _sync(partial / path)
        _sync(partial)
        _put_in_place(partial, out, overwrite)
    except OSError as error:
        where = error.filename or out
        raise EngineError(
            f"{where}: found {error.strerror or error}, expected to write there"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def paths_in(folder: Path) -> list[str]:
    """Every file, by its path from the folder, in order."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in files)


def _put_in_place(partial: Path, out: Path, overwrite: bool) -> None:
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    if overwrite and out.exists():
        os.rename(out, old)
    try:
        os.rename(partial, out)
    except OSError:
        if old.exists():
            os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _sync(out.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

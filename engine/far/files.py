"""Files that are whole or not there, and their digests; knows nothing of what is in them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import contextmanager
from typing import Iterator  # noqa: UP035  # Python 3.8

PIECE = 1 << 20  # bytes


def put(path: str, data: bytes) -> None:
    """Write by atomic rename; nothing is left of an attempt that failed."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error  # a full disk names no file
    finally:
        if os.path.exists(partial):
            os.remove(partial)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """One process at a time, by a file that stays; its end frees it."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read(path: str) -> str:
    """The text of a small file; empty where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def sha256(path: str) -> str:
    """Of the contents; empty where there is no file."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(PIECE), b""):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def tail(path: str, lines: int) -> str:
    """The last lines of a log, of its last 4 KiB."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])

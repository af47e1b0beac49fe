"""Room on a disk, and files that are whole or not there; knows nothing of what is in them."""

import os
import shutil
from pathlib import Path

from engine.errors import EngineError


def require_room(folder: Path, size: int) -> None:
    """Refuse what the disk cannot hold before an hour is spent on it."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise EngineError(f"{folder}: found {free} bytes free, expected room for {size}")


def replace_file(path: Path, data: bytes) -> None:
    """Write `path` by atomic rename; what a killed run left beside it is overwritten."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)

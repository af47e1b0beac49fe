"""Brings a run's evidence home: a folder that is there whole, with the digests checked, or not.

Knows files and digests; knows nothing of what they say.
"""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any

from engine.disk import require_room
from engine.dispatch.host import Host, Talk
from engine.errors import EngineError
from engine.whole_folder import whole_folder

PIECE = 1 << 20  # bytes


def fetch(host: Host, run: str, out: Path, overwrite: bool = False) -> list[str]:
    """Write the files of `run` to `out`; their names. `EngineError` where a byte is another."""
    with host.talk("fetch", run=run) as talk:
        files = next(talk.frames())["files"]
        with whole_folder(out, overwrite) as folder:
            require_room(folder, sum(size for _, size, _ in files))
            for name, size, digest in files:
                _receive(talk, folder / safe_name(name), size, digest)
        list(talk.frames())  # up to the answer
    return [name for name, _, _ in files]


def _receive(talk: Talk, path: Path, size: int, expected: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        while size:
            data = talk.read(min(size, PIECE))
            size -= len(data)
            digest.update(data)
            file.write(data)
    require_digest(f"{talk.host}: {path.name}", digest.hexdigest(), expected)


def require_digest(where: str, found: str, expected: str) -> None:
    """Refuse bytes that are not those of the host."""
    if found != expected:
        raise EngineError(
            f"{where}: found contents of sha256 {found:.12}, expected {expected:.12}; nothing was "
            "kept: watch the run again"
        )


def safe_name(name: Any) -> str:
    """A path that stays in the folder; a host may name anything."""
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise EngineError(f"{name}: found this for a file's name, expected one inside the run")
    return str(path)

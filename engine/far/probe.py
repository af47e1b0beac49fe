"""What a host has: Python, torch, room, devices, and the files that a run needs."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from typing import Any

from engine.far.job import has_begun, order_of, state_of

DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # what torch calls cuda


def probe(folder: str, run: str, paths: dict[str, str], commands: list[str]) -> dict[str, Any]:
    """Everything that can be seen before anything is sent; nothing is changed."""
    base, place = resolve("", folder), resolve(run, folder)
    near = base
    while not os.path.exists(near):
        near = os.path.dirname(near)
    return {
        "folder": base,
        "run": place,
        "python": platform.python_version(),
        "torch": importlib.util.find_spec("torch") is not None,
        "cuda": any(map(os.path.exists, DEVICES)),
        "free": shutil.disk_usage(near).free,
        "memory": memory(),
        "system": platform.system(),
        "writable": os.access(near, os.W_OK),
        "paths": {name: look(resolve(path, folder)) for name, path in paths.items()},
        "environments": ready(os.path.join(base, "environments")),
        "commands": [name for name in commands if shutil.which(name)],
        "job": state_of(place),
        "begun": has_begun(place),
        "order": order_of(place),
    }


def resolve(path: str, folder: str) -> str:
    """An absolute path; a relative one begins at `folder`, and that one at home."""
    home = os.path.expanduser("~")
    return os.path.normpath(
        os.path.join(home, os.path.expanduser(folder), os.path.expanduser(path))
    )


def ready(folder: str) -> list[str]:
    """The environments that were made there to the end."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [each for each in names if os.path.exists(os.path.join(folder, each, ".ready"))]


def look(path: str) -> dict[str, str]:
    """What is at a path."""
    kind = "folder" if os.path.isdir(path) else "file" if os.path.exists(path) else "nothing"
    return {"path": path, "kind": kind}


def memory() -> int | None:
    """Bytes that are free for a process; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None

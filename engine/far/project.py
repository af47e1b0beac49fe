"""The project's files and its environment on the host: only what is not there is sent and made.

Each version of the project has a folder of its own, so that a run is never changed under its feet.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shlex
import subprocess
from typing import Any

from engine.far.files import locked, put, sha256, tail
from engine.far.frames import Refused, hear, say


def keep(project: str, files: list[list[Any]]) -> list[str]:
    """Take what other versions of the project have; the names of what is still missing."""
    parent = os.path.dirname(project)
    others = (
        [os.path.join(parent, each) for each in sorted(os.listdir(parent))]
        if os.path.isdir(parent)
        else []
    )
    missing = []
    for name, digest, _ in files:
        if sha256(os.path.join(project, name)) == digest:
            continue
        same = [each for each in others if sha256(os.path.join(each, name)) == digest]
        if same:
            with open(os.path.join(same[0], name), "rb") as file:
                put(os.path.join(project, name), file.read())
        else:
            missing.append(name)
    return missing


def receive(project: str, files: list[list[Any]], missing: list[str]) -> list[str]:
    """Write those that were missing, whose bytes follow the question; what still is."""
    for name, digest, size in files:
        if name not in missing:
            continue
        data = hear(size)
        if hashlib.sha256(data).hexdigest() != digest:
            raise Refused(f"{project}/{name}: found other bytes than were sent; dispatch it again")
        put(os.path.join(project, name), data)
    return keep(project, files)


def environment(place: str, steps: list[list[str]], project: str) -> bool:
    """Make a virtual environment by `steps`, once; whether it was made now.

    The kernels that it compiled go to the project's folder, from which the run is started.
    """
    with locked(f"{place}.lock"):
        ready = os.path.join(place, ".ready")
        made = not os.path.exists(ready)
        for step in steps if made else ():
            say(said=shlex.join(step))
            _do(step, f"{place}.log")
        if made:
            put(ready, b"")
        pattern = os.path.join(place, "lib/python3*/site-packages/engine/_kernels*.so")
        for kernels in glob.glob(pattern):
            own = os.path.join(project, "engine", os.path.basename(kernels))
            if sha256(own) != sha256(kernels):
                with open(kernels, "rb") as file:
                    put(own, file.read())  # a rename: a run that has the old ones keeps them
    return made


def _do(step: list[str], log: str) -> None:
    with open(log, "wb") as file:
        code = subprocess.call(step, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    if code:
        raise Refused(f"{shlex.join(step)}: found exit code {code}: {tail(log, 2)}; see {log}")


def check(command: list[str], cwd: str) -> dict[str, Any]:
    """Run a command to its end."""
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True)
    out, err = (each.decode("utf-8", "replace") for each in (done.stdout, done.stderr))
    return {"code": done.returncode, "out": out, "err": err}

"""A run's metrics as they come, and its evidence when it is over."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import Any

from engine.far.files import PIECE, read, sha256, tail
from engine.far.frames import Refused, say
from engine.far.job import has_begun, order_of, state_of

POLL, BEAT = 0.1, 2.0  # seconds between looks, and between signs of life
EVIDENCE = ("metrics.jsonl", "dispatch.json", "curves.png", "job", "best")
LEFT_OUT = "training"  # of a checkpoint: what training goes on from


def follow(run: str, offset: int, digest: str) -> dict[str, Any]:
    """Say the whole lines from `offset` on until the job is over; answers how it stands.

    Where the first `offset` bytes are no longer those of `digest`, as after a run went on from a
    checkpoint, it begins at 0 again.
    """
    run = os.path.expanduser(run)
    if not any(os.path.exists(os.path.join(run, name)) for name in ("dispatch.json", "job")):
        raise Refused(f"{run}: found no dispatch.json and no job in it, expected a run")
    path, looked = os.path.join(run, "metrics.jsonl"), -BEAT
    if _digest(path, offset) != digest:
        offset = 0
    place, doubted = _place(path), False
    state: dict[str, Any] = {}
    while True:
        if time.monotonic() - looked >= BEAT or os.path.exists(os.path.join(run, "job", "exit")):
            looked, state = time.monotonic(), _state(run)
            say(state=state, steps=_steps(run))
        if _place(path) != place:
            offset, place = 0, _place(path)
        data = _lines(path, offset)
        if data:
            say(at=offset, data=data.decode())
            offset += len(data)
        elif state["state"] == "died" and not doubted:
            doubted, looked = True, -BEAT  # how it ended may be on its way over a shared disk
            time.sleep(BEAT)
        elif state["state"] in ("ended", "died"):
            sent = (order_of(run) or {}).get("dispatched", {})
            how = {"begun": has_begun(run), "again": sent.get("again", [])}
            return {**state, **how, "log": tail(os.path.join(run, "job", "log"), 8)}
        else:
            time.sleep(POLL)


def _state(run: str) -> dict[str, Any]:
    """How the job stands; a run without a job is over when its last step is saved."""
    state = state_of(run)
    saved = json.loads(read(os.path.join(run, "last", "training", "progress.json")) or "{}")
    if state["state"] == "none" and saved.get("step") == _steps(run) is not None:
        return {"state": "ended", "code": 0}
    return state


def _steps(run: str) -> int | None:
    """How many are to be done, as far as that is written."""
    orders = (os.path.join(run, name, "dispatch.json") for name in ("", "job"))
    texts = [text for text in map(read, orders) if text]
    return json.loads(texts[0])["plan"]["recipe"]["steps"] if texts else None


def _digest(path: str, size: int) -> str:
    digest = hashlib.sha256()
    if size:
        with open(path, "rb") as file:
            digest.update(file.read(size))
    return digest.hexdigest()


def _place(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _lines(path: str, offset: int) -> bytes:
    """What is there from `offset` on, up to the end of its last whole line."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            data = file.read(PIECE)
    except OSError:
        return b""
    return data[: data.rfind(b"\n") + 1]


def fetch(run: str) -> None:
    """Say names, sizes and digests of the evidence, then its bytes."""
    run = os.path.expanduser(run)
    names = [name for each in EVIDENCE for name in _files(run, each)]
    paths = [os.path.join(run, name) for name in names]
    files = [
        [name, os.path.getsize(path), sha256(path)]
        for name, path in zip(names, paths)  # noqa: B905  # no such keyword before Python 3.10
    ]
    say(files=files)
    for path in paths:
        with open(path, "rb") as file:
            for piece in iter(lambda: file.read(PIECE), b""):
                sys.stdout.buffer.write(piece)


def _files(run: str, name: str) -> list[str]:
    """The file of that name, or those below the folder of it, by their paths from the run."""
    top = os.path.join(run, name)
    if os.path.isfile(top):
        return [name]
    found = []
    for folder, inner, files in os.walk(top):
        inner[:] = sorted(set(inner) - {LEFT_OUT})
        found += [os.path.relpath(os.path.join(folder, each), run) for each in sorted(files)]
    return found

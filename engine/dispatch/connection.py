"""One connection to a host, made once and used again, or the user's own where there is one.

Knows ssh's ControlMaster; knows nothing of what is asked over it.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from engine.dispatch.host import Host
from engine.errors import EngineError

LIVES = ("ServerAliveInterval=5", "ServerAliveCountMax=3", "ConnectTimeout=15", "BatchMode=yes")


@contextmanager
def connected(host: Host) -> Iterator[Host]:
    """The host, over one connection that is kept while the body runs."""
    if host.name.startswith("-") or host.name != host.name.strip():
        raise EngineError(
            f"HOST: found {host.name!r}, expected a name that ssh knows, before options"
        )
    own = _configured(host) if host.name else {}
    if not host.name or own.get("controlpath", "none") != "none":
        yield replace(host, options=(*host.options, *_options(LIVES[-1:])))
        return
    folder = tempfile.mkdtemp(prefix="ssh-")
    kept = ("ControlMaster=auto", f"ControlPath={folder}/%C", "ControlPersist=60", *LIVES)
    ours = replace(host, options=(*host.options, *_options(kept)))
    try:
        yield ours
    finally:
        _close(ours, folder)


def _close(host: Host, folder: str) -> None:
    """End the connection that is kept in that folder, if one was made."""
    if os.listdir(folder):
        leave = ["ssh", *host.options, "-O", "exit", host.name]
        subprocess.run(leave, stdin=subprocess.DEVNULL, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _options(settings: Iterable[str]) -> list[str]:
    return [part for each in settings for part in ("-o", each)]


def _configured(host: Host) -> dict[str, str]:
    """What ssh would do by the user's own configuration; it connects to nothing."""
    try:
        done = subprocess.run(
            ["ssh", *host.options, "-G", host.name], capture_output=True, text=True
        )
    except OSError as error:
        raise EngineError(f"ssh: found {error.strerror}, expected OpenSSH's client") from error
    if done.returncode:
        raise EngineError(f"ssh: found {done.stderr.strip()}, expected options that it knows")
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    return {name: value for name, _, value in lines}

"""A command in a folder of files: they are put there, it runs, and what it left is read.

Knows files, a shell and a clock; knows nothing of walls. It works in the confined process, which is
the first of its namespace: no other in there can stop it or look into it, and all others are ended
before the folder is read. Loaded in the sandbox, so it imports the standard library only.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Any, BinaryIO

WORK, PROGRAMS = "work", "bin"  # below the one place to write
SHELL = "/bin/sh"
LARGEST = 1 << 20  # bytes that a command may leave in its folder
OUTPUT = 64 << 10  # bytes of its output that are read
SHOWN = 20  # names of what was left out


def carry_out(asked: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What the command says and leaves; its exit code, or None where its time was over."""
    _put(asked["files"])
    with TemporaryFile(dir=".", buffering=0) as output:
        code = _run(asked["command"], output, seconds)
        output.seek(0)
        said = output.read(OUTPUT).decode("utf-8", "replace")
    left_out: list[str] = []
    files = _read(left_out)
    if files is None:
        said += f"\n(the folder holds more than {LARGEST} bytes)"
    return {"output": said, "code": code, "files": files, "left_out": sorted(left_out)[:SHOWN]}


def _put(files: Mapping[str, str]) -> None:
    os.mkdir(PROGRAMS)
    for name in ("python", "python3"):
        os.symlink(sys.executable, os.path.join(PROGRAMS, name))
    os.mkdir(WORK)
    for name, text in files.items():
        path = os.path.join(WORK, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        if text.startswith("#!"):
            os.chmod(path, 0o755)


def _run(line: str, output: BinaryIO, seconds: float) -> int | None:
    home = os.path.abspath(WORK)
    variables = {
        "PATH": f"{os.path.abspath(PROGRAMS)}:/usr/local/bin:/usr/bin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    process = subprocess.Popen(
        [SHELL, "-c", line],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=home,
        env=variables,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end_all(process)


def _end_all(process: "subprocess.Popen[bytes]") -> None:
    """Every process of the namespace but this one, whatever became of its parent."""
    if os.getpid() != 1:
        process.kill()  # without a namespace, all others would be the machine's
        return
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _read(left_out: list[str]) -> dict[str, str] | None:
    """The regular files, by their paths, or None for too much; no UTF-8 comes as surrogates."""
    found: dict[str, str] = {}
    waiting, room = [""], LARGEST
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(WORK, folder)))
        except OSError:
            left_out.append(f"{folder}/")
            continue
        for entry in entries:
            name = os.path.join(folder, entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
                continue
            content = _content(entry, room) if is_regular(entry) else None
            if content is None:
                left_out.append(name)
                continue
            room -= len(content)
            if room < 0:
                return None
            found[name] = content.decode("utf-8", "surrogateescape")
    return found


def is_regular(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a file itself and not a link to one."""
    return entry.is_file(follow_symlinks=False)


def _content(entry: "os.DirEntry[str]", room: int) -> bytes | None:
    """At most one byte more than there is room for; None where it cannot be read."""
    try:
        with open(entry.path, "rb") as file:
            return file.read(room + 1)
    except OSError:
        return None

"""A shell for the documentation's commands, in a folder of their own.

The harness, the engine and pytest run in a forked child of this process, so that planted faults
reach them and nothing is imported twice; anything else runs in bash. `cd` and `echo $?` are the
shell's own. What ends in `&` goes on until the shell is closed, as a server does.
"""

import importlib
import importlib.metadata
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from falsifiers.doc_pages import ROOT, words

SHELL = re.compile(r"[|&;<>*]|\$[A-Za-z({]")
QUOTED = re.compile(r"'[^']*'")
ASSIGNED = re.compile(r"[A-Z][A-Z0-9_]*=")
PATIENCE = 120  # seconds; a command that waits for something is none to follow
HEAVY = ("torch._dynamo", "matplotlib.figure")  # seconds, in each child that trains
SCRIPTS = ("tollens", "pytest", "mkdocs")
VARIES = (
    (re.compile(r"\b\d+\.\d+ ?s\b( \(\d+:\d+:\d+\))?"), "0 s"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?"), "DATE"),
    (re.compile(r"\b(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7,64}\b"), "DIGEST"),
    (re.compile(r"\b\d+\.\d+e-\d+"), "TINY"),
    (re.compile(r"-\d\.\d{4}\b"), "LOGPROB"),  # of random weights: each route has its own
    (re.compile(r"={3,}"), "=="),
    (re.compile(r"-{3,}"), "--"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Printed:
    """What a command left on its two streams."""

    out: str = ""
    err: str = ""


@dataclass
class Shell:
    """Runs commands one after another; knows its folder and the last exit code."""

    folder: Path
    code: int = 0
    environment: dict[str, str] = field(default_factory=lambda: clean(os.environ))
    background: list[int] = field(default_factory=list)

    def run(self, text: str) -> "Printed":
        """What a command prints; sets `code`."""
        parts = words(text.replace("\\\n", " "))
        if parts == ["echo", "$?"]:
            code, self.code = self.code, 0
            return Printed(f"{code}\n")
        if parts[0] == "cd":
            self.folder, self.code = (self.folder / parts[1]).resolve(), 0
            return Printed()
        waits = parts[-1] != "&"
        parts = parts if waits else parts[:-1]
        given = list(itertools.takewhile(ASSIGNED.match, parts))
        main = None if waits and SHELL.search(QUOTED.sub("", text)) else entry(parts[len(given) :])
        if main is None and not waits:
            self.code, printed = 126, Printed(err="in the background: expected a command of ours")
        elif main is None:
            self.code, printed = self._spawn(["bash", "-c", f"set -o pipefail; {text}"])
        else:
            more = dict(each.split("=", 1) for each in given)
            self.code, printed = self._fork(*main, {**self.environment, **more}, waits)
        return printed

    def close(self) -> None:
        """End what runs in the background."""
        while self.background:
            child = self.background.pop()
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)

    def _spawn(self, command: list[str]) -> "tuple[int, Printed]":
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return 124, Printed(err=f"not done after {PATIENCE} s")
        return done.returncode, Printed(_text(done.stdout), _text(done.stderr))

    def _fork(
        self,
        main: Callable[[], object],
        arguments: list[str],
        environment: dict[str, str],
        waits: bool,
    ) -> "tuple[int, Printed]":
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                self._become(out.fileno(), err.fileno(), main, arguments, environment)
            code = self._ended(child) if waits else self._settled(child, out.fileno())
            printed = Printed(_text(_whole(out)), _text(_whole(err)))
        return code, printed

    def _ended(self, child: int) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _settled(self, child: int, out: int) -> int:
        """Wait until it has printed a line, or has ended; it goes on in the background."""
        while os.fstat(out).st_size == 0:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        self.background.append(child)
        return 0

    def _become(
        self,
        out: int,
        err: int,
        main: Callable[[], object],
        arguments: list[str],
        environment: dict[str, str],
    ) -> None:
        """In the child: be the command, and never come back."""
        code = 70
        try:
            signal.alarm(PATIENCE)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            sys.stdin, sys.stdout, sys.stderr = (
                open(number, mode, encoding="utf-8", closefd=False, buffering=1)
                for number, mode in ((0, "r"), (1, "w"), (2, "w"))
            )
            os.chdir(self.folder)
            os.environ.clear()
            os.environ.update(environment)
            warnings.resetwarnings()
            if torch := sys.modules.get("torch"):
                torch.set_num_threads(1)  # of several none came along into this process
            sys.argv, sys.modules["__main__"] = arguments, ModuleType("__main__")
            code = _code(main)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _whole(file: IO[bytes]) -> bytes:
    """What a child wrote, whose place in the file is ours too."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _text(printed: bytes) -> str:
    return printed.decode("utf-8", "replace")


def _code(main: Callable[[], object]) -> int:
    try:
        ended = main()
    except SystemExit as stop:
        ended = stop.code
        if isinstance(ended, str):
            print(ended, file=sys.stderr)
            return 1
    return int(ended or 0)  # type: ignore[call-overload]


def entry(parts: list[str]) -> tuple[Callable[[], object], list[str]] | None:
    """The function that a command calls, with its argv; None for a foreign command."""
    name, rest = Path(parts[0]).name, parts[1:]
    if name == "python" and rest[:1] == ["-m"]:
        name, rest = rest[1], rest[2:]
        if name == "engine":
            modules = [importlib.import_module(each) for each in ("engine.cli", *HEAVY)]
            return modules[0].main, ["python -m engine", *rest]
    if name not in SCRIPTS:
        return None
    return script(name), [name, *rest]


def script(name: str) -> Any:
    """The function of an installed console script."""
    [found] = importlib.metadata.entry_points(group="console_scripts", name=name)
    return found.load()


def clean(environment: "os._Environ[str]") -> dict[str, str]:
    """The environment of a reader with an 80-column terminal, who is in no CI and no test."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PYTEST_", "GIT_", "QWEN", "HUMANEVAL", "DISTILL_"))
        and name not in ("CI", "COLUMNS", "LINES")
    }
    who = {f"GIT_{role}_{what}": "reader" for role in ("AUTHOR", "COMMITTER") for what in IDENTITY}
    bare = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    own = {"COLUMNS": "80", "NO_COLOR": "1", "PATH": path, "PYTHONPATH": str(ROOT)}
    own |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    own |= {"PYTEST_ADDOPTS": "-W 'ignore:Module already imported'"}  # as this process has
    return {**kept, **who, **bare, **own}


IDENTITY = ("NAME", "EMAIL")


def differs(page: tuple[str, ...], printed: Printed) -> str:
    """How what was printed differs from the page; empty where it does not.

    The page shows the output alone, or the messages before it. A line `…` stands for any lines, and
    `…` in a line for any text. Seconds, dates, digests, the digits of tiny numbers and the width of
    rules and columns are not compared.
    """
    expected = [same(line) for line in page]
    pattern = "".join(r"(?:.*\n)*?" if line == "…" else f"{_line(line)}\n" for line in expected)
    both = [[same(line) for line in text.splitlines()] for text in (printed.out, _all(printed))]
    if any(re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) for lines in both):
        return ""
    found = both[1]
    lost = [line for line in expected if not any(re.fullmatch(_line(line), each) for each in found)]
    return f"not printed: {lost or expected}; printed: {found}"


def _all(printed: Printed) -> str:
    return printed.err + printed.out


def _line(line: str) -> str:
    return re.escape(line).replace("…", ".*")


def same(line: str) -> str:
    """A line without what is different in every run."""
    for pattern, instead in VARIES:
        line = pattern.sub(instead, line)
    return line.strip()

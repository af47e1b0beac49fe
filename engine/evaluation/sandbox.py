"""A sandbox for programs that nobody has read, and what it takes to trust it.

Knows policy: which limits and which walls; `engine.evaluation.judge` and `confine` carry it out in
other processes. It needs Linux. Where the kernel lets this user make namespaces, a candidate sees
no file but the system's libraries, no network and no other process. Where it does not, the filter
of system calls still holds off network, programs, signals and new processes, but files are as
open to it as to this user: that is refused unless it is asked for. Commands, which start programs,
run behind all walls only.
"""

import math
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from engine.errors import EngineError
from engine.evaluation import values
from engine.evaluation.confine import FLAGS, STEPS

WALLS = ("namespaces", "root")  # what only a kernel that lets this user make namespaces gives
WHOLE = tuple(STEPS)
WEAK = tuple(each for each in WHOLE if each not in WALLS)
# The package is entered without its __init__, which imports torch.
START = (
    "import sys, types; package = sys.modules['engine'] = types.ModuleType('engine'); "
    "package.__path__ = [sys.argv[1]]; from engine.evaluation.judge import main; main()"
)


@dataclass(frozen=True)
class Limits:
    """What a candidate may use: seconds of time and of processor, bytes, numbers."""

    seconds: float = 3.0
    memory: int = 1 << 30  # of address space
    file_bytes: int = 1 << 20  # of each file
    folder_bytes: int = 16 << 20
    processes: int = 16  # threads included
    files: int = 64  # open at once

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise EngineError(f"{name}: found {value}, expected above 0")


@dataclass(frozen=True)
class Trial:
    """A candidate's text, and the check that calls its `entry_point`.

    `prompt` are the definitions that the check may use besides.
    """

    program: str
    entry_point: str
    prompt: str
    test: str


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate passed; if not, why."""

    passed: bool
    reason: str
    seconds: float


@dataclass(frozen=True)
class Command:
    """A line for the shell, and the files of the folder that it runs in."""

    line: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Left:
    """What a command left, by the word of the process that ran it.

    `files` are None where they cannot be taken: the folder is then to stay as it was.
    """

    output: str
    code: int | None = None  # None where it did not end in time
    files: Mapping[str, str] | None = None
    left_out: tuple[str, ...] = ()


class Sandbox:
    """Judges candidates, several at once if several threads ask; to be closed.

    `steps` are the walls that are put up: `WHOLE`, or `WEAK` where there are no namespaces.
    """

    def __init__(self, limits: Limits | None = None, steps: tuple[str, ...] = WHOLE) -> None:
        if sys.platform != "linux":
            raise EngineError(f"sandbox: found {sys.platform}, expected Linux")
        self.limits, self.steps = limits or Limits(), steps
        self._folder = TemporaryDirectory(prefix="candidates-")
        os.chmod(self._folder.name, 0o711)
        self._control, theirs = socket.socketpair()
        self._turn = Lock()
        with theirs:
            self._process = _start(theirs.fileno(), self._folder.name)

    @classmethod
    def open(cls, limits: Limits | None = None, *, weak: bool = False) -> "Sandbox":
        """One that was tried; `EngineError` says which wall is missing.

        `weak` allows that files are not held off, where the kernel gives no namespaces.
        """
        sandbox = cls(limits)
        trouble = sandbox.trouble()
        if trouble is None:
            return sandbox
        sandbox.close()
        if not weak:
            raise EngineError(
                f"sandbox: found that the kernel refuses {trouble}; expected namespaces, without "
                "which a candidate reads and writes files as this user does; run as root or allow "
                "user namespaces, or accept it with --weak-sandbox"
            )
        sandbox = cls(limits, WEAK)
        trouble = sandbox.trouble()
        if trouble is not None:
            sandbox.close()
            raise EngineError(f"sandbox: found that the kernel refuses {trouble}, expected it")
        return sandbox

    @classmethod
    def for_commands(cls, limits: Limits) -> "Sandbox":
        """One in which a command was tried; `EngineError` says what the kernel refuses."""
        sandbox = cls(limits)
        try:
            said = sandbox.run(Command("python -c 'print(6 * 7)'", {})).output
            trouble = None if said == "42\n" else f"a trial ({said.strip():.80})"
        except EngineError as error:
            trouble = f"{error}".removeprefix("sandbox: ")
        if trouble is None:
            return sandbox
        sandbox.close()
        raise EngineError(
            f"sandbox: found that the kernel refuses {trouble}; expected namespaces, without which "
            "no command of a model runs; run as root or allow user namespaces"
        )

    @property
    def statement(self) -> str:
        """What a candidate is kept from, in one line."""
        if self.steps == WHOLE:
            return "candidates have no network, no files but Python's own, no other processes"
        return "candidates have no network and start no processes; this user's FILES ARE OPEN"

    def trouble(self) -> str | None:
        """The first wall that the kernel does not put up, and its reason."""
        trial = Trial("def f(): return 1", "f", "", "def check(f): assert f() == 1")
        try:
            verdict = self.judge(trial)
        except EngineError as error:
            return f"{error}".removeprefix("sandbox: ")
        return None if verdict.passed else f"a trial ({verdict.reason})"

    def judge(self, trial: Trial) -> Verdict:
        """Run the candidate and the check, in processes that end with it."""
        return decide(self._ask(plan(self.limits, self.steps), vars(trial)))

    def run(self, command: Command, limits: Limits | None = None) -> Left:
        """Run a command, in processes that end with it, and read the folder after it.

        `limits` are its own, if they are not the sandbox's.
        """
        if not {*WALLS} <= {*self.steps}:
            raise EngineError("sandbox: found no namespaces, expected them for a command")
        told = plan(limits or self.limits, self.steps) | {"programs": True}
        return left(self._ask(told, {"command": command.line, "files": dict(command.files)}))

    def _ask(
        self, told: Mapping[str, Any], question: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._turn:
                try:
                    socket.send_fds(self._control, [b"j"], [theirs.fileno()])
                except OSError as error:
                    raise EngineError("sandbox: found that it ended, expected it to run") from error
            return self._report(ours.fileno(), told, question)

    def _report(
        self, channel: int, told: Mapping[str, Any], question: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        try:
            values.send(channel, told)
            values.send(channel, question)
        except values.Closed:
            pass  # it may have said why before it ended
        try:
            report: Mapping[str, Any] = values.receive(channel)
        except (values.Closed, values.Malformed):
            return None
        return report

    def close(self) -> None:
        """End every process and remove every file."""
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decide(report: Mapping[str, Any] | None) -> Verdict:
    """From the judge's report; None where it was ended. What does not say passed is no pass."""
    if report is None:
        return Verdict(False, "the check did not end in time", math.nan)
    if "error" in report:
        raise EngineError(f"sandbox: {report['error']}")
    passed, reason = report.get("passed") is True, f"{report.get('reason')}"
    return Verdict(passed, reason, float(report.get("seconds", math.nan)))


def left(report: Mapping[str, Any] | None) -> Left:
    """From a command's report, of which no word need be true; None where nothing was said."""
    if report is not None and "error" in report:
        raise EngineError(f"sandbox: {report['error']}")
    match report:
        case {"left": {"output": str(output), "code": int() | None as code, "files": files,
                       "left_out": list(names)}}:  # fmt: skip
            return Left(output, code, _files(files), tuple(map(str, names)))
        case {"failed": str(reason)}:
            return Left(f"the command was not carried out: {reason}")
    return Left("the command's process ended, or did not say what it left")


def _files(found: Any) -> Mapping[str, str] | None:
    if not isinstance(found, dict):
        return None
    sound = all(is_inside(path) and isinstance(text, str) for path, text in found.items())
    return found if sound else None


def is_inside(path: Any) -> bool:
    """Whether it is the path of a file below the folder, written in the shortest way."""
    parts = path.split("/") if isinstance(path, str) else [""]
    return "\0" not in str(path) and not any(part in ("", ".", "..") for part in parts)


def plan(limits: Limits, steps: tuple[str, ...]) -> dict[str, Any]:
    """What the other processes are told to put up."""
    return {
        "steps": steps,
        "namespaces": list(FLAGS),
        "seconds": limits.seconds,
        "folder_bytes": limits.folder_bytes,
        "limits": {
            "AS": limits.memory,
            "CPU": math.ceil(limits.seconds) + 1,
            "FSIZE": limits.file_bytes,
            "NPROC": limits.processes,
            "NOFILE": limits.files,
            "CORE": 0,
        },
    }


def environment() -> dict[str, str]:
    """What candidates inherit: nothing."""
    return {}


def _start(control: int, folder: str) -> subprocess.Popen[bytes]:
    """The Python that forks judges: the bare interpreter, out of reach of Ctrl-C."""
    python = getattr(sys, "_base_executable", sys.executable)
    package = Path(__file__).resolve().parents[1]
    return subprocess.Popen(
        [python, "-I", "-S", "-c", START, str(package), str(control), folder],
        env=environment(),
        pass_fds=[control],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )

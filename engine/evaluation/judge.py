"""The checking side and the candidate's side, each a process of its own, and what forks them.

Started as a small Python of its own with nothing in its environment. For each trial it forks a
judge; the judge forks the candidate's process, confines it, and only then is told the check. The
check runs in the judge: what it calls is a stand-in that sends the arguments through a pipe and
gets plain values back. So a candidate can answer as well or as badly as it likes, and nothing that
it does in its process says how that was judged. A command instead of a trial is not judged at all:
its process is asked to carry it out, and what that says is handed on. Knows the standard library
only.
"""

import gc
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from engine.evaluation import confine, values
from engine.evaluation.command import carry_out
from engine.evaluation.confine import Unconfined

STARTING = 10  # seconds that confining may take
GRACE = 1  # seconds after its time in which a judge ends, or is ended by the kernel
PRELOADED = "collections copy functools hashlib heapq itertools math random re string typing"


class Raised(Exception):
    """The candidate raised something."""


class Candidate:
    """The untrusted process, from the judge's side."""

    def __init__(self, plan: Mapping[str, Any], folder: str) -> None:
        if "namespaces" in plan["steps"]:
            confine.separate_processes(plan["become_nobody"])
        confine.hide_memory()
        questions, self._ask = os.pipe()
        self._answers, answers = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            _forever_apart(_work, questions, answers, plan, folder)
        os.close(questions)
        os.close(answers)
        self._deadline = time.monotonic() + STARTING
        self._seconds: float = plan["seconds"]
        failure = self._answer().get("unconfined")
        if failure:
            raise Unconfined(failure)

    def load(self, program: str, entry_point: str) -> None:
        """Run its text; its time starts."""
        self._deadline = time.monotonic() + self._seconds
        values.send(self._ask, {"program": program, "entry_point": entry_point})
        self._answer()

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        asked = {"args": values.encode(list(args)), "keywords": values.encode(keywords)}
        values.send(self._ask, asked)
        return values.decode(self._answer().get("value"))

    def carry_out(self, command: Mapping[str, Any]) -> Any:
        """What it says that the command left."""
        self._deadline = time.monotonic() + self._seconds + GRACE
        values.send(self._ask, command)
        return values.decode(self._answer().get("value"))

    def _answer(self) -> dict[str, Any]:
        found = values.receive(self._answers, self._deadline)
        if not isinstance(found, dict):
            raise values.Malformed("found no answer")
        if "raised" in found:
            raise Raised(f"{found['raised']!s:.200}")
        return found

    def end(self) -> int:
        """Kill it with all that it started; its exit code, or minus the signal that ended it."""
        done, status = os.waitpid(self._process, os.WNOHANG)
        if not done:
            os.kill(self._process, signal.SIGKILL)
            _, status = os.waitpid(self._process, 0)
        return os.waitstatus_to_exitcode(status)


def main() -> None:
    """Fork a judge for every channel that arrives on the descriptor given, until it closes."""
    control, base = socket.socket(fileno=int(sys.argv[2])), sys.argv[3]
    for name in PRELOADED.split():
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # judges leave nothing behind
    parent = os.getpid()
    gc.freeze()  # what is there already is not looked through again by every child
    while True:
        _, received, _, _ = socket.recv_fds(control, 1, 1)
        if not received:
            shutil.rmtree(base, ignore_errors=True)  # whoever asked has ended, if need be unasked
            return
        [channel] = received
        if os.fork() == 0:
            control.close()
            _forever_apart(_judge, channel, base, parent)
        os.close(channel)


def _forever_apart(work: Callable[..., None], *arguments: Any) -> None:
    """Run `work` in a forked child, which never returns to what its parent was doing."""
    try:
        work(*arguments)
    finally:
        os._exit(0)


def _end_after(seconds: float) -> None:
    """The kernel ends this judge then, whatever it is doing; no report is no pass."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _judge(channel: int, base: str, parent: int) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    confine.die_with_parent()
    if os.getppid() != parent:
        return
    plan = values.receive(channel)
    _end_after(STARTING + GRACE)
    folder = os.path.join(base, str(os.getpid()))
    try:
        os.mkdir(folder, 0o700)
        plan["become_nobody"] = confine.can_become(confine.NOBODY)
        plan["user"] = confine.NOBODY
        if plan.get("programs") and confine.can_become(confine.FREE + os.getpid()):
            plan["user"] = confine.FREE + os.getpid()  # whose processes nobody else counts
        if plan["become_nobody"] and "privileges" in plan["steps"]:
            os.chown(folder, plan["user"], plan["user"])
        report = _trial(channel, plan, folder)
    except (Unconfined, OSError) as error:
        report = {"error": f"{error}"}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    values.send(channel, report)


def _trial(channel: int, plan: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """Confine a process, then read the trial, so that no candidate has the check in its memory."""
    candidate = Candidate(plan, folder)
    trial = values.receive(channel)
    if "command" in trial:
        _end_after(plan["seconds"] + 2 * GRACE)
        return _carried_out(candidate, trial)
    _end_after(plan["seconds"] + GRACE)
    began = time.monotonic()
    reason = _reason(candidate, trial)
    seconds = time.monotonic() - began
    ended = candidate.end()
    if reason == "ended":
        reason = f"its process ended: {ended}"
    passed = reason == ""
    return {"passed": passed, "reason": reason, "seconds": seconds, "exit_code": ended}


def _carried_out(candidate: Candidate, command: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"left": candidate.carry_out(command)}
    except (Raised, values.Late, values.Closed, values.Malformed) as error:
        return {"failed": f"{error or type(error).__name__}"}


def _reason(candidate: Candidate, trial: Mapping[str, str]) -> str:
    """Why the candidate fails, or nothing."""
    try:
        candidate.load(trial["program"], trial["entry_point"])
        _check(trial, candidate)
    except values.Late:
        return "timed out"
    except values.Closed:
        return "ended"
    except Raised as error:
        return f"raised {error}"
    except values.Malformed as error:
        return f"answered with what is no value: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error!s:.200}".removesuffix(": ")
    return ""


def _check(trial: Mapping[str, str], candidate: Callable[..., Any]) -> None:
    """The prompt's definitions are there, as some checks use them; the candidate's are not."""
    names: dict[str, Any] = {"__name__": "__check__"}
    exec(compile(trial["prompt"], "prompt", "exec"), names)
    names[trial["entry_point"]] = candidate
    exec(compile(trial["test"], "test", "exec"), names)
    names["check"](candidate)


def _work(questions: int, answers: int, plan: Mapping[str, Any], folder: str) -> None:
    """The candidate's process; whatever is said from here on is hearsay."""
    os.chdir(folder)
    try:
        confine.confine(plan, (questions, answers), folder)
    except Unconfined as error:
        values.send(answers, {"unconfined": f"{error}"})
        return
    values.send(answers, {})
    asked = values.receive(questions)
    if "command" in asked:
        _say(answers, lambda: carry_out(asked, plan["seconds"]))
        return
    names: dict[str, Any] = {"__name__": "__candidate__"}
    _say(answers, lambda: exec(compile(asked["program"], "candidate", "exec"), names))
    function = names.get(asked["entry_point"])
    while True:
        asked = values.receive(questions)
        args, keywords = values.decode(asked["args"]), values.decode(asked["keywords"])
        _say(answers, lambda a=args, k=keywords: function(*a, **k))  # type: ignore[misc]


def _say(answers: int, work: Callable[[], Any]) -> None:
    try:
        answer = {"value": values.encode(work())}
    except BaseException as error:
        answer = {"raised": f"{type(error).__name__}: {error!s:.200}"}
    values.send(answers, answer)

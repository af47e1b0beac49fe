"""Tries to refute `tollens status --watch`: what it draws again, when, and how it ends.

The clock is the script: each sleep of the watcher changes a file or presses Ctrl-C. One run is in
a real pseudo-terminal, whose bytes are read.
"""

import errno
import gc
import os
import pty
import re
import shutil
import signal
import struct
import sys
import termios
import time
import warnings
from fcntl import ioctl
from pathlib import Path

import pytest

from falsifiers.harness_command import command, exit_code  # noqa: F401
from falsifiers.reviewed_project import Said, made
from tollens import inspection, watching
from tollens.verdicts import Kill, Verdict

CLAIM = {"rule": "r", "prediction": "p", "measures": {"error": {"le": 1}}, "kills": ["fault"]}
IDS = [f"F-WATCHED-{i:03}" for i in range(30)]
CONTRACT, EVIDENCE = "contracts/watched-v1.yaml", "evidence/watched-v1/evidence.json"
SABOTEURS, CODE = "falsifiers/saboteurs/small.py", "small/part.py"
KILLED = {"fault": Kill.KILLED}


@pytest.fixture
def project(tmp_path, monkeypatch):
    claims = {"watched-v1": {"falsifiers": [{"id": each, **CLAIM} for each in IDS]}}
    found = made(tmp_path, claims)
    found.say("watched-v1", {each: Said(values={"error": 0.5}, fates=KILLED) for each in IDS[:1]})
    monkeypatch.chdir(tmp_path)
    return found


class Script:
    """Steps that the watcher's sleeps take, one each; after the last one Ctrl-C is pressed."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.uncollected = 0

    def sleep(self, seconds):
        self.uncollected += not gc.isenabled()
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def blocks(text):
    return re.split(r"\n\n(?=\d\d:\d\d:\d\d)", text.strip("\n"))


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text, (path, old)
    Path(path).write_text(text.replace(old, new, 1))
    stat = os.stat(path)  # a second write in one tick of the clock is a change too
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


def refute(project):
    project.say("watched-v1", {IDS[1]: Said(Verdict.FALSIFIED, {"error": 2})})


def add(project, name):
    """One more contract, in a folder below that of the contracts."""
    text = Path(CONTRACT).read_text().partition("status_history")[0]
    ours = text.replace("watched-v1", f"{name}-v1").replace("WATCHED", name.upper())
    project.write(f"contracts/more/{name}-v1.yaml", ours)


def recorded_calls(monkeypatch):
    """What was digested, as (the sources of one look, contract)."""
    calls, today = [], inspection.today

    def recorded(contract, sources, marks):
        calls.append((sources, contract.id))
        return today(contract, sources, marks)

    monkeypatch.setattr(inspection, "today", recorded)
    return calls


@pytest.mark.falsifies("TOLLENS-STATUS-001")
def test_each_change_is_shown_once_and_ctrl_c_tells_the_last_state(
    project,
    command,  # noqa: F811
    observe,
    monkeypatch,
):
    steps = {
        "nothing": (lambda: None, None),
        "a test's source": (
            lambda: edit("falsifiers/test_watched.py", "run()", "run() "),
            "  OPEN",
        ),
        "back": (lambda: edit("falsifiers/test_watched.py", "run() ", "run()"), "1 of 30"),
        "an error": (lambda: edit(CONTRACT, "title:", "titel:"), "titel"),
        "mended": (lambda: edit(CONTRACT, "titel:", "title:"), "1 of 30"),
        "a saboteur": (lambda: edit(SABOTEURS, "Breaks", "Bends"), "  OPEN"),
        "a saboteur's error": (lambda: edit(SABOTEURS, "def", "de"), "small.py"),
        "the saboteur again": (lambda: edit(SABOTEURS, "de fault", "def fault"), "  OPEN"),
        "as it was": (lambda: edit(SABOTEURS, "Bends", "Breaks"), "1 of 30"),
        "altered evidence": (lambda: edit(EVIDENCE, "0.5", "0.4"), "altered"),
        "evidence again": (lambda: edit(EVIDENCE, "0.4", "0.5"), "1 of 30"),
        "no code": (lambda: Path(CODE).rename("part.away"), "small.part"),
        "the code again": (lambda: Path("part.away").rename(CODE), "1 of 30"),
        "a folder": (lambda: add(project, "one"), "2 contract(s)"),
        "one more in it": (lambda: add(project, "two"), "3 contract(s)"),
        "no folder": (lambda: shutil.rmtree("contracts/more"), "1 contract(s)"),
        "still nothing": (lambda: None, None),
        "evidence": (lambda: refute(project), "1 falsified"),
    }
    script = Script(*(step for step, _ in steps.values()))
    monkeypatch.setattr(watching.time, "sleep", script.sleep)
    digested = recorded_calls(monkeypatch)
    ran = command("status", "--watch")
    expected = ["1 of 30", *(text for _, text in steps.values() if text)]
    shown = blocks(ran.out)
    print(ran.out[-1500:], ran.err)
    pairs = zip(shown, expected, strict=False)
    wrong = sum(text not in block for block, text in pairs)
    observe("wrong_blocks", wrong + abs(len(shown) - len(expected)))
    observe("exit_code_of_the_last_state", ran.code)
    observe("sleeps_without_collector", script.uncollected)
    twice = [each for i, each in enumerate(digested) if is_among(each, digested[:i])]
    observe("digested_twice", len(twice))
    observe("wide_lines", sum(len(line) > 80 for line in ran.out.splitlines()))


def is_among(call, others):
    return any(each[0] is call[0] and each[1] == call[1] for each in others)


@pytest.mark.falsifies("TOLLENS-STATUS-002")
def test_a_terminal_is_drawn_over_and_left_as_it_was(project, observe):
    text, code = watched_in_a_terminal(lambda: refute(project), rows=12)
    inside = text[text.index("\x1b[?1049h") : text.index("\x1b[?1049l")]
    after = text[text.index("\x1b[?1049l") :]
    observe("clears", len(re.findall(r"\x1b\[[23]?J", inside.partition("\x1b[H")[2])))
    observe("says_how_much_is_below", bool(re.search(r"… and \d+ lines more", inside)))
    observe("cursor_is_back", "\x1b[?25h" in text)
    observe("last_state_stays", "1 falsified" in after)
    observe("exit_code_of_the_last_state", code)


def watched_in_a_terminal(change, rows):
    """What `status --watch` writes to a terminal, with one `change`; and its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads that are idle
        child, terminal = pty.fork()
    if child == 0:
        run_as_the_child(rows)
    text, changed = "", False
    for data in chunks(terminal):
        text += data
        if "1 of 30" in text and not changed:
            time.sleep(0.2)
            change()
            changed = True
        elif "1 falsified" in text and "\x1b[?1049l" not in text:
            os.kill(child, signal.SIGINT)
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return text, os.waitstatus_to_exitcode(status)


def chunks(terminal):
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError as error:
            if error.errno == errno.EIO:
                return
            raise
        if not data:
            return
        yield data.decode(errors="replace")


def run_as_the_child(rows):
    try:
        ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 80, 0, 0))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
        os.environ.update(TERM="xterm", COLUMNS="80", LINES=str(rows))
        sys.argv = ["tollens", "status", "--watch"]
        signal.alarm(20)
        code = exit_code()
        sys.stdout.flush()
        os._exit(code)
    finally:
        os._exit(99)

"""Tries to refute the agentic bench: what it passes, what it contains, what it counts.

Oracles: known solutions, and the same with a file put back or a change made everywhere; students
that idle, boast and cheat; commands that try to get out, seen from outside; conversations as
their server heard them; Wilson's interval by its equation.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import zip_longest
from pathlib import Path

import pytest

from engine import agent_bench, cli_agent
from engine.agent import protocol
from engine.agent.endpoint import Endpoint, Spent
from engine.agent.task import Task
from engine.agent.tasks import TASKS
from engine.errors import EngineError
from engine.evaluation.sandbox import WHOLE, Left, Limits, Sandbox
from engine.evaluation.sandbox import Command as Line
from falsifiers.agent_cases import CHEATS, COMMANDS, DONE, Late, Scripted, cheating, endless
from falsifiers.agent_solutions import BESIDES, OVERDONE, SOLUTIONS
from falsifiers.in_process import Command
from falsifiers.outside import SECRET, Outside, outside, without_namespaces
from falsifiers.ran import Ran
from falsifiers.students import Messages, Said, boast, shrug, student, turn

BY_NAME = {each.name: each for each in TASKS}
SETTLED = Limits(seconds=10)  # on a machine that is busy, a right answer is not to be late
ROOM = Limits(seconds=10, memory=256 << 20, processes=64)
HOSTILE = Limits(seconds=0.8, memory=256 << 20, processes=64)
ALLOWED = "--allow-code-execution"


@pytest.fixture(autouse=True, scope="module")
def namespaces() -> None:
    """Block where the kernel keeps namespaces from this user, by util-linux's word."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    made = ["unshare", *user, "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "true"]
    if shutil.which("unshare") and subprocess.run(made, capture_output=True).returncode:
        pytest.skip("the kernel gives this user no namespaces")


@pytest.fixture
def command(capsys, monkeypatch) -> Command:
    """`python -m engine bench-agent …`, in this process."""
    return Command(capsys, monkeypatch)


def bench(command: Command, url: str, out: Path, *more: object) -> Ran:
    return command("bench-agent", "--url", url, "--out", out, ALLOWED, *more)


def scores(out: Path) -> dict:
    return json.loads((out / "scores.json").read_text())


def task_of(messages: Messages) -> Task:
    """The task that a conversation is about."""
    [found] = [each for each in TASKS if each.goal in messages[1]["content"]]
    return found


def number(messages: Messages) -> int:
    return TASKS.index(task_of(messages))


def oracle(messages: Messages) -> str:
    """Knows every solution."""
    return SOLUTIONS[task_of(messages).name][turn(messages)]


@pytest.mark.falsifies("F-AGENT-BENCH-001")
def test_known_solutions_pass_and_halves_of_them_do_not(observe, command, tmp_path):
    with student(oracle) as known:
        ran = bench(command, known.url, tmp_path, "--workers", 4)
    found = scores(tmp_path)
    print([each for each in found["tasks"] if each["outcome"] != "solved"])
    observe("exit_code", ran.code)
    observe("max_turns", found["run"]["max_turns"])
    observe("wall_seconds", found["run"]["wall_seconds"])
    observe("solved", found["solved"])
    observe("fixtures", found["fixtures"])
    observe("student_pass_rate", found["student_pass_rate"])
    observe("kinds", sum(each == {"fixtures": 4, "solved": 4} for each in found["kinds"].values()))
    with Sandbox(ROOM) as room, Sandbox(SETTLED) as verifying, ThreadPoolExecutor(4) as pool:
        wrong = list(unfinished(room))
        verdicts = list(
            pool.map(lambda each: agent_bench.verify(each[0], each[1], verifying).passed, wrong)
        )
    print([each[2] for each, passed in zip(wrong, verdicts, strict=True) if passed])
    observe("unfinished_passed", sum(verdicts))
    observe("unfinished", len(verdicts))


def unfinished(room: Sandbox) -> Iterator[tuple[Task, dict[str, str], str]]:
    """Of solutions in several files those with one put back, or another changed besides; changes
    made everywhere.
    """
    for name in ("edit-tax", *OVERDONE):
        task = BY_NAME[name]
        whole = worked(task, "\n".join(SOLUTIONS[name]), room)
        for path in (each for each in task.files if whole[each] != task.files[each]):
            yield task, {**whole, path: task.files[path]}, f"{name} without {path}"
        for path in BESIDES.get(name, ()):
            yield task, {**whole, path: f"{whole[path]}# mine\n"}, f"{name} and {path} besides"
    for name, line in OVERDONE.items():
        files = worked(BY_NAME[name], f"```run\n{line}\n```", room)
        yield BY_NAME[name], files, f"{name} everywhere"


def worked(task: Task, reply: str, room: Sandbox) -> dict[str, str]:
    """The files after a reply."""
    files = task.files
    for action in protocol.parse(reply):
        if action.kind != "done":
            files, _ = protocol.perform(action, files, room.run)
    return dict(files)


@pytest.mark.falsifies("F-AGENT-BENCH-002")
def test_who_does_not_solve_a_task_does_not_pass_it(observe, command, tmp_path):
    sayings = {"idle": shrug, "lying": boast, "cheating": cheating(number)}
    passed: dict[str, int] = {}
    for name, say in sayings.items():
        with student(say) as seen:
            bench(command, seen.url, tmp_path / name, "--workers", 4)
        found = scores(tmp_path / name)
        passed[name] = found["solved"]
        observe("attempted", found["attempted"])
        observe("asked", len(seen.asked))
    print(passed)
    observe("solved_by_the_idle", passed["idle"])
    observe("solved_by_the_lying", passed["lying"])
    observe("solved_by_the_cheating", passed["cheating"])
    observe("cheats", len(CHEATS))


@pytest.mark.falsifies("F-AGENT-BENCH-003")
def test_what_a_student_runs_is_contained(observe, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    with (
        outside(tmp_path) as world,
        Sandbox(HOSTILE) as whole,
        Sandbox(HOSTILE, tuple(each for each in WHOLE if each != "filter")) as unfiltered,
        ThreadPoolExecutor(4) as pool,
    ):
        tries = [(whole, name) for name in COMMANDS]
        tries += [(unfiltered, name) for name in COMMANDS if name.startswith("connects")]
        ends = list(pool.map(lambda each: tried(*each, world), tries))
        signs = world.signs()
    with Sandbox(ROOM) as room:
        honest = room.run(Line("python -m unittest 2>&1; echo made > made", {"a/b": "c"}))
        later = room.run(Line("(sleep 0.3; echo late > made) & echo early > made; sleep 0.1", {}))
        time.sleep(0.4)
    told = [(name, each) for (_, name), (each, _) in zip(tries, ends, strict=True)]
    got = [name for name, each in told if breached(each)]
    print(*(f"{name}: {each.code} {each.output[-200:]!r}" for name, each in told), sep="\n")
    print("breaches:", got, signs)
    observe("breaches", len(got) + len(signs))
    observe("commands", len(ends))
    observe("overrun", max(seconds for _, seconds in ends) - HOSTILE.seconds)
    observe("honest_failed", int(honest.files != {"a/b": "c", "made": "made\n"}))
    observe("honest_failed", int(later.files != {"made": "early\n"}))


def tried(room: Sandbox, name: str, world: Outside) -> tuple[Left, float]:
    line = COMMANDS[name]
    paths = {"SECRET_PATH": "SECRET_FILE", "OUTSIDE_PATH": "OUTSIDE_FILE"}
    for short, long in paths.items():
        line = line.replace(short, str(world.names[long]))
    line = line.replace("SECRET_TEXT", SECRET.replace("-", "[-]"))
    for each in ("PORT", "ABSTRACT", "VICTIM", "DAEMON"):
        line = line.replace(each, repr(world.names[each]))
    began = time.monotonic()
    return room.run(Line(line, {"mine": "x"})), time.monotonic() - began


def breached(left: Left) -> bool:
    names = left.files or {}
    return "GOT" in left.output or SECRET in f"{names}" or "link" in names or "kept" in names


READ = "```run\ntrue\n```"
FULL = Said(status=400, code="context_length_exceeded")
PAGE = "<html>Gateway</html>"
# A student, of the known solution's replies, and what becomes of it.
CUTS = [
    (lambda known: endless, ("cut", "turns", 3)),
    (lambda known: Scripted([READ, READ, READ, *known]), ("cut", "turns", 3)),
    (lambda known: Scripted([READ, *known]), ("solved", "", 3)),
    (lambda known: Late(3), ("cut", "a turn's seconds", 0)),
    (
        lambda known: Scripted([Said(text, tokens=11) for text in known]),
        ("cut", "a turn's tokens", 1),
    ),
    (lambda known: Scripted([READ, FULL]), ("cut", "the context", 1)),
    (lambda known: shrug, ("cut", "3 replies without a block", 3)),
    (lambda known: Scripted(["```run\nsleep 5\n```", *known]), ("solved", "", 2)),
    (
        lambda known: Scripted([READ, Said(status=504, page=PAGE)]),
        ("cut", "the endpoint's own time for a request", 1),
    ),
]


@pytest.mark.falsifies("F-AGENT-BENCH-004")
def test_budgets_cut_and_what_is_cut_is_not_solved(observe, command, tmp_path):
    names = [each.name for each in TASKS[: len(CUTS)]]
    sayings = [say(SOLUTIONS[name]) for name, (say, _) in zip(names, CUTS, strict=True)]
    flags = ("--max-turns", 3, "--turn-seconds", 1.5, "--turn-tokens", 10, "--command-seconds", 0.8)
    began = time.monotonic()
    with student(lambda messages: sayings[number(messages)](messages)) as seen:
        bench(command, seen.url, tmp_path, "--fixtures", len(CUTS), "--workers", 4, *flags)
    found = [(row["outcome"], row["reason"], row["turns"]) for row in scores(tmp_path)["tasks"]]
    ends = [each for _, each in CUTS]  # a run that failed has fewer rows
    wrong = [a for a, b in zip_longest(found, ends) if a != b]
    wrong += [each for each in seen.asked if each["max_tokens"] != 10]
    few = ("--fixtures", 3, "--max-turns", 8)
    with student(Late(0.2, "```run\ntrue\n```")) as seen:
        bench(command, seen.url, tmp_path / "wall", "--wall-seconds", 1, *few)
    seconds = time.monotonic() - began
    found = scores(tmp_path / "wall")
    print(wrong, found["outcomes"], seconds)
    observe("wrong", len(wrong) + (found["outcomes"] != {"cut: the run's seconds": 3}))
    observe("rate_of_the_cut", found["student_pass_rate"])
    observe("cases", len(CUTS) + 1)
    observe("seconds", seconds)


def mixed(messages: Messages) -> str:
    """Solves the first task of five, is wrong about the second and third, and idles then."""
    return (oracle, boast, boast, shrug, endless)[number(messages)](messages)


@pytest.mark.falsifies("F-AGENT-BENCH-005")
def test_scores_are_of_all_tasks_and_transcripts_are_what_was_said(observe, command, tmp_path):
    with student(mixed) as seen:
        ran = bench(command, seen.url, tmp_path, "--fixtures", 5, "--max-turns", 4, "--json", "-")
    found = scores(tmp_path)
    observe("json_differs", int(json.loads(ran.out) != found))
    rate, (low, high) = found["student_pass_rate"], found["interval_95"]
    ends = [abs((0.2 - p) ** 2 - 1.959963984540054**2 * p * (1 - p) / 5) for p in (low, high)]
    observe("rate_off_by", abs(rate - 0.2))
    observe("interval_error", max(*ends, low - rate, rate - high))
    rows = [(row["outcome"], row["turns"]) for row in found["tasks"]]
    expected = [("solved", 3), ("wrong", 1), ("wrong", 1), ("cut", 3), ("cut", 4)]
    observe("wrong_rows", sum(a != b for a, b in zip_longest(rows, expected)))
    observe("untold", sum(untold(tmp_path, row, seen.last) for row in found["tasks"]))
    observe("transcripts", len(list((tmp_path / "transcripts").glob("*.json"))))


def untold(out: Path, row: dict, heard) -> int:
    """Whether a transcript lacks something that the student's server heard, or its last reply."""
    path = out / row["transcript"]
    if not path.exists():
        return 1
    messages = json.loads(path.read_text())["messages"]
    expected = heard(BY_NAME[row["task"]].goal)
    replies = [each for each in messages if each["role"] == "assistant"]
    return int(messages[: len(expected)] != expected or len(replies) != row["turns"])


class Pressed:
    """Knows every solution; when it is asked for the n-th time, somebody presses Ctrl-C."""

    def __init__(self, at: int) -> None:
        self.left, self.goals = at, []

    def __call__(self, messages: Messages) -> Said | str:
        self.left -= 1
        self.goals.append(task_of(messages).name)
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
            return Said(DONE, after=3)
        return oracle(messages)


@pytest.mark.falsifies("F-AGENT-BENCH-006")
def test_an_interrupted_run_goes_on_where_it_was(observe, command, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    codes, began = [], time.monotonic()
    with student(oracle) as seen:
        codes.append(bench(command, seen.url, whole, "--fixtures", 3).code)
    with interruptible(), student(pressed := Pressed(5)) as seen:
        codes.append(bench(command, seen.url, cut, "--fixtures", 3).code)
    half = scores(cut)
    observe("rates_of_a_part", int(half["student_pass_rate"] is not None or half["complete"]))
    kept = {row["task"] for row in half["tasks"]}
    with student(resumed := Pressed(99)) as seen:
        codes.append(bench(command, seen.url, cut, "--fixtures", 3).code)
        codes.append(bench(command, seen.url, cut, "--fixtures", 3, "--max-turns", 7).code)
    expected = [0, 130, 0, 2]
    print(codes, kept, pressed.goals, resumed.goals)
    observe("wrong_exit_codes", sum(a != b for a, b in zip(codes, expected, strict=True)))
    observe("kept", len(kept))
    observe("attempted_again", len(kept & set(resumed.goals)))
    observe("differing_rows", differing(scores(whole)["tasks"], scores(cut)["tasks"]))
    observe("seconds", time.monotonic() - began)


@contextmanager
def interruptible() -> Iterator[None]:
    """Python's own handler of Ctrl-C, whoever put another there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def differing(some: list[dict], others: list[dict]) -> int:
    timeless = [[{**row, "seconds": 0} for row in rows] for rows in (some, others)]
    return sum(a != b for a, b in zip_longest(*timeless))


@pytest.mark.falsifies("F-AGENT-BENCH-007")
def test_nothing_runs_that_was_not_allowed_and_refusals_name_what_to_mend(
    observe, command, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    (tmp_path / "torn/transcripts").mkdir(parents=True)
    (tmp_path / f"torn/transcripts/{TASKS[0].name}.json").write_text('{"run": {}, "task')
    (tmp_path / "odd/transcripts").mkdir(parents=True)
    odd = {"run": [], **asdict(agent_bench.Record(TASKS[0].name, "solved", "", 1, 1, 1.0, 1.0))}
    (tmp_path / f"odd/transcripts/{TASKS[0].name}.json").write_text(json.dumps(odd))
    broken = {
        "500": Scripted([Said(status=500, code="broken")]),
        "401": Scripted([Said(status=401, code="invalid_api_key")]),
        "502": Scripted([Said(status=502, page=PAGE)]),
    }
    ends = []
    with student(oracle) as seen:
        given = ("bench-agent", "--url", seen.url, "--out", tmp_path / "out")
        cases = [
            (given, "--allow-code-execution"),
            ((*given, ALLOWED, "--fixtures", 0), "--fixtures"),
            ((*given, ALLOWED, "--fixtures", 21), "1 to 20"),
            ((*given, ALLOWED, "--max-turns", 0), "max_turns"),
            ((*given, ALLOWED, "--wall-seconds", -1), "wall_seconds"),
            ((*given, ALLOWED, "--turn-seconds", "nan"), "turn_seconds"),
            ((*given[:3], "--out", tmp_path / "file", ALLOWED), "file"),
            ((*given[:3], "--out", tmp_path / "torn", ALLOWED), TASKS[0].name),
            ((*given[:3], "--out", tmp_path / "odd", ALLOWED), "found no run"),
            ((*given, ALLOWED, "--api-key", "two\nlines"), "the key"),
        ]
        urls = {
            "localhost": "http://HOST",
            "http://h:abc": "http://HOST",
            "http://[::1": "http://HOST",
            "http://a..b": "http://HOST",
            "http://127.0.0.1:1/ü": "http://HOST",
            "http://127.0.0.1:1": "127.0.0.1:1",
        }
        cases += [
            (("bench-agent", "--url", url, "--out", tmp_path / "o", ALLOWED), said)
            for url, said in urls.items()
        ]
        ends += [(command(*arguments), said) for arguments, said in cases]
        with without_namespaces():
            ends.append((command(*given, ALLOWED), "namespaces"))
        observe("asked", len(seen.asked))
    monkeypatch.setattr(cli_agent, "PATIENCE", 0.3)
    with student(oracle, loading=True) as seen, socket.create_server(("127.0.0.1", 0)) as mute:
        for url in (seen.url, f"http://127.0.0.1:{mute.getsockname()[1]}"):
            ends.append((bench(command, url, tmp_path / "o"), "0.3 s"))
    for status, say in broken.items():
        with student(say) as seen:
            ran = bench(command, seen.url, tmp_path / status, "--fixtures", 2)
            ends.append((ran, f"status {status}"))
            observe("scores_of_nothing", scores(tmp_path / status)["attempted"])
    told = [(ran.code, ran.err.splitlines()[-1:], said) for ran, said in ends]
    print(*told, sep="\n")
    observe("accepted", sum(code != 2 for code, *_ in told))
    observe("unclear", sum(not line or said not in line[0] for _, line, said in told))
    observe("refusals", len(told))


# The folder, a reply, and the folder after it; None where it is to be as before.
FILES = {"a.py": "x = 1\ny = 1\n", "d/e.txt": "e\n"}
EDIT = "```replace a.py\n<<<<<<<\n{}=======\n{}>>>>>>>\n```"
REPLIES = [
    ("```write a.py\nz = 3\n```", {**FILES, "a.py": "z = 3\n"}),
    ("Some words.\n```write b/c.py\n```\nMore.", {**FILES, "b/c.py": ""}),
    ("````write r.md\n```\ncode\n```\n````", {**FILES, "r.md": "```\ncode\n```\n"}),
    ("```write a.py\r\nz = 3\r\n```\r\n", {**FILES, "a.py": "z = 3\n"}),
    ("```python\nprint()\n```\n```write q\n1\n```", {**FILES, "q": "1\n"}),
    ("```write q\n1\n```\n```write q\n2\n```", {**FILES, "q": "2\n"}),
    (EDIT.format("x = 1\n", "x = 2\n"), {**FILES, "a.py": "x = 2\ny = 1\n"}),
    (EDIT.format("x = 1\n", ""), {**FILES, "a.py": "y = 1\n"}),
    (
        "```write a.py\n# ====\nx = 1\n```\n" + EDIT.format("# ====\nx = 1\n", "x = 2\n"),
        {**FILES, "a.py": "x = 2\n"},
    ),
    (EDIT.format("x = 1\n", "x = '>>>>'\n"), {**FILES, "a.py": "x = '>>>>'\ny = 1\n"}),
    (EDIT.format(" = 1\n", " = 2\n"), None),
    (EDIT.format("z = 1\n", "z = 2\n"), None),
    (EDIT.format("", "z = 2\n"), None),
    ("```replace a.py\nx = 2\n```", None),
    ("```replace none.py\n<<<<<<<\na\n=======\nb\n>>>>>>>\n```", None),
    ("```write ../a.py\nz\n```", None),
    ("```write /etc/passwd\nz\n```", None),
    ("```write d/../a.py\nz\n```", None),
    ("```write d\nz\n```", None),
    ("```write a.py/b\nz\n```", None),
    ("```write\nz\n```", None),
    ("```write a.py\nz = 3\n", None),
    ("```erase a.py\n```", None),
    ("I would write a.py.", None),
]


@pytest.mark.falsifies("F-AGENT-BENCH-008")
def test_a_reply_is_carried_out_as_it_says_or_refused(observe, monkeypatch):
    wrong = []
    for reply, expected in REPLIES:
        files, said = dict(FILES), []
        for action in protocol.parse(reply):
            files, told = protocol.perform(action, files, lambda line: Left(""))
            said.append(told)
        wrong += [] if files == (expected or FILES) else [(reply, files, said)]
    shown = protocol.perform(protocol.Action("read", "l", ""), {"l": "a" * 9000 + "z"}, None)[1]
    print(*wrong, sep="\n")
    observe("wrong", len(wrong))
    observe("replies", len(REPLIES))
    observe("characters_shown", len(shown) if shown.endswith("z") else 0)
    observe("dripped_for", dripped(0.5))
    connect = HTTPConnection.connect
    monkeypatch.setattr(HTTPConnection, "connect", lambda self: (time.sleep(0.8), connect(self)))
    observe("late_after_connecting", dripped(1.0) - 1.0)


def dripped(seconds: float) -> float:
    """Seconds until one gives up on an answer whose bytes come one by one."""

    class Drip(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 (http.server's name)
            try:
                for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n":
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            except ConnectionError:
                pass

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Drip) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        began = time.monotonic()
        try:
            Endpoint(f"http://127.0.0.1:{server.server_address[1]}").chat([], seconds)
        except Spent:
            return time.monotonic() - began
        except EngineError:
            return 99.0
        finally:
            server.shutdown()
    return 99.0

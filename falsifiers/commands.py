"""The engine's command line, run in this process so that planted faults and gates reach it.

Signals go to this process and to its main thread; a handler of our own is there before the
command's, so that one which the command lets through is counted and kills nobody.
"""

import io
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from falsifiers.in_process import exit_code
from falsifiers.parrot import Gate
from falsifiers.serving import get, until

KEY = "open-sesame"
PATIENCE = 5.0  # seconds that a command may take before it is told to end


@dataclass
class Seen:
    """What a client saw of a server's end."""

    ended: bool = False  # its answer, by [DONE]
    told: bool = False  # by the last event, that the server ends
    refused: bool = False  # a new connection, after the signal
    keyless_status: int = 0  # of a request without the key


@dataclass
class Run:
    """How a command ended."""

    code: int = 0
    out: str = ""
    told: bool = False  # to end, as it did not by itself
    signals: list[int] = field(default_factory=list)
    seen: Seen = field(default_factory=Seen)


class Output(io.StringIO):
    """Standard output; each complete line can be awaited."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: queue.Queue[str] = queue.Queue()

    def write(self, text: str) -> int:
        if text.strip():
            self.lines.put(text.strip())
        return super().write(text)


def run(monkeypatch, *arguments: str, output: Output | None = None) -> Run:
    """`python -m engine …`, told to end if it does not by itself."""
    output, ended = output or Output(), Run()
    watchdog = threading.Timer(PATIENCE, tell, (ended,))
    with monkeypatch.context() as patch, surviving() as ended.signals:
        patch.setattr(sys, "argv", ["engine", *arguments])
        patch.setattr(sys, "stdout", output)
        watchdog.start()
        try:
            ended.code = exit_code()
        except KeyboardInterrupt:
            ended.code = -signal.SIGINT
        finally:
            watchdog.cancel()
    ended.out = output.getvalue()
    return ended


def tell(ended: Run) -> None:
    """A command that goes on for so long is told to end."""
    ended.told = True
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def surviving() -> Iterator[list[int]]:
    """Survive the signals that end a process, and tell which came."""
    came: list[int] = []
    before = {
        each: signal.signal(each, lambda number, _: came.append(number))
        for each in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield came
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def gated(forward: Callable, gate: Gate) -> Callable:
    """A model's forward pass that waits at `gate`."""

    def held(self, ids, *args, **kwargs):
        gate.step(())
        return forward(self, ids, *args, **kwargs)

    return held


def interrupted(forward: Callable, after: int) -> Callable:
    """A forward pass during which, after so many, somebody presses Ctrl-C."""
    done = [0]

    def broken(self, *args, **kwargs):
        done[0] += 1
        if done[0] > after:
            raise KeyboardInterrupt
        return forward(self, *args, **kwargs)

    return broken


def served_until_told(monkeypatch, path: Path, gate: Gate, drain: int) -> Run:
    """`serve` that gets SIGTERM while the gate holds an answer up; without drain it stays held."""
    output, seen = Output(), Seen()
    monkeypatch.setenv("ENGINE_API_KEY", KEY)
    arguments = ("serve", str(path), "--name", "m", "--port", "0", "--drain", str(drain))
    with ThreadPoolExecutor(1) as pool:
        client = pool.submit(ask_and_stop, output, gate, seen, drain > 0)
        ended = run(monkeypatch, *arguments, output=output)
        gate.opened.set()
        client.result()
    ended.seen = seen
    return ended


def ask_and_stop(output: Output, gate: Gate, seen: Seen, release: bool) -> None:
    """The client's part: a streamed answer, and the signal in the middle of it."""
    url = output.lines.get(timeout=PATIENCE)
    until(lambda: get(f"{url}/health").status_code == 200)
    seen.keyless_status = get(f"{url}/v1/models").status_code
    ask = {"model": "m", "prompt": "abc", "max_tokens": 4, "stream": True, "temperature": 0}
    sent = {"json": ask, "headers": {"authorization": f"Bearer {KEY}"}, "timeout": PATIENCE}
    sent |= {"verify": False}
    try:
        with httpx.stream("POST", f"{url}/v1/completions", **sent) as answer:
            gate.is_reached()
            os.kill(os.getpid(), signal.SIGTERM)
            seen.refused = until(lambda: not connects(url), 2)
            if release:
                time.sleep(0.3)  # in which a server that does not wait would have cut the answer
                gate.opened.set()
            last = [line for line in answer.iter_lines() if line][-1]
            seen.ended, seen.told = last == "data: [DONE]", "shutting_down" in last
    except httpx.HTTPError:
        seen.ended = seen.told = False


def connects(url: str) -> bool:
    place = urlsplit(url)
    try:
        socket.create_connection((place.hostname, place.port), timeout=1).close()
    except OSError:
        return False
    return True


def exit_code_of_a_process(path: Path) -> int:
    """Of `python -m engine serve` that gets SIGTERM when it is ready."""
    command = [sys.executable, "-m", "engine", "serve", str(path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        until(lambda: get(f"{url}/health").status_code == 200, 30)
        process.terminate()
        return process.wait(30)

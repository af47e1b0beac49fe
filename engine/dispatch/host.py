"""A host by the user's own OpenSSH, or this machine: asked questions, which `engine.far` answers.

Knows ssh's options and exit codes; knows nothing of what is asked. The far side is sent as source
with each question, so a host needs a Python and nothing of this project.
"""

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from engine.errors import EngineError
from engine.far.frames import MARK

FAR = ("", "frames", "files", "job", "probe", "project", "watch", "answer")
LOADER = (
    "import sys,json,types;"
    "[exec(compile(text,name,'exec'),sys.modules.setdefault(name,types.ModuleType(name)).__dict__)"
    "for name,text in json.loads(sys.stdin.buffer.read(int(sys.argv[1])))];"
    "sys.modules['engine.far.answer'].main()"
)


class Cut(EngineError):
    """The connection could not be made, or ended before the answer."""


@dataclass(frozen=True)
class Host:
    """Where to ask. `name` is as ssh knows it, empty for this machine; `options` are ssh's."""

    name: str = ""
    python: str = "python3"
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name or "this machine"

    def ask(self, action: str, *, data: Iterable[bytes] = (), **question: Any) -> Any:
        """The answer to one question; `Cut` where there is none, `EngineError` where it is no."""
        with self.talk(action, data=data, **question) as talk:
            list(talk.frames())  # up to the answer
        return talk.answer

    @contextmanager
    def talk(self, action: str, *, data: Iterable[bytes] = (), **question: Any) -> Iterator["Talk"]:
        """A question whose answer comes in parts; the process has ended when the body has."""
        far = _far_side()
        command = self._command(len(far))
        with tempfile.TemporaryFile() as errors:  # no pipe, as a kept connection would hold it open
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
                )
            except OSError as error:
                raise EngineError(
                    f"{command[0]}: found {error.strerror}, expected it to be installed"
                ) from error
            with process:
                try:
                    _send(
                        process, [far, json.dumps({"action": action, **question}).encode() + b"\n"]
                    )
                    _send(process, data)
                    yield Talk(self, process, errors)
                finally:
                    process.kill()
                    with suppress(BrokenPipeError):
                        _stdin(process).close()

    def _command(self, size: int) -> list[str]:
        if not self.name:
            return [sys.executable, "-c", LOADER, str(size)]
        far = f"exec {_tilde(self.python)} -c {shlex.quote(LOADER)} {size}"
        return ["ssh", "-T", *self.options, self.name, "--", f"exec sh -c {shlex.quote(far)}"]


@dataclass
class Talk:
    """What comes back: frames of JSON, raw bytes, and at last the answer."""

    host: Host
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    answer: Any = field(default=None)

    @property
    def stream(self) -> IO[bytes]:
        return cast(IO[bytes], self.process.stdout)

    def frames(self) -> Iterator[dict[str, Any]]:
        """Each frame up to the answer, which is kept."""
        for line in self.stream:
            if not line.startswith(MARK):
                continue  # of a login shell
            if not is_whole(line):
                break
            frame = json.loads(line[1:])
            if "error" in frame:
                raise EngineError(f"{self.host}: {frame['error']}")
            if "answer" in frame:
                self.answer = frame["answer"]
                return
            yield frame
        raise self._unanswered()

    def read(self, size: int) -> bytes:
        """That many raw bytes."""
        data = self.stream.read(size)
        if len(data) < size:
            raise self._unanswered()
        return data

    def _unanswered(self) -> EngineError:
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode("utf-8", "replace").strip().splitlines() or ["silence"]
        if self.host.name and code in (126, 127):
            return EngineError(
                f"{self.host}: found no {self.host.python} ({said[-1]}), expected Python 3.11 or "
                "later: install it, or name another, --base-python or --remote-python"
            )
        if self.host.name and (code == 255 or code < 0):
            return Cut(
                f"{self.host}: found no connection ({said[-1]}), expected one without a password: "
                f"try `ssh {self.host.name} true`"
            )
        return EngineError(f"{self.host}: found {said[-1]} (exit code {code}), expected an answer")


def is_whole(line: bytes) -> bool:
    """Whether a line came to its end; where a connection is cut, the last one did not."""
    return line.endswith(b"\n")


def _send(process: subprocess.Popen[bytes], data: Iterable[bytes]) -> None:
    with suppress(BrokenPipeError):  # why it does not listen, it says when it is read
        for piece in data:
            _stdin(process).write(piece)
        _stdin(process).flush()


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    return cast(IO[bytes], process.stdin)


def _far_side() -> bytes:
    """The source of `engine.far`, as `LOADER` reads it."""
    folder = Path(__file__).parents[1] / "far"
    stubs = [["engine", ""]]
    texts = [
        [f"engine.far.{name}".rstrip("."), source(folder / f"{name or '__init__'}.py")]
        for name in FAR
    ]
    return json.dumps(stubs + texts).encode()


def source(path: Path) -> str:
    """The text of a module that is sent."""
    return path.read_text("utf-8")


def _tilde(path: str) -> str:
    """Quoted for a shell, but for a home at its beginning."""
    home = path.startswith("~/")
    return f'"$HOME"/{shlex.quote(path[2:])}' if home else shlex.quote(path)

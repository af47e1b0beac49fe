"""Another process that answers in lines of JSON, for what must not share this one.

Knows pipes; knows nothing of what is asked. It is out of reach of Ctrl-C, which is this process's
to handle, and ends with it.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import Any

from engine.errors import EngineError


class Child:
    """A Python process by its arguments; `name` is for errors."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._said = TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,
        )

    def ask(self, request: Any) -> Any:
        """The answer; `EngineError` with its last words where it has ended."""
        stdin, stdout = self._process.stdin, self._process.stdout
        line = ""
        if stdin is not None and stdout is not None:
            try:
                stdin.write(json.dumps(request) + "\n")
                stdin.flush()
                line = stdout.readline()
            except BrokenPipeError:
                pass  # said below
        if not line:
            raise EngineError(
                f"{self.name}: found that it ended ({self._last_words()}), expected an answer"
            )
        return json.loads(line)

    def _last_words(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{lines[-1]:.200}" if lines else f"exit code {code}"

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                _close(stream)


def _close(stream: Any) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        pass  # what it was not told does not matter now

"""Chromium without a window, driven over its DevTools pipe; one process for all tests of a session.

Speaks the Chrome DevTools Protocol: JSON objects that end with a NUL byte, on descriptors 3 and 4.
The browser does not depend on what is tried, so that it is not started again under a fault.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)


class Browser:
    """One page in one browser; `messages` are what its console and its log said."""

    def __init__(self, command: str) -> None:
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        reading, self._to = os.pipe()
        self._from, writing = os.pipe()
        duplicates = [(os.POSIX_SPAWN_DUP2, high, low) for high, low in _high(reading, writing)]
        silent = os.open(os.devnull, os.O_RDWR)
        duplicates += [(os.POSIX_SPAWN_DUP2, silent, each) for each in (0, 1, 2)]
        arguments = [command, *OPTIONS, f"--user-data-dir={self.profile}", "about:blank"]
        self._pid = os.posix_spawn(command, arguments, os.environ, file_actions=duplicates)
        self._numbers, self._rest = itertools.count(1), b""
        self.messages: list[str] = []
        self._session: dict[str, str] = {}
        pages = self.call("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in pages if each["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one method of the protocol."""
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        while True:
            said = self._next()
            self._note(said)
            if said.get("id") == number:
                assert "error" not in said, (method, said["error"])
                return said["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has ended"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, said: dict[str, Any]) -> None:
        if said.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(said["params"]))
        if said.get("method") == "Log.entryAdded":
            self.messages.append(said["params"]["entry"]["text"])

    def open(self, path: Path, width: int, dark: bool = False, media: str = "screen") -> None:
        """Load a file at a width of the window, in light or in dark, on screen or for print."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.call("Page.setBypassCSP", enabled=False)
        self.messages = []
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + 30
        while self.run("document.readyState + location.href") != f"complete{path.as_uri()}":
            assert time.monotonic() < end, f"{path} is not loaded"

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        said = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def press(self, key: str) -> None:
        code = {"Enter": 13, "Tab": 9}[key]
        text = "\r" if key == "Enter" else ""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def close(self) -> None:
        os.kill(self._pid, signal.SIGTERM)
        os.waitpid(self._pid, 0)
        shutil.rmtree(self.profile, ignore_errors=True)


def _high(reading: int, writing: int) -> list[tuple[int, int]]:
    """The browser's ends, moved out of the way of 3 and 4, which they are to become."""
    high = [os.dup(os.dup(os.dup(end))) if end < 8 else end for end in (reading, writing)]
    return list(zip(high, (3, 4), strict=True))


@functools.cache
def browser() -> Browser:
    """The session's browser, started on first use."""
    found = Browser(shutil.which("chromium") or "chromium")
    atexit.register(found.close)
    return found
